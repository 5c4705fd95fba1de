#include "output/checkpoint_writer.h"

#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "core/background_jobs.h"
#include "core/thread_pool.h"
#include "formats/file_room.h"
#include "formats/json_writer.h"
#include "output/output_folder.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <set>
#include <thread>

namespace gnv {

// --- Layout ---------------------------------------------------------------------------------------------------------------

uint64_t OutputLayout::tensor_bytes() const {
    uint64_t sum = 0;
    for (const OutputTensor & tensor : tensors) sum += tensor.bytes;
    return sum;
}

uint64_t OutputLayout::file_bytes() const {
    uint64_t sum = 0;
    for (const OutputShard & shard : shards) sum += shard.file_bytes;
    return sum;
}

uint64_t OutputLayout::last_file_bytes() const {
    int32_t latest = 0;
    uint64_t bytes = 0;
    for (const OutputTensor & tensor : tensors) {
        if (tensor.turn == OutputTensor::last_turn || tensor.turn < latest) continue;
        latest = tensor.turn;
        bytes = shards[tensor.shard].file_bytes;
    }
    return bytes;
}

static std::string shard_file_name(size_t number, size_t count) {
    if (count == 1) return "model.safetensors";
    char name[64];
    snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number + 1, count);
    return name;
}

static int32_t element_bits(const OutputTensor & tensor) { return dtype_traits(tensor.dtype).bits; }

// Gives the tensors of a shard their order.
static void sort_tensors(const OutputLayout & layout, OutputShard & shard) {
    const auto sort = [&](bool by_turn) {
        std::stable_sort(shard.tensors.begin(), shard.tensors.end(), [&](uint32_t a, uint32_t b) {
            const OutputTensor &first = layout.tensors[a], &second = layout.tensors[b];
            if (by_turn && first.turn != second.turn) return first.turn < second.turn;
            return element_bits(first) > element_bits(second);
        });
    };
    const std::vector<uint32_t> given = shard.tensors;
    sort(true);
    uint64_t offset = 0;
    for (const uint32_t i : shard.tensors) {
        const OutputTensor & tensor = layout.tensors[i];
        if (offset * 8 % uint64_t(element_bits(tensor)) != 0) {
            shard.tensors = given;
            return sort(false);
        }
        offset += tensor.bytes;
    }
}

namespace {

// How much a shard may hold. The hash of a file follows its bytes, but at a quarter of the rate at which a run with a device
// writes them: after the last byte, a shard of full size would keep the run waiting. So those that are finished last are
// smaller, each about a quarter of what is left: while the next ones are written, its hash catches up.
class ShardSizes {
  public:
    ShardSizes(const std::vector<OutputTensor> & tensors, uint64_t most) : most_(most) {
        for (const OutputTensor & tensor : tensors) {
            bytes_[tensor.turn] += tensor.bytes;
            left_[tensor.turn] += tensor.bytes;
            all_ += tensor.bytes;
        }
    }
    // Of a shard that begins with this tensor.
    uint64_t limit(const OutputTensor & first) const {
        if (all_ <= most_) return most_; // one file
        uint64_t left = left_.at(first.turn);
        for (auto turn = bytes_.upper_bound(first.turn); turn != bytes_.end(); ++turn) left += turn->second;
        return std::min(most_, most_ / 32 + left / 4);
    }
    void take(const OutputTensor & tensor) { left_[tensor.turn] -= tensor.bytes; }

  private:
    const uint64_t most_;
    uint64_t all_ = 0;
    std::map<int32_t, uint64_t> bytes_, left_; // by turn: of all tensors, and of those that are in no shard yet
};

} // namespace

