// The weights of a streamed model: files that threads fetch into a window on the disk while others read them.
#pragma once

#include "core/clock.h"
#include "formats/fetched_files.h"
#include "formats/file.h"
#include "hub/file_transfer.h"
#include "hub/stream/shard_window.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace gnv {

class Stream {
  public:
    // Fetches the beginnings of the files.
    static Result<std::shared_ptr<Stream>> open(const HubOptions & hub, const RepositoryName & model,
                                                const std::string & commit, std::vector<RemoteFile> files,
                                                uint64_t limit);
    ~Stream(); // ends all transfers

    size_t count() const { return shards_.size(); }
    const RemoteFile & file(uint32_t shard) const { return shards_[shard].remote; }
    int64_t find(const std::string & name) const; // -1: none
    std::string subject(uint32_t shard) const { return place().subject(file(shard)); }
    const std::string & window_folder() const { return window_folder_; }

    // The hub's hash and size: the same in each process, whether the file is here or not.
    Result<FileStamp> stamp(uint32_t shard) const;
    // Waits until the file is here and its hash is right.
    Status read(uint32_t shard, void * data, uint64_t size, uint64_t offset);
    // See FolderFile::peek().
    Status peek(uint32_t shard, void * data, uint64_t size, uint64_t offset);
    void will_peek(uint32_t shard, uint64_t offset, uint64_t size);

    void expect(const std::vector<ShardRead> & reads);
    FetchPlan plan(const std::vector<ShardRead> & reads) const;
    FetchUse use() const;

  private:
    struct Shard {
        RemoteFile remote;
        std::shared_ptr<const File> file; // null: not here
        bool is_cached = false;           // `file` is a blob of the cache, which stays
        FileStamp cached_stamp;
        bool is_fetched = false; // just now
        uint32_t readers = 0, waiting = 0, times = 0;
        Status failure;
        std::map<uint64_t, std::string> peeked; // by offset
    };
    struct Range {
        uint32_t shard = 0;
        uint64_t offset = 0, size = 0;
        uint64_t end() const { return offset + size; }
    };

    Stream(HubOptions hub, RepositoryName model, std::string commit, std::vector<RemoteFile> files, uint64_t limit);
    RemotePlace place() const { return {hub_, model_, commit_}; }
    HttpOptions http_options();
    bool is_asked_to_stop(); // not with mutex_ locked: it calls the caller

    // With mutex_ locked:
    Status start_threads();
    Status bring(std::unique_lock<std::mutex> & lock, uint32_t shard);
    std::optional<uint32_t> choose();
    bool is_done(uint32_t shard) const; // no read of it runs or comes
    void drop_if_done(uint32_t shard);
    void finish_fetch(uint32_t shard, Result<File> fetched);

    void fetch_files(); // of each thread
    Result<File> fetch(uint32_t shard, HttpClient & client);
    bool is_still_wanted(uint32_t shard);
    Status compare_peeked(uint32_t shard, const File & file);

    // With peek_mutex_ locked:
    bool find_peeked(const Range & range, void * data);
    std::vector<Range> take_wanted();
    Status fetch_wanted();

    const HubOptions hub_;
    const RepositoryName model_;
    const std::string commit_, window_folder_;

    mutable std::mutex mutex_; // of what follows
    std::condition_variable changed_;
    std::vector<Shard> shards_;   // names, sizes and hashes never change
    std::vector<uint64_t> sizes_; // 0: in the cache
    ShardWindow window_;
    FetchUse use_;
    Clock::time_point last_read_ = Clock::now(); // or the last wait for one began
    std::vector<std::thread> threads_;
    std::atomic<bool> closing_{false}, stopped_{false};

    std::mutex peek_mutex_; // taken before mutex_
    std::vector<Range> wanted_;
};

} // namespace gnv
