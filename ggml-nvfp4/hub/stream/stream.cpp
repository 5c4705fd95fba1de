#include "hub/stream/stream.h"

#include "hub/hub_cache.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace gnv {

namespace {

constexpr auto poll_interval = std::chrono::milliseconds(100);
constexpr double idle_seconds = 30;         // without a read: a file that is read sooner is given up all the same
constexpr uint64_t first_bytes = 256 << 10; // of each file, which most headers fit into
constexpr uint64_t merged_gap = 64 << 10;   // between ranges that are fetched as one
constexpr uint64_t largest_range = 8 << 20; // of merged ones
constexpr uint64_t compared_piece = 1 << 20;

} // namespace

Stream::Stream(HubOptions hub, RepositoryName model, std::string commit, std::vector<RemoteFile> files, uint64_t limit)
    : hub_(std::move(hub)), model_(std::move(model)), commit_(std::move(commit)),
      window_folder_(HubCache(hub_.cache, model_).folder()), shards_(files.size()), window_({}, 0) {
    const HubCache cache(hub_.cache, model_);
    for (size_t s = 0; s < files.size(); s++) {
        shards_[s].remote = std::move(files[s]);
        shards_[s].is_cached = cache.has_blob(shards_[s].remote);
        sizes_.push_back(shards_[s].is_cached ? 0 : shards_[s].remote.size);
    }
    window_ = ShardWindow(sizes_, limit);
    for (uint32_t s = 0; s < count(); s++)
        if (shards_[s].is_cached) window_.add(s);
}

Result<std::shared_ptr<Stream>> Stream::open(const HubOptions & hub, const RepositoryName & model,
                                             const std::string & commit, std::vector<RemoteFile> files,
                                             uint64_t limit) {
    std::shared_ptr<Stream> stream(new Stream(hub, model, commit, std::move(files), limit));
    const HubCache cache(hub.cache, model);
    for (Shard & shard : stream->shards_) {
        if (!shard.is_cached) continue;
        GNV_ASSIGN(File file, File::open_read(cache.blob(shard.remote.hash)));
        GNV_ASSIGN(shard.cached_stamp, file.stamp());
        shard.file = std::make_shared<const File>(std::move(file));
    }
    for (uint32_t s = 0; s < stream->count(); s++) stream->will_peek(s, 0, std::min(first_bytes, stream->file(s).size));
    const std::lock_guard<std::mutex> lock(stream->peek_mutex_);
    GNV_TRY(stream->fetch_wanted());
    return stream;
}

Stream::~Stream() {
    closing_ = true;
    changed_.notify_all();
    for (std::thread & thread : threads_) thread.join();
}

int64_t Stream::find(const std::string & name) const {
    for (size_t s = 0; s < shards_.size(); s++)
        if (shards_[s].remote.name == name) return int64_t(s);
    return -1;
}

Result<FileStamp> Stream::stamp(uint32_t shard) const {
    const Shard & held = shards_[shard];
    if (held.is_cached) {
        GNV_ASSIGN(const FileStamp now, held.file->stamp());
        if (now != held.cached_stamp) return now; // another one than before: it was changed
    }
    const std::string & hash = held.remote.hash;
    const auto digits = [&](size_t from) {
        uint64_t value = 0;
        std::from_chars(hash.data() + from, hash.data() + from + 15, value, 16);
        return value;
    };
    FileStamp stamp;
    stamp.size = held.remote.size;
    stamp.inode = digits(0);
    stamp.modified_ns = int64_t(digits(15));
    return stamp;
}

bool Stream::is_asked_to_stop() {
    if (stopped_ || closing_) return true;
    HubProgress now;
    now.bytes = use().bytes;
    if ((hub_.http.stop && hub_.http.stop()) || (hub_.progress && !hub_.progress(now))) stopped_ = true;
    return stopped_;
}

HttpOptions Stream::http_options() {
    HttpOptions options = hub_.http;
    options.stop = [this] { return is_asked_to_stop(); };
    return options;
}

// --- Reading ----------------------------------------------------------------------------------------------------------------

Status Stream::read(uint32_t shard, void * data, uint64_t size, uint64_t offset) {
    Shard & held = shards_[shard];
    if (size > held.remote.size || offset > held.remote.size - size)
        return fail(Code::format, subject(shard), " ends at byte ", held.remote.size,
                    ", before the data that it promises");
    std::shared_ptr<const File> file;
    {
        std::unique_lock<std::mutex> lock(mutex_);
        GNV_TRY(bring(lock, shard));
        file = held.file;
        held.readers++;
    }
    Status status = file->read(data, size, offset);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        held.readers--;
        last_read_ = Clock::now();
        window_.read(shard, size);
        drop_if_done(shard);
    }
    changed_.notify_all();
    return status;
}