OutputLayout lay_out(std::vector<OutputTensor> tensors, uint64_t shard_bytes) {
    OutputLayout layout;
    layout.tensors = std::move(tensors);
    ShardSizes sizes(layout.tensors, shard_bytes);
    uint64_t filled = 0, limit = 0;
    for (uint32_t i = 0; i < layout.tensors.size(); i++) {
        OutputTensor & tensor = layout.tensors[i];
        if (layout.shards.empty() || (filled > 0 && filled + tensor.bytes > limit)) {
            layout.shards.emplace_back();
            filled = 0;
            limit = sizes.limit(tensor);
        }
        filled += tensor.bytes;
        sizes.take(tensor);
        tensor.shard = uint32_t(layout.shards.size() - 1);
        layout.shards.back().tensors.push_back(i);
    }
    for (size_t s = 0; s < layout.shards.size(); s++) {
        OutputShard & shard = layout.shards[s];
        shard.file_name = shard_file_name(s, layout.shards.size());
        sort_tensors(layout, shard);
        uint64_t offset = 0;
        for (const uint32_t i : shard.tensors) {
            layout.tensors[i].offset = offset;
            offset += layout.tensors[i].bytes;
        }
        shard.data_begin = shard_header(layout, s).size(); // offsets in the header are relative to the data
        shard.file_bytes = shard.data_begin + offset;
        for (const uint32_t i : shard.tensors) layout.tensors[i].offset += shard.data_begin;
    }
    return layout;
}

std::string shard_header(const OutputLayout & layout, size_t shard_number) {
    const OutputShard & shard = layout.shards[shard_number];
    std::vector<HeaderTensor> tensors;
    tensors.reserve(shard.tensors.size());
    for (const uint32_t i : shard.tensors) {
        const OutputTensor & tensor = layout.tensors[i];
        const uint64_t begin = tensor.offset - shard.data_begin;
        tensors.push_back({tensor.name, tensor.dtype, tensor.shape, begin, begin + tensor.bytes});
    }
    return make_header(tensors, {{"format", "pt"}});
}

std::string index_text(const OutputLayout & layout) {
    if (layout.shards.size() == 1) return {};
    uint64_t elements = 0;
    std::vector<const OutputTensor *> by_name;
    by_name.reserve(layout.tensors.size());
    for (const OutputTensor & tensor : layout.tensors) {
        elements += tensor.bytes * 8 / uint64_t(dtype_traits(tensor.dtype).bits);
        by_name.push_back(&tensor);
    }
    std::sort(by_name.begin(), by_name.end(), [](const auto * a, const auto * b) { return a->name < b->name; });
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().key("metadata").begin_object();
    json.member("total_parameters", elements).member("total_size", layout.tensor_bytes()).end_object();
    json.key("weight_map").begin_object();
    for (const OutputTensor * const tensor : by_name) json.member(tensor->name, layout.shards[tensor->shard].file_name);
    json.end_object().end_object();
    return json.take() + "\n";
}

// --- Writer -----------------------------------------------------------------------------------------------------------------

static constexpr size_t most_room_threads = 8;
static constexpr uint64_t worth_a_mapping = 1 << 20; // one stops the other mappings of the process for a moment
static constexpr uint64_t room_step = 64 << 20;      // a write waits for the one at work

struct CheckpointWriter::State {
    const OutputLayout & layout;
    std::unique_ptr<OutputFolder> folder;
    std::vector<File> shards;
    // By shard. The system lets one thread at a time write to a file; others would spin for their turn, and take processors
    // from threads that read and hash.
    std::vector<std::mutex> writing;
    bool in_memory = false; // where mappings let all of them write
    std::optional<File> state_file;
    std::vector<bool> done; // by tensor: on disk before this run began

    // The committer: takes the finished tensors, syncs the shards, then records the tensors in the journal.
    std::mutex mutex, journal_mutex;
    std::condition_variable changed;
    std::vector<uint32_t> waiting; // finished, not yet in the journal
    std::vector<bool> known;       // by tensor: waiting, or in the journal
    bool committing = false, stopping = false;
    size_t committed = 0;
    Status failure;
    std::thread committer;
    std::string index;              // made by the committer
    std::atomic<bool> ends = false; // no more room is needed
    std::unique_ptr<BackgroundJobs> room;
    std::unique_ptr<RunningHashes> running; // ends before the shards; null: no hashes are asked for
    KnownHashes hashes;

