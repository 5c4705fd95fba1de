#include "hub/download.h"

#include "formats/file.h"
#include "hub/content_hash.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace gnv {

namespace {

constexpr uint64_t spare_bytes = 64 << 20; // of the disk, for everything else
constexpr uint64_t hash_piece = 1 << 20;
constexpr int most_wrong_hashes = 4; // of one file; the next try begins with its first byte
constexpr int most_bad_answers = 8;  // in a row, with another length or place than the file has
constexpr int file_tries = 12;       // in a row without a new byte

// "bytes 5-9/10": where the bytes of a response begin in the file, and its size.
bool parse_content_range(const std::string & text, uint64_t & begin, uint64_t & size) {
    unsigned long long first = 0, last = 0, all = 0;
    char end = 0;
    if (sscanf(text.c_str(), "bytes %20llu-%20llu/%20llu%c", &first, &last, &all, &end) != 3) return false;
    begin = first, size = all;
    return last < all && first <= last;
}

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
        : shared_(shared), client_(client), remote_(file),
          subject_(concat(shared.repository.text(), ": ", printable(file.name))) {}

    Status run() {
        GNV_ASSIGN(const HubCache::Lock lock, shared_.cache.lock(remote_, client_.options().stop));
        if (!shared_.cache.has_blob(remote_)) {
            GNV_TRY(open());
            Status status = fetch();
            if (!status.ok()) return std::move(status.add_context(subject_));
            GNV_TRY(publish());
        } else {
            shared_.bytes += remote_.size;
        }
        shared_.files++;
        return shared_.cache.add_to_snapshot(remote_, shared_.commit);
    }

  private:
    std::string path() const { return shared_.cache.blob(remote_.hash) + ".incomplete"; }

    // Opens what an earlier download left, and hashes it.
    Status open() {
        Result<File> opened = path_exists(path()) ? File::open_own(path()) : File::create(path());
        if (!opened.ok()) return opened.take_status();
        file_.emplace(opened.take());
        GNV_ASSIGN(const FileStamp stamp, file_->stamp());
        if (stamp.size > remote_.size) return restart();
        restart_hash();
        std::string piece(size_t(std::min(stamp.size, hash_piece)), '\0');
        while (size_ < stamp.size) {
            const uint64_t count = std::min<uint64_t>(piece.size(), stamp.size - size_);
            GNV_TRY(file_->read(piece.data(), count, size_));
            GNV_TRY(take(piece.data(), size_t(count)));
        }
        return {};
    }

    void restart_hash() {
        shared_.bytes -= size_;
        size_ = 0;
        hash_ = std::make_unique<ContentHash>(remote_.hash, remote_.size);
    }

    Status restart() {
        restart_hash();
        etag_.clear();
        return file_->cut(0);
    }

    // Counts and hashes bytes that stand in the file.
    Status take(const char * data, size_t count) {
        hash_->update(data, count);
        size_ += count;
        shared_.bytes += count;
        return shared_.report() ? Status() : fail(Code::cancelled, "stopped on request");
    }

    // From the first missing byte on, until the file is complete and its hash is right.
    Status fetch() {
        RetryRule rule = shared_.hub.retry;
        rule.tries = std::max(rule.tries, file_tries);
        Retry retry(rule, client_.options().stop);
        int wrong = 0, bad_answers = 0;
        while (true) {
            if (size_ == remote_.size) {
                const std::string hash = hash_->finish();
                if (hash == remote_.hash) return {};
                if (++wrong >= most_wrong_hashes)
                    return fail(Code::format, "the hub's hash is ", remote_.hash, ", and what it sends has ", hash,
                                ", also after ", wrong, " downloads: report it to the authors");
                if (remote_.size == 0) return fail(Code::format, "an empty file has another hash");
                GNV_TRY(restart());
            }
            const uint64_t before = size_;
            HttpOutcome outcome = try_once();
            if (size_ > before) retry.made_progress(), bad_answers = 0;
            if (size_ == remote_.size) continue;
            if (!outcome.failure.ok()) {
                if (is_damaged_ && ++bad_answers >= most_bad_answers) return std::move(outcome.failure);
                if (!outcome.may_succeed_later) return std::move(outcome.failure);
                GNV_TRY(retry.wait(std::move(outcome.failure)));
            } else if (!outcome.response.is_success()) {
                if (outcome.response.status == 416) GNV_TRY(restart());
                Status failure = response_failure(outcome.response, shared_.repository.text(), client_.options());
                if (outcome.response.status != 416 && !is_retried_status(outcome.response)) return failure;
                GNV_TRY(retry.wait(std::move(failure), &outcome.response));
            } else {
                GNV_TRY(
                    retry.wait(fail(Code::format, "the server ends after ", size_, " of ", remote_.size, " bytes")));
            }
        }
    }

