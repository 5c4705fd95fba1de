// SHA-256 of files while they are written: the hash of each file follows its bytes from the first on, as far as they
// have no gap, in the background, so that little is left when the last byte is written.
#pragma once

#include "core/sha256.h"
#include "core/trace.h"
#include "formats/file.h"

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace gnv {

// The hash of a file that had this stamp. A file with another stamp may have other bytes.
struct KnownHash {
    FileStamp stamp;
    std::string sha256; // 64 lower-case hex digits
};
using KnownHashes = std::map<std::string, KnownHash>; // by name in the folder

class RunningHashes {
  public:
    struct Target {
        std::string name; // in the result
        const File * file = nullptr;
        uint64_t size = 0;
    };
    // The files must be open until finish() returned or this is destroyed. `trace` (may be null) gets the time as work of
    // threads that write.
    static Result<std::unique_ptr<RunningHashes>> create(const std::vector<Target> & targets, int threads,
                                                         Trace * trace);
    ~RunningHashes(); // ends early
    RunningHashes(const RunningHashes &) = delete;
    RunningHashes & operator=(const RunningHashes &) = delete;

    // Bytes [begin, end) of a file have their last value; each byte is told once. Any thread. Also returns the first
    // failure in the background.
    Status written(size_t target, uint64_t begin, uint64_t end);
    // Once all bytes are told: waits until all are hashed, and calls `goes_on` a few times a second, whose failure ends it.
    // A file that was changed since its last byte was hashed has no hash.
    Result<KnownHashes> finish(const std::function<Status()> & goes_on);

  private:
    struct Follower {
        Target target;
        Sha256 hash;
        uint64_t written = 0, hashed = 0;      // without a gap, from byte 0 on
        std::map<uint64_t, uint64_t> beyond;   // begin and end of what is written behind a gap
        bool in_work = false, is_done = false; // a thread hashes it; stamp and sha256 are known
        FileStamp stamp;
        std::string sha256;
    };
    RunningHashes() = default;
    void work(std::string & piece);
    Follower * next();
    Status follow(Follower & follower, uint64_t begin, uint64_t end, std::string & piece) const;
    bool all_done() const;

    std::vector<Follower> followers_; // their hashes belong to the thread that works on them
    Trace * trace_ = nullptr;
    std::mutex mutex_;
    std::condition_variable work_ready_, work_done_;
    bool stopping_ = false;
    Status failure_;
    std::vector<std::string> pieces_; // by thread
    std::vector<std::thread> threads_;
};

} // namespace gnv