    explicit State(const OutputLayout & output)
        : layout(output), writing(output.shards.size()), done(output.tensors.size(), false),
          known(output.tensors.size(), false) {}

    Status commit(const std::vector<uint32_t> & batch) {
        std::vector<bool> touched(shards.size(), false);
        std::string lines;
        for (const uint32_t tensor : batch) {
            touched[layout.tensors[tensor].shard] = true;
            lines += concat("done ", tensor, "\n");
        }
        for (size_t s = 0; s < shards.size(); s++)
            if (touched[s]) GNV_TRY(shards[s].sync());
        const std::lock_guard<std::mutex> lock(journal_mutex);
        return folder->append_journal(lines);
    }

    void run_committer() {
        // The text of the index takes a tenth of a second at 100,000 tensors; here no step waits for it.
        Status made = guard_exceptions([&] {
            index = index_text(layout);
            return Status();
        });
        std::unique_lock<std::mutex> lock(mutex);
        if (!made.ok() && failure.ok()) failure = std::move(made);
        for (;;) {
            changed.wait(lock, [&] { return stopping || !waiting.empty(); });
            if (waiting.empty()) return; // stopping
            std::vector<uint32_t> batch;
            batch.swap(waiting);
            committing = true;
            lock.unlock();
            Status status = guard_exceptions([&] { return commit(batch); });
            lock.lock();
            committing = false;
            committed += batch.size();
            if (!status.ok() && failure.ok()) failure = std::move(status);
            changed.notify_all();
        }
    }

    // A copy of the first failure in the background. Call with the mutex held.
    Status background_failure() const { return copy_of(failure); }

    void stop_committer() {
        if (!committer.joinable()) return;
        {
            const std::lock_guard<std::mutex> lock(mutex);
            stopping = true;
        }
        changed.notify_all();
        committer.join();
    }
};

CheckpointWriter::CheckpointWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}

CheckpointWriter::~CheckpointWriter() {
    state_->ends = true;
    state_->stop_committer();
}

const std::string & CheckpointWriter::partial_folder() const { return state_->folder->path(); }

const std::vector<std::string> & CheckpointWriter::notes() const { return state_->folder->notes(); }

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::create(const OutputLayout & layout,
                                                                   const Options & options) {
    std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(std::make_unique<State>(layout)));
    State & state = *writer->state_;
    const std::string records =
        concat("plan ", options.plan_fingerprint, "\nsource ", options.source_fingerprint, "\n");
    GNV_ASSIGN(state.folder, OutputFolder::create(options.destination, records));
    state.folder->set_temporary(state_file_name);
    if (writer->is_complete()) {
        GNV_TRY(state.folder->keep_all());
        return writer;
    }
    GNV_TRY(writer->go_on());
    const size_t files = layout.shards.size() + 1; // and the state
    GNV_ASSIGN(state.room, BackgroundJobs::create(int(std::min(files, most_room_threads))));
    for (size_t s = 0; s < layout.shards.size(); s++) GNV_TRY(writer->make_shard(s));
    GNV_TRY(sync_directory(writer->partial_folder())); // a claim of the journal holds for files that have a name
    if (options.hash_threads > 0) GNV_TRY(writer->start_hashes(options));
    try {
        state.committer = std::thread([&state] { state.run_committer(); });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread (", error.what(), ")");
    }
    return writer;
}

// Of the earlier run only the shards and the state stay: other files are quickly made anew.
Status CheckpointWriter::go_on() {
    const OutputFolder::Earlier & earlier = state_->folder->earlier();
    for (const uint32_t tensor : earlier.done) {
        if (tensor >= state_->done.size()) continue; // of no run with this identity
        state_->done[tensor] = state_->known[tensor] = true;
    }
    state_->committed = size_t(std::count(state_->done.begin(), state_->done.end(), true));
    if (!goes_on()) return {};
    std::set<std::string> kept = {state_file_name};
    for (const OutputShard & shard : state_->layout.shards) kept.insert(shard.file_name);
    return state_->folder->remove_others(kept);
}

