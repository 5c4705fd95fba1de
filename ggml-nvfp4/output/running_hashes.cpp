#include "output/running_hashes.h"

#include <algorithm>
#include <chrono>
#include <system_error>

namespace gnv {

namespace {

constexpr uint64_t piece_bytes = 256 << 10; // stays in a core's cache between reading and hashing
constexpr uint64_t turn_bytes = 32 << 20;   // of one file, before a thread looks which file is furthest behind
constexpr uint64_t worth_a_turn = 4 << 20;  // less waits for more, except at the end of a file
constexpr auto ask_interval = std::chrono::milliseconds(50);

} // namespace

Result<std::unique_ptr<RunningHashes>> RunningHashes::create(const std::vector<Target> & targets, int threads,
                                                             Trace * trace) {
    std::unique_ptr<RunningHashes> self(new RunningHashes);
    self->trace_ = trace;
    self->followers_.resize(targets.size());
    for (size_t i = 0; i < targets.size(); i++) self->followers_[i].target = targets[i];
    const size_t count = std::min(size_t(std::max(1, threads)), targets.size());
    self->pieces_.assign(count, std::string(piece_bytes, '\0'));
    try {
        for (std::string & piece : self->pieces_)
            self->threads_.emplace_back([pool = self.get(), &piece] { pool->work(piece); });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread (", error.what(), ")");
    }
    return self;
}

RunningHashes::~RunningHashes() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
    }
    work_ready_.notify_all();
    for (std::thread & thread : threads_) thread.join();
}

Status RunningHashes::written(size_t target, uint64_t begin, uint64_t end) {
    bool is_worth_it = false;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!failure_.ok()) return copy_of(failure_);
        Follower & follower = followers_[target];
        if (begin == end) return {};
        GNV_CHECK(begin < end && end <= follower.target.size && begin >= follower.written);
        if (begin > follower.written) {
            follower.beyond[begin] = end;
            return {};
        }
        follower.written = end;
        std::map<uint64_t, uint64_t> & beyond = follower.beyond;
        for (; !beyond.empty() && beyond.begin()->first == follower.written; beyond.erase(beyond.begin()))
            follower.written = beyond.begin()->second;
        const uint64_t behind = follower.written - follower.hashed;
        is_worth_it = !follower.in_work && (follower.written == follower.target.size || behind >= worth_a_turn);
    }
    if (is_worth_it) work_ready_.notify_one();
    return {};
}

// The file that is furthest behind; null: none has enough. Call with the mutex held.
RunningHashes::Follower * RunningHashes::next() {
    Follower * best = nullptr;
    for (Follower & follower : followers_) {
        if (follower.in_work || follower.is_done) continue;
        const uint64_t behind = follower.written - follower.hashed;
        if (follower.written < follower.target.size && behind < worth_a_turn) continue;
        if (!best || behind > best->written - best->hashed) best = &follower;
    }
    return best;
}

Status RunningHashes::follow(Follower & follower, uint64_t begin, uint64_t end, std::string & piece) const {
    const Span span(trace_, "worker", "hash", {0, double(end - begin)});
    const File & file = *follower.target.file;
    const bool is_last = end == follower.target.size;
    if (is_last) {
        GNV_ASSIGN(follower.stamp, file.stamp());
    }
    for (uint64_t at = begin; at < end; at += piece.size()) {
        const uint64_t count = std::min<uint64_t>(piece.size(), end - at);
        GNV_TRY(file.read(piece.data(), count, at));
        follower.hash.update(piece.data(), count);
    }
    if (is_last) follower.sha256 = follower.hash.finish();
    return {};
}

void RunningHashes::work(std::string & piece) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        Follower * follower = nullptr;
        work_ready_.wait(lock, [&] {
            if (!stopping_ && failure_.ok()) follower = next();
            return stopping_ || follower;
        });
        if (stopping_) return;
        follower->in_work = true;
        const uint64_t begin = follower->hashed, end = std::min(follower->written, begin + turn_bytes);
        lock.unlock();
        Status status = guard_exceptions([&] { return follow(*follower, begin, end, piece); });
        lock.lock();
        follower->in_work = false;
        follower->hashed = end;
        follower->is_done = end == follower->target.size;
        if (!status.ok() && failure_.ok()) failure_ = std::move(status);
        if (!failure_.ok() || all_done()) work_done_.notify_all();
    }
}

// Call with the mutex held.
bool RunningHashes::all_done() const {
    return std::all_of(followers_.begin(), followers_.end(),
                       [](const Follower & follower) { return follower.is_done; });
}

Result<KnownHashes> RunningHashes::finish(const std::function<Status()> & goes_on) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (const Follower & follower : followers_) GNV_CHECK(follower.written == follower.target.size);
    while (!work_done_.wait_for(lock, ask_interval, [&] { return !failure_.ok() || all_done(); })) {
        lock.unlock();
        GNV_TRY(goes_on());
        lock.lock();
    }
    if (!failure_.ok()) return copy_of(failure_);
    KnownHashes hashes;
    for (const Follower & follower : followers_) {
        GNV_ASSIGN(const FileStamp now, follower.target.file->stamp());
        if (now == follower.stamp) hashes[follower.target.name] = {follower.stamp, follower.sha256};
    }
    return hashes;
}

} // namespace gnv