    HttpOutcome try_once() {
        HttpRequest request;
        request.url = concat(client_.options().endpoint, shared_.repository.web_path(), "/resolve/", shared_.commit,
                             "/", escape_path(remote_.name));
        if (size_ > 0) request.headers.push_back(concat("Range: bytes=", size_, "-"));
        if (size_ > 0 && !etag_.empty()) request.headers.push_back("If-Range: " + etag_);
        request.limit = UINT64_MAX; // take_part() refuses more than what is missing
        request.begin = [this](const HttpResponse & response) { return begin_part(response); };
        request.take = [this](const char * data, size_t count) { return take_part(data, count); };
        is_damaged_ = false;
        HttpOutcome outcome = client_.send(request);
        outcome.may_succeed_later |= is_damaged_; // a proxy between may have answered
        return outcome;
    }

    Status begin_part(const HttpResponse & response) {
        uint64_t begin = 0, size = remote_.size, length = 0;
        is_damaged_ = true;
        if (response.status == 206 && !parse_content_range(response.header("content-range"), begin, size))
            return fail(Code::format, "a part without its place: Content-Range is \"",
                        printable(response.header("content-range")), "\"");
        if (response.status != 206 && size_ > 0) GNV_TRY(restart()); // the whole file comes again
        if (begin != size_)
            return fail(Code::format, "the server sends bytes from ", begin, " on, and ", size_, " is the next");
        if (size != remote_.size)
            return fail(Code::format, "the server's file has ", size, " bytes, and the hub's list says ", remote_.size);
        const std::string text = response.header("content-length");
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), length);
        if (!text.empty() && (parsed.ec != std::errc() || length != remote_.size - size_))
            return fail(Code::format, "the server announces ", printable(text), " bytes, and ", remote_.size - size_,
                        " are missing");
        const std::string etag = response.header("etag");
        etag_ = etag.size() < 200 && starts_with(etag, "\"") ? etag : ""; // a weak one is of no use here
        is_damaged_ = false;
        return {};
    }

    Status take_part(const char * data, size_t count) {
        if (count > remote_.size - size_) {
            is_damaged_ = true;
            return fail(Code::format, "the server sends more than the ", remote_.size, " bytes of the file");
        }
        GNV_TRY(file_->write(data, count, size_));
        return take(data, count);
    }

    Status publish() {
        GNV_TRY(file_->sync());
        GNV_TRY(file_->close());
        const std::string blob = shared_.cache.blob(remote_.hash);
        if (rename(path().c_str(), blob.c_str()) != 0) return system_failure(errno, "cannot rename ", path());
        return {};
    }

    Shared & shared_;
    HttpClient & client_;
    const RemoteFile & remote_;
    const std::string subject_;
    std::optional<File> file_;
    std::unique_ptr<ContentHash> hash_; // of the first size_ bytes
    uint64_t size_ = 0;
    std::string etag_;
    bool is_damaged_ = false; // the last response was no good, and the next may be
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
    if (missing <= room && room - missing >= spare_bytes) return {};
    return fail(Code::no_space, cache.folder(), ": ", bytes_text(missing), " are to be downloaded, and the disk has ",
                bytes_text(room), ": make room, or set HF_HUB_CACHE to a folder on another disk");
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
