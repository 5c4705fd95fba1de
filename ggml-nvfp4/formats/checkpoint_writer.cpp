#include "formats/checkpoint_writer.h"

#include "core/thread_pool.h"
#include "formats/json_writer.h"
#include "formats/output_folder.h"
#include "formats/safetensors.h"
#include "formats/safetensors_header.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
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

static std::string shard_file_name(size_t number, size_t count) {
    if (count == 1) return "model.safetensors";
    char name[64];
    snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number + 1, count);
    return name;
}

OutputLayout lay_out(std::vector<OutputTensor> tensors, uint64_t shard_bytes) {
    OutputLayout layout;
    layout.tensors = std::move(tensors);
    uint64_t filled = 0;
    for (uint32_t i = 0; i < layout.tensors.size(); i++) {
        OutputTensor & tensor = layout.tensors[i];
        if (layout.shards.empty() || (filled > 0 && filled + tensor.bytes > shard_bytes)) {
            layout.shards.emplace_back();
            filled = 0;
        }
        filled += tensor.bytes;
        tensor.shard = uint32_t(layout.shards.size() - 1);
        layout.shards.back().tensors.push_back(i);
    }
    for (size_t s = 0; s < layout.shards.size(); s++) {
        OutputShard & shard = layout.shards[s];
        shard.file_name = shard_file_name(s, layout.shards.size());
        std::stable_sort(shard.tensors.begin(), shard.tensors.end(), [&](uint32_t a, uint32_t b) {
            return dtype_traits(layout.tensors[a].dtype).bits > dtype_traits(layout.tensors[b].dtype).bits;
        });
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
    std::map<std::string_view, std::string_view> files; // by the tensor's name
    for (const OutputTensor & tensor : layout.tensors) {
        elements += tensor.bytes * 8 / uint64_t(dtype_traits(tensor.dtype).bits);
        files[tensor.name] = layout.shards[tensor.shard].file_name;
    }
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().key("metadata").begin_object();
    json.member("total_parameters", elements).member("total_size", layout.tensor_bytes()).end_object();
    json.key("weight_map").begin_object();
    for (const auto & [tensor, file] : files) json.member(tensor, file);
    json.end_object().end_object();
    return json.take() + "\n";
}

// --- Writer -----------------------------------------------------------------------------------------------------------------

struct CheckpointWriter::State {
    const OutputLayout & layout;
    std::unique_ptr<OutputFolder> folder;
    std::vector<File> shards;

    // The committer: takes the finished tensors, syncs the shards, then records the tensors in the journal.
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<uint32_t> waiting; // finished, not yet in the journal
    bool committing = false, stopping = false;
    size_t committed = 0;
    Status failure;
    std::thread committer;

    explicit State(const OutputLayout & output) : layout(output) {}

    Status commit(const std::vector<uint32_t> & batch) {
        std::vector<bool> touched(shards.size(), false);
        std::string lines;
        for (const uint32_t tensor : batch) {
            touched[layout.tensors[tensor].shard] = true;
            lines += concat("done ", tensor, "\n");
        }
        for (size_t s = 0; s < shards.size(); s++)
            if (touched[s]) GNV_TRY(shards[s].sync());
        return folder->append_journal(lines);
    }

    void run_committer() {
        std::unique_lock<std::mutex> lock(mutex);
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

CheckpointWriter::~CheckpointWriter() { state_->stop_committer(); }

const std::string & CheckpointWriter::partial_folder() const { return state_->folder->path(); }

const std::vector<std::string> & CheckpointWriter::notes() const { return state_->folder->notes(); }

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::create(const OutputLayout & layout,
                                                                   const Options & options) {
    std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(std::make_unique<State>(layout)));
    State & state = *writer->state_;
    const std::string records =
        concat("plan ", options.plan_fingerprint, "\nsource ", options.source_fingerprint, "\n");
    GNV_ASSIGN(state.folder, OutputFolder::create(options.destination, records));
    for (size_t s = 0; s < layout.shards.size(); s++) {
        GNV_ASSIGN(File file, state.folder->add(layout.shards[s].file_name));
        GNV_TRY(file.reserve(layout.shards[s].file_bytes));
        GNV_TRY(state.folder->keep(layout.shards[s].file_name, file));
        const std::string header = shard_header(layout, s);
        GNV_CHECK(header.size() == layout.shards[s].data_begin);
        GNV_TRY(file.write(header.data(), header.size(), 0));
        state.shards.push_back(std::move(file));
    }
    try {
        state.committer = std::thread([&state] { state.run_committer(); });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread (", error.what(), ")");
    }
    return writer;
}

Status CheckpointWriter::write(uint32_t tensor, const void * data, uint64_t size, uint64_t offset) {
    const OutputTensor & target = state_->layout.tensors[tensor];
    GNV_CHECK(offset <= target.bytes && size <= target.bytes - offset);
    return state_->shards[target.shard].write(data, size, target.offset + offset).add_context("tensor " + target.name);
}

Status CheckpointWriter::finished(uint32_t tensor) {
    {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        GNV_TRY(state_->background_failure());
        state_->waiting.push_back(tensor);
    }
    state_->changed.notify_all();
    return {};
}

Status CheckpointWriter::finish_tensors() {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->changed.wait(lock, [&] { return state_->waiting.empty() && !state_->committing; });
    GNV_TRY(state_->background_failure());
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

Status CheckpointWriter::publish(const std::string & config_text) {
    State & state = *state_;
    GNV_TRY(finish_tensors());
    state.stop_committer();
    for (File & shard : state.shards) GNV_TRY(shard.close());
    const std::string index = index_text(state.layout);
    if (!index.empty()) GNV_TRY(add_file(index_file_name, index));
    GNV_TRY(add_file("config.json", config_text));
    return state.folder->publish();
}

} // namespace gnv
