#include "hub/file_transfer.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace gnv {

namespace {

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

Retry retry_of(const HubOptions & hub, const HttpClient & client) {
    RetryRule rule = hub.retry;
    rule.tries = std::max(rule.tries, file_tries);
    return Retry(rule, client.options().stop);
}

Status check_place(const HttpResponse & response, const RemoteFile & file, uint64_t wanted, uint64_t & begin) {
    uint64_t size = file.size;
    begin = 0;
    if (response.status == 206 && !parse_content_range(response.header("content-range"), begin, size))
        return fail(Code::format, "a part without its place: Content-Range is \"",
                    printable(response.header("content-range")), "\"");
    if (response.status == 206 && begin != wanted)
        return fail(Code::format, "the server sends bytes from ", begin, " on, and ", wanted, " is the next");
    if (size == file.size) return {};
    return fail(Code::format, "the server's file has ", size, " bytes, and the hub's list says ", file.size);
}

} // namespace

std::string RemotePlace::url(const HttpClient & client, const RemoteFile & file) const {
    return concat(client.options().endpoint, repository.web_path(), "/resolve/", commit, "/", escape_path(file.name));
}

std::string RemotePlace::subject(const RemoteFile & file) const {
    return concat(repository.text(), ": ", printable(file.name));
}

// --- A whole file -----------------------------------------------------------------------------------------------------------

Status FileTransfer::run(const File & file, uint64_t here, bool keeps_size) {
    file_ = &file;
    keeps_size_ = keeps_size;
    restart_hash();
    GNV_TRY(hash_present(here));
    Status status = fetch();
    return status.ok() ? Status() : std::move(status.add_context(place_.subject(remote_)));
}

Status FileTransfer::hash_present(uint64_t here) {
    if (here > remote_.size) return restart();
    std::string piece(size_t(std::min(here, hash_piece)), '\0');
    while (size_ < here) {
        const uint64_t count = std::min<uint64_t>(piece.size(), here - size_);
        GNV_TRY(file_->read(piece.data(), count, size_));
        GNV_TRY(take(piece.data(), size_t(count)));
    }
    return {};
}

void FileTransfer::restart_hash() {
    if (size_ > 0) (void)count_(-int64_t(size_));
    size_ = 0;
    hash_ = std::make_unique<ContentHash>(remote_.hash, remote_.size);
}

Status FileTransfer::restart() {
    restart_hash();
    etag_.clear();
    return keeps_size_ ? Status() : file_->cut(0);
}

// Counts and hashes bytes that stand in the file.
Status FileTransfer::take(const char * data, size_t count) {
    hash_->update(data, count);
    size_ += count;
    return count_(int64_t(count)) ? Status() : fail(Code::cancelled, "stopped on request");
}

// From the first missing byte on, until the file is complete and its hash is right.
Status FileTransfer::fetch() {
    Retry retry = retry_of(place_.hub, client_);
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
            Status failure = response_failure(outcome.response, place_.repository.text(), client_.options());
            if (outcome.response.status != 416 && !is_retried_status(outcome.response)) return failure;
            GNV_TRY(retry.wait(std::move(failure), &outcome.response));
        } else {
            GNV_TRY(retry.wait(fail(Code::format, "the server ends after ", size_, " of ", remote_.size, " bytes")));
        }
    }
}

HttpOutcome FileTransfer::try_once() {
    HttpRequest request;
    request.url = place_.url(client_, remote_);
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

Status FileTransfer::begin_part(const HttpResponse & response) {
    uint64_t begin = 0, length = 0;
    is_damaged_ = true;
    if (response.status != 206 && size_ > 0) GNV_TRY(restart()); // the whole file comes again
    GNV_TRY(check_place(response, remote_, size_, begin));
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

Status FileTransfer::take_part(const char * data, size_t count) {
    if (count > remote_.size - size_) {
        is_damaged_ = true;
        return fail(Code::format, "the server sends more than the ", remote_.size, " bytes of the file");
    }
    GNV_TRY(file_->write(data, count, size_));
    return take(data, count);
}

// --- A part -----------------------------------------------------------------------------------------------------------------

Result<std::string> fetch_range(const RemotePlace & place, HttpClient & client, const RemoteFile & file,
                                uint64_t offset, uint64_t size) {
    if (size > file.size || offset > file.size - size)
        return fail(Code::format, place.subject(file), " has ", file.size, " bytes, and ", size, " from byte ", offset,
                    " on are wanted");
    std::string bytes;
    uint64_t position = 0; // in the file, of the next byte of the response
    bool is_damaged = false;
    HttpRequest request;
    request.url = place.url(client, file);
    request.headers.push_back(concat("Range: bytes=", offset, "-", offset + size - 1));
    request.limit = UINT64_MAX; // the rest of a whole file is cut off below
    request.begin = [&](const HttpResponse & response) -> Status {
        bytes.clear();
        is_damaged = true;
        GNV_TRY(check_place(response, file, offset, position));
        is_damaged = false;
        return {};
    };
    request.take = [&](const char * data, size_t count) -> Status {
        const uint64_t skipped = std::min<uint64_t>(count, offset > position ? offset - position : 0);
        const uint64_t kept = std::min<uint64_t>(count - skipped, size - bytes.size());
        bytes.append(data + skipped, size_t(kept));
        position += count;
        // A server without ranges sends all of the file; the rest is of no use.
        return bytes.size() < size || skipped + kept == count ? Status() : fail(Code::format, "more than was wanted");
    };
    Retry retry = retry_of(place.hub, client);
    int bad_answers = 0;
    while (size > 0) {
        bytes.clear();
        HttpOutcome outcome = client.send(request);
        if (bytes.size() == size) break;
        if (!outcome.failure.ok()) {
            if (!is_damaged && !outcome.may_succeed_later)
                return std::move(outcome.failure.add_context(place.subject(file)));
            if (is_damaged && ++bad_answers >= most_bad_answers)
                return std::move(outcome.failure.add_context(place.subject(file)));
            GNV_TRY(retry.wait(std::move(outcome.failure.add_context(place.subject(file)))));
        } else if (!outcome.response.is_success()) {
            Status failure = response_failure(outcome.response, place.repository.text(), client.options());
            if (!is_retried_status(outcome.response)) return failure;
            GNV_TRY(retry.wait(std::move(failure), &outcome.response));
        } else {
            GNV_TRY(retry.wait(fail(Code::format, place.subject(file), ": the server ends after ", bytes.size(), " of ",
                                    size, " bytes")));
        }
    }
    return bytes;
}

} // namespace gnv
