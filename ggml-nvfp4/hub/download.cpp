#include "hub/download.h"

#include "formats/file.h"
#include "hub/file_transfer.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <thread>

namespace gnv {

namespace {

// What the threads of a download share.
struct Shared {
    const HubOptions & hub;
    const HubCache & cache;
    const RepositoryName & repository;
    const std::string & commit;
    uint64_t bytes_total = 0, files_total = 0;
    std::atomic<uint64_t> bytes{0}, files{0};
    std::atomic<bool> stops{false};

    bool report() const {
        HubProgress now;
        now.bytes = bytes, now.bytes_total = bytes_total, now.files = files, now.files_total = files_total;
        return !stops && (!hub.progress || hub.progress(now));
    }
};

class FileDownload {
  public:
    FileDownload(Shared & shared, HttpClient & client, const RemoteFile & file)
        : shared_(shared), client_(client), remote_(file) {}

    Status run() {
        GNV_ASSIGN(const HubCache::Lock lock, shared_.cache.lock(remote_, client_.options().stop));
        if (!shared_.cache.has_blob(remote_)) {
            GNV_TRY(fetch());
        } else {
            shared_.bytes += remote_.size;
        }
        shared_.files++;
        return shared_.cache.add_to_snapshot(remote_, shared_.commit);
    }

  private:
    // Goes on with what an earlier download left. The blob gets its name when it is complete and on disk.
    Status fetch() {
        const std::string blob = shared_.cache.blob(remote_.hash), path = blob + ".incomplete";
        Result<File> opened = path_exists(path) ? File::open_own(path) : File::create(path);
        if (!opened.ok()) return opened.take_status();
        File file = opened.take();
        GNV_ASSIGN(const FileStamp stamp, file.stamp());
        const RemotePlace place{shared_.hub, shared_.repository, shared_.commit};
        FileTransfer transfer(place, client_, remote_, [this](int64_t bytes) {
            shared_.bytes += uint64_t(bytes);
            return shared_.report();
        });
        GNV_TRY(transfer.run(file, stamp.size));
        GNV_TRY(file.sync());
        GNV_TRY(file.close());
        if (rename(path.c_str(), blob.c_str()) != 0) return system_failure(errno, "cannot rename ", path);
        return {};
    }

    Shared & shared_;
    HttpClient & client_;
    const RemoteFile & remote_;
};

// Runs on each thread: the next file, until all are done or one failed.
Status run_connection(Shared & shared, const std::vector<const RemoteFile *> & files, std::atomic<size_t> & next) {
    HttpOptions options = shared.hub.http;
    options.stop = [&shared] { return !shared.report() || (shared.hub.http.stop && shared.hub.http.stop()); };
    GNV_ASSIGN(HttpClient client, HttpClient::create(options));
    for (size_t i; (i = next++) < files.size();) GNV_TRY(FileDownload(shared, client, *files[i]).run());
    return {};
}

} // namespace

Status check_room(const HubCache & cache, const std::vector<RemoteFile> & files) {
    uint64_t missing = 0;
    for (const RemoteFile & file : files) missing += file.size - cache.bytes_here(file);
    if (missing == 0) return {};
    GNV_ASSIGN(const uint64_t room, free_disk_bytes(cache.folder()));
    if (missing <= room && room - missing >= spare_disk_bytes) return {};
    return fail(Code::no_space, cache.folder(), ": ", bytes_text(missing), " are to be downloaded, and the disk has ",
                bytes_text(room), " free, of which ", bytes_text(spare_disk_bytes), " stay free: make room for ",
                bytes_text(missing + spare_disk_bytes - room),
                " more, or set HF_HUB_CACHE to a folder on another disk");
}

Status download_files(const HubOptions & hub, const RepositoryName & repository, const std::string & commit,
                      const std::vector<RemoteFile> & files) {
    const HubCache cache(hub.cache, repository);
    Shared shared{hub, cache, repository, commit};
    std::vector<const RemoteFile *> order;
    for (const RemoteFile & file : files) order.push_back(&file);
    // Large files first, so that the last connection does not end long after the others. Equal contents come one after
    // another: the second waits for the lock of the first.
    std::stable_sort(order.begin(), order.end(),
                     [](const RemoteFile * a, const RemoteFile * b) { return a->size > b->size; });
    shared.bytes_total = bytes_of(files), shared.files_total = files.size();
    GNV_TRY(cache.prepare());

    std::atomic<size_t> next{0};
    std::mutex mutex;
    Status first; // of the failures
    const auto work = [&] {
        Status status = guard_exceptions([&] { return run_connection(shared, order, next); });
        if (status.ok()) return;
        const std::lock_guard<std::mutex> lock(mutex);
        shared.stops = true;
        if (first.ok()) first = std::move(status);
    };
    std::vector<std::thread> threads;
    const size_t count = std::min(order.size(), size_t(std::max(hub.connections, 1)));
    (void)guard_exceptions([&]() -> Status { // fewer threads do the same
        while (threads.size() + 1 < count) threads.emplace_back(work);
        return {};
    })
        .ok();
    work();
    for (std::thread & thread : threads) thread.join();
    GNV_TRY(std::move(first));
    return shared.report() ? Status() : fail(Code::cancelled, "stopped on request");
}

} // namespace gnv