Status Stream::bring(std::unique_lock<std::mutex> & lock, uint32_t shard) {
    Shard & held = shards_[shard];
    if (held.file) return {};
    const Clock::time_point start = Clock::now();
    GNV_TRY(start_threads());
    Status status;
    held.waiting++;
    last_read_ = Clock::now();
    changed_.notify_all();
    while (!held.file && status.ok()) {
        if (!held.failure.ok()) {
            status = copy_of(held.failure);
            continue;
        }
        lock.unlock();
        const bool stops = is_asked_to_stop();
        lock.lock();
        if (stops) status = fail(Code::cancelled, "stopped on request");
        if (status.ok() && !held.file && held.failure.ok()) changed_.wait_for(lock, poll_interval);
    }
    held.waiting--;
    use_.waited += seconds_since(start);
    return status;
}

void Stream::expect(const std::vector<ShardRead> & reads) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        window_.expect(reads);
        for (uint32_t s = 0; s < count(); s++) drop_if_done(s);
        if (!reads.empty()) (void)start_threads().ok(); // else the first read tells why
    }
    changed_.notify_all();
}

FetchPlan Stream::plan(const std::vector<ShardRead> & reads) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const WindowCount count = count_fetches(sizes_, window_.limit(), reads);
    FetchPlan plan;
    plan.files = count.files, plan.bytes = count.bytes, plan.again = count.again;
    plan.disk_bytes = window_.limit();
    for (const uint64_t size : sizes_) plan.smallest_bytes = std::max(plan.smallest_bytes, size);
    return plan;
}

FetchUse Stream::use() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return use_;
}

// --- Fetching ---------------------------------------------------------------------------------------------------------------

// Fewer threads than wanted do the same; one there must be.
Status Stream::start_threads() {
    const size_t wanted = std::min(shards_.size(), size_t(std::max(hub_.connections, 1)));
    Status started = guard_exceptions([&]() -> Status {
        while (threads_.size() < wanted) threads_.emplace_back([this] { fetch_files(); });
        return {};
    });
    return threads_.empty() ? std::move(started) : Status();
}

bool Stream::is_done(uint32_t shard) const {
    const Shard & held = shards_[shard];
    return window_.has_list() && held.readers == 0 && held.waiting == 0 &&
           window_.next_use(shard) == ShardWindow::no_use;
}

void Stream::drop_if_done(uint32_t shard) {
    Shard & held = shards_[shard];
    if (held.is_cached || !held.file || !is_done(shard)) return;
    held.file.reset();
    window_.remove(shard);
}

// The next file to fetch, with its room taken: one that a reader waits for against the list, else the next of the list.
std::optional<uint32_t> Stream::choose() {
    std::vector<bool> busy(count());
    std::optional<uint32_t> chosen;
    bool is_idle = seconds_since(last_read_) > idle_seconds;
    for (uint32_t s = 0; s < count(); s++) {
        const Shard & held = shards_[s];
        busy[s] = held.readers > 0 || held.waiting > 0 || held.is_fetched;
        is_idle = is_idle && held.readers == 0 && !held.is_fetched;
        const bool is_missed = held.waiting > 0 && !held.file && !held.is_fetched && held.failure.ok();
        if (is_missed && window_.next_use(s) == ShardWindow::no_use) chosen = s;
    }
    if (!chosen) chosen = window_.next_missing();
    if (!chosen) return {};
    const std::optional<std::vector<uint32_t>> removed = window_.room_for(*chosen, busy, is_idle);
    if (!removed) return {};
    for (const uint32_t other : *removed) {
        shards_[other].file.reset();
        window_.remove(other);
    }
    window_.add(*chosen);
    shards_[*chosen].is_fetched = true;
    use_.most_bytes = std::max(use_.most_bytes, window_.used());
    return chosen;
}

void Stream::fetch_files() {
    Result<HttpClient> client = HttpClient::create(http_options());
    std::unique_lock<std::mutex> lock(mutex_);
    while (!closing_) {
        const std::optional<uint32_t> shard = stopped_ ? std::nullopt : choose();
        if (!shard) {
            changed_.wait_for(lock, poll_interval);
            continue;
        }
        lock.unlock();
        std::optional<File> file;
        Status status = guard_exceptions([&]() -> Status {
            if (!client.ok()) return copy_of(client.status());
            GNV_ASSIGN(File fetched, fetch(*shard, client.value()));
            file.emplace(std::move(fetched));
            return {};
        });
        lock.lock();
        finish_fetch(*shard, file ? Result<File>(std::move(*file)) : Result<File>(std::move(status)));
        changed_.notify_all();
    }
}

Result<File> Stream::fetch(uint32_t shard, HttpClient & client) {
    const RemoteFile & remote = file(shard);
    GNV_ASSIGN(File file, File::create_unnamed(window_folder_));
    GNV_TRY(file.reserve(remote.size));
    FileTransfer transfer(place(), client, remote, [&](int64_t) { return is_still_wanted(shard); });
    GNV_TRY(transfer.run(file, 0, true));
    GNV_TRY(compare_peeked(shard, file));
    return file;
}

bool Stream::is_still_wanted(uint32_t shard) {
    if (is_asked_to_stop()) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    return !is_done(shard);
}