// Writes the header in any case: the earlier run may have been killed before.
Status CheckpointWriter::make_shard(size_t number) {
    const OutputShard & shard = state_->layout.shards[number];
    const bool has_tensors =
        std::any_of(shard.tensors.begin(), shard.tensors.end(), [&](uint32_t tensor) { return is_done(tensor); });
    std::optional<File> file;
    if (goes_on()) {
        GNV_ASSIGN(file, state_->folder->find(shard.file_name));
    }
    uint64_t size = 0;
    if (file) {
        GNV_ASSIGN(const FileStamp stamp, file->stamp());
        size = stamp.size;
    }
    if (has_tensors ? size != shard.file_bytes : size > shard.file_bytes)
        return fail(Code::format, join_path(partial_folder(), shard.file_name),
                    file ? " has another size" : " is missing",
                    ", though tensors in it were finished: the folder was changed; begin anew without it "
                    "(--no-resume --overwrite)");
    if (!file) {
        GNV_ASSIGN(file, state_->folder->add(shard.file_name));
    }
    GNV_ASSIGN(std::shared_ptr<FileRoom> room, FileRoom::open(file->path()));
    GNV_TRY(room->grow(shard.file_bytes));
    GNV_TRY(state_->folder->keep(shard.file_name, *file));
    const std::string header = shard_header(state_->layout, number);
    GNV_CHECK(header.size() == shard.data_begin);
    GNV_TRY(file->write(header.data(), header.size(), 0)); // now: it would wait for the room
    state_->in_memory = state_->in_memory || file->is_in_memory();
    state_->shards.push_back(std::move(*file));
    return make_room(std::move(room), shard.file_bytes);
}

// Reserves the room of a file in the background, in steps.
Status CheckpointWriter::make_room(std::shared_ptr<FileRoom> room, uint64_t bytes, const char * context) {
    state_->room->add([room = std::move(room), bytes, context, &ends = state_->ends]() -> Status {
        for (uint64_t at = 0; at < bytes && !ends; at += room_step) {
            Status reserved = room->reserve(at, std::min(room_step, bytes - at));
            if (!reserved.ok()) return *context ? std::move(reserved).add_context(context) : std::move(reserved);
        }
        return {};
    });
    return state_->room->status();
}

Status CheckpointWriter::start_hashes(const Options & options) {
    std::vector<RunningHashes::Target> targets;
    for (size_t s = 0; s < state_->shards.size(); s++) {
        const OutputShard & shard = state_->layout.shards[s];
        targets.push_back({shard.file_name, &state_->shards[s], shard.file_bytes});
    }
    GNV_ASSIGN(state_->running, RunningHashes::create(targets, options.hash_threads, options.trace));
    for (size_t s = 0; s < targets.size(); s++)
        GNV_TRY(state_->running->written(s, 0, state_->layout.shards[s].data_begin));
    for (uint32_t tensor = 0; tensor < state_->done.size(); tensor++)
        if (is_done(tensor)) GNV_TRY(tell_hashes(tensor));
    return {};
}

// All bytes of the tensor are in its file.
Status CheckpointWriter::tell_hashes(uint32_t number) {
    if (!state_->running) return {};
    const OutputTensor & tensor = state_->layout.tensors[number];
    return state_->running->written(tensor.shard, tensor.offset, tensor.offset + tensor.bytes);
}

Status CheckpointWriter::finish_hashes(const std::function<Status()> & goes_on) {
    if (!state_->running) return {};
    GNV_ASSIGN(state_->hashes, state_->running->finish(goes_on));
    state_->running.reset();
    return {};
}

const KnownHashes & CheckpointWriter::hashes() const { return state_->hashes; }

bool CheckpointWriter::goes_on() const { return state_->folder->goes_on(); }
bool CheckpointWriter::is_done(uint32_t tensor) const { return state_->done[tensor]; }
bool CheckpointWriter::is_complete() const { return state_->folder->earlier().is_complete; }
std::optional<StateRecord> CheckpointWriter::state() const { return state_->folder->earlier().state; }

// The shard of another run's folder; it must have this layout.
static Result<File> open_same_shard(const std::string & folder, const OutputLayout & layout, size_t number) {
    const OutputShard & shard = layout.shards[number];
    GNV_ASSIGN(File file, File::open_read(join_path(folder, shard.file_name)));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    const std::string header = shard_header(layout, number);
    std::string found(header.size(), '\0');
    if (stamp.size == shard.file_bytes) GNV_TRY(file.read(found.data(), found.size(), 0));
    if (found != header)
        return fail(Code::format, file.path(), " has another size or header than its run wrote: copy it anew");
    return file;
}

Status CheckpointWriter::take(const std::string & folder, const RunIdentity & identity,
                              const std::function<Status()> & copied) {
    GNV_ASSIGN(const FoundJournal journal, find_journal(join_path(folder, journal_name), false));
    if (journal.state == FoundJournal::State::in_use)
        return fail(Code::already_exists, folder, ": its run has not ended yet");
    if (journal.state != FoundJournal::State::ours || !journal.has_identity())
        return fail(Code::format, folder, " is no unfinished folder of a run that another can go on with");
    const std::string differences = journal.differences(identity);
    if (!differences.empty())
        return fail(Code::invalid_argument, folder, " is of a run whose result would be another: ", differences);
    std::vector<std::optional<File>> shards(state_->layout.shards.size());
    std::vector<uint32_t> taken;
    std::vector<uint8_t> buffer(size_t(16) << 20);
    for (const uint32_t number : journal.done()) {
        if (number >= state_->done.size() || state_->done[number]) continue;
        const OutputTensor & tensor = state_->layout.tensors[number];
        std::optional<File> & shard = shards[tensor.shard];
        if (!shard) {
            GNV_ASSIGN(shard, open_same_shard(folder, state_->layout, tensor.shard));
        }
        for (uint64_t at = 0; at < tensor.bytes; at += buffer.size()) {
            const uint64_t size = std::min<uint64_t>(buffer.size(), tensor.bytes - at);
            GNV_TRY(shard->read(buffer.data(), size, tensor.offset + at));
            GNV_TRY(write({number, buffer.data(), size, at}));
        }
        GNV_TRY(finished(number));
        taken.push_back(number);
        GNV_TRY(copied());
    }
    GNV_TRY(settle());
    for (const uint32_t number : taken) state_->done[number] = true;
    return {};
}

Result<const File *> CheckpointWriter::state_file(uint64_t bytes) {
    GNV_ASSIGN(state_->state_file, state_->folder->find(state_file_name));
    if (!state_->state_file) {
        GNV_ASSIGN(state_->state_file, state_->folder->add(state_file_name));
    }
    const File * const file = &*state_->state_file;
    constexpr const char * context = "the state of the run, to go on with if it is stopped";
    GNV_ASSIGN(std::shared_ptr<FileRoom> room, FileRoom::open(file->path()));
    GNV_TRY(room->grow(bytes).add_context(context));
    GNV_TRY(make_room(std::move(room), bytes, context));
    GNV_TRY(sync_directory(partial_folder()));
    return file;
}

Status CheckpointWriter::record_state(const StateRecord & record) {
    const std::lock_guard<std::mutex> lock(state_->journal_mutex);
    return state_->folder->append_journal(state_record(record));
}

Status CheckpointWriter::status() const {
    if (state_->room) GNV_TRY(state_->room->status());
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->background_failure();
}

// Neighbours in a file.
Status CheckpointWriter::write_run(const Piece * first, size_t count) {
    const OutputTensor & tensor = state_->layout.tensors[first->tensor];
    const File & file = state_->shards[tensor.shard];
    if (state_->in_memory) {
        std::vector<FilePart> parts;
        uint64_t bytes = 0;
        for (const Piece * piece = first; piece < first + count; piece++) {
            parts.push_back({piece->data, piece->size});
            bytes += piece->size;
        }
        if (bytes >= worth_a_mapping && file.write_mapped(parts, tensor.offset + first->offset)) return {};
    }
    const std::lock_guard<std::mutex> lock(state_->writing[tensor.shard]);
    for (const Piece * piece = first; piece < first + count; piece++) {
        const OutputTensor & target = state_->layout.tensors[piece->tensor];
        GNV_TRY(
            file.write(piece->data, piece->size, target.offset + piece->offset).add_context("tensor " + target.name));
    }
    return {};
}