// What the plan was made from must be in the file whose hash is right.
Status Stream::compare_peeked(uint32_t shard, const File & file) {
    std::map<uint64_t, std::string> peeked;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peeked = shards_[shard].peeked;
    }
    std::string piece;
    for (const auto & [offset, bytes] : peeked)
        for (uint64_t done = 0; done < bytes.size(); done += piece.size()) {
            piece.resize(size_t(std::min<uint64_t>(compared_piece, bytes.size() - done)));
            GNV_TRY(file.read(piece.data(), piece.size(), offset + done));
            if (bytes.compare(size_t(done), piece.size(), piece) != 0)
                return fail(Code::changed, subject(shard), ": the server sent other bytes from byte ", offset + done,
                            " on when the run was planned than those that have the hub's hash; run again");
        }
    return {};
}

void Stream::finish_fetch(uint32_t shard, Result<File> fetched) {
    Shard & held = shards_[shard];
    held.is_fetched = false;
    if (fetched.ok()) {
        held.file = std::make_shared<const File>(fetched.take());
        use_.files++, use_.bytes += held.remote.size;
        use_.again += held.times++ > 0;
        drop_if_done(shard);
        return;
    }
    window_.remove(shard);
    Status failure = fetched.take_status();
    if (failure.code() == Code::cancelled) return; // readers ask by themselves
    if (failure.code() == Code::no_space && window_.used() > 0) {
        window_.set_limit(window_.used()); // there is less room than there was
        return;
    }
    if (failure.code() == Code::no_space)
        failure =
            fail(Code::no_space, failure.message(), ": make room, or set HF_HUB_CACHE to a folder on another disk");
    held.failure = std::move(failure);
    window_.forget(shard); // other readers do not wait for it
}

// --- Peeking ----------------------------------------------------------------------------------------------------------------

bool Stream::find_peeked(const Range & range, void * data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::map<uint64_t, std::string> & peeked = shards_[range.shard].peeked;
    auto piece = peeked.upper_bound(range.offset);
    if (piece == peeked.begin()) return false;
    --piece;
    const uint64_t inside = range.offset - piece->first;
    if (inside > piece->second.size() || range.size > piece->second.size() - inside) return false;
    if (data) memcpy(data, piece->second.data() + inside, size_t(range.size));
    return true;
}

Status Stream::peek(uint32_t shard, void * data, uint64_t size, uint64_t offset) {
    if (size == 0) return {};
    std::shared_ptr<const File> file;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        file = shards_[shard].file;
    }
    if (file) return file->read(data, size, offset);
    const std::lock_guard<std::mutex> lock(peek_mutex_);
    const Range range = {shard, offset, size};
    if (find_peeked(range, data)) return {};
    wanted_.push_back(range);
    GNV_TRY(fetch_wanted());
    return find_peeked(range, data) ? Status() : fail(Code::internal, subject(shard), ": a range was lost");
}

void Stream::will_peek(uint32_t shard, uint64_t offset, uint64_t size) {
    const std::lock_guard<std::mutex> lock(peek_mutex_);
    const Range range = {shard, offset, size};
    if (size > 0 && !shards_[shard].is_cached && !find_peeked(range, nullptr)) wanted_.push_back(range);
}

// The wanted ranges, merged where they are neighbours.
std::vector<Stream::Range> Stream::take_wanted() {
    std::vector<Range> all = std::move(wanted_), merged;
    wanted_.clear();
    std::sort(all.begin(), all.end(), [](const Range & a, const Range & b) {
        return a.shard != b.shard ? a.shard < b.shard : a.offset < b.offset;
    });
    for (const Range & range : all) {
        Range * const last = merged.empty() ? nullptr : &merged.back();
        const bool joins = last && last->shard == range.shard && range.offset <= last->end() + merged_gap &&
                           (range.end() <= last->end() || range.end() - last->offset <= largest_range);
        if (joins) {
            last->size = std::max(last->end(), range.end()) - last->offset;
        } else {
            merged.push_back(range);
        }
    }
    return merged;
}

Status Stream::fetch_wanted() {
    const std::vector<Range> ranges = take_wanted();
    std::atomic<size_t> next{0};
    std::mutex mutex;
    Status first;
    const auto work = [&] {
        Status status = guard_exceptions([&]() -> Status {
            GNV_ASSIGN(HttpClient client, HttpClient::create(http_options()));
            for (size_t i; (i = next++) < ranges.size();) {
                const Range & range = ranges[i];
                GNV_ASSIGN(std::string bytes,
                           fetch_range(place(), client, file(range.shard), range.offset, range.size));
                const std::lock_guard<std::mutex> lock(mutex_);
                shards_[range.shard].peeked[range.offset] = std::move(bytes);
            }
            return {};
        });
        if (status.ok()) return;
        const std::lock_guard<std::mutex> lock(mutex);
        next = ranges.size();
        if (first.ok()) first = std::move(status);
    };
    std::vector<std::thread> threads;
    const size_t count = std::min(ranges.size(), size_t(std::max(hub_.connections, 1)));
    (void)guard_exceptions([&]() -> Status { // fewer threads do the same
        while (threads.size() + 1 < count) threads.emplace_back(work);
        return {};
    })
        .ok();
    if (!ranges.empty()) work();
    for (std::thread & thread : threads) thread.join();
    return first;
}

} // namespace gnv