Status CheckpointWriter::write(std::vector<Piece> pieces) {
    const std::vector<OutputTensor> & tensors = state_->layout.tensors;
    for (const Piece & piece : pieces) {
        const OutputTensor & target = tensors[piece.tensor];
        GNV_CHECK(piece.offset <= target.bytes && piece.size <= target.bytes - piece.offset);
    }
    const auto place = [&](const Piece & piece) {
        return std::pair(tensors[piece.tensor].shard, tensors[piece.tensor].offset + piece.offset);
    };
    std::sort(pieces.begin(), pieces.end(), [&](const Piece & a, const Piece & b) { return place(a) < place(b); });
    for (size_t begin = 0, end = 0; begin < pieces.size(); begin = end) {
        std::pair<uint32_t, uint64_t> next = place(pieces[begin]);
        for (; end < pieces.size() && place(pieces[end]) == next; end++) next.second += pieces[end].size;
        GNV_TRY(write_run(&pieces[begin], end - begin));
    }
    return {};
}

Status CheckpointWriter::finished(uint32_t tensor) {
    GNV_TRY(status());
    {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        if (state_->known[tensor]) return {};
        state_->known[tensor] = true;
        state_->waiting.push_back(tensor);
    }
    state_->changed.notify_all();
    return tell_hashes(tensor);
}

Status CheckpointWriter::settle() {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->changed.wait(lock, [&] { return state_->waiting.empty() && !state_->committing; });
    return state_->background_failure();
}

Status CheckpointWriter::finish_tensors() {
    GNV_TRY(state_->room->wait());
    GNV_TRY(settle());
    const std::lock_guard<std::mutex> lock(state_->mutex);
    GNV_CHECK(state_->committed == state_->layout.tensors.size());
    return {};
}

static Status finish_file(OutputFolder & folder, const std::string & name, File & file) {
    GNV_TRY(file.sync());
    GNV_TRY(folder.keep(name, file));
    return file.close();
}

Status CheckpointWriter::add_file(const std::string & name, const std::string & content) {
    GNV_ASSIGN(File file, state_->folder->add(name));
    GNV_TRY(file.write(content.data(), content.size(), 0));
    return finish_file(*state_->folder, name, file);
}

Status CheckpointWriter::copy_file(const std::string & name, const std::string & from, const FileStamp & stamp) {
    GNV_ASSIGN(const File source, File::open_read(from));
    const auto check_unchanged = [&]() -> Status {
        GNV_ASSIGN(const FileStamp now, source.stamp());
        if (now == stamp) return {};
        return fail(Code::changed, from, " was changed during the run; run again when no program writes to it");
    };
    GNV_TRY(check_unchanged());
    GNV_ASSIGN(File file, state_->folder->add(name));
    GNV_TRY(copy_content(source, stamp.size, file));
    GNV_TRY(check_unchanged());
    return finish_file(*state_->folder, name, file);
}

Status CheckpointWriter::publish(const std::string & config_text,
                                 const std::function<Status(CheckpointWriter &)> & last) {
    State & state = *state_;
    GNV_TRY(finish_tensors());
    state.stop_committer();
    GNV_TRY(state.background_failure());
    state.running.reset();
    for (File & shard : state.shards) GNV_TRY(shard.close());
    if (!state.index.empty()) GNV_TRY(add_file(index_file_name, state.index));
    GNV_TRY(add_file("config.json", config_text));
    if (last) GNV_TRY(last(*this));
    return publish_complete();
}

double CheckpointWriter::removal_seconds() const { return state_->folder->removal_seconds(); }

Status CheckpointWriter::publish_complete() {
    if (state_->state_file) GNV_TRY(state_->state_file->close());
    return state_->folder->publish();
}

} // namespace gnv
