// The bytes of one file of a repository: all of it into a file here, checked against the hub's hash, or a part of it.
#pragma once

#include "formats/file.h"
#include "hub/content_hash.h"
#include "hub/repository.h"

#include <functional>
#include <memory>
#include <string>

namespace gnv {

// A file of a repository at a commit, which no address of another commit serves.
struct RemotePlace {
    const HubOptions & hub;
    const RepositoryName & repository;
    const std::string & commit;

    std::string url(const HttpClient & client, const RemoteFile & file) const;
    std::string subject(const RemoteFile & file) const; // for messages
};

// The transfer of a whole file. It goes on behind each cut connection, and begins anew where the hash is wrong.
class FileTransfer {
  public:
    // `count`: bytes that came, or, below zero, that have to come again; false asks to stop.
    using Count = std::function<bool(int64_t bytes)>;
    // All arguments must outlive it.
    FileTransfer(const RemotePlace & place, HttpClient & client, const RemoteFile & file, Count count)
        : place_(place), client_(client), remote_(file), count_(std::move(count)) {}

    // Into `file`, whose first `here` bytes an earlier transfer brought, and are only hashed. `keeps_size`: space is reserved in
    // it, which stays. The content is right when this succeeds.
    Status run(const File & file, uint64_t here, bool keeps_size = false);

  private:
    void restart_hash();
    Status restart();
    Status take(const char * data, size_t count);
    Status hash_present(uint64_t here);
    Status fetch();
    HttpOutcome try_once();
    Status begin_part(const HttpResponse & response);
    Status take_part(const char * data, size_t count);

    const RemotePlace place_;
    HttpClient & client_;
    const RemoteFile & remote_;
    const Count count_;
    const File * file_ = nullptr;
    bool keeps_size_ = false;
    std::unique_ptr<ContentHash> hash_; // of the first size_ bytes
    uint64_t size_ = 0;
    std::string etag_;
    bool is_damaged_ = false; // the last response was no good, and the next may be
};

// Bytes [offset, offset + size) of a file. Nothing but TLS and the commit in the address vouches for them.
Result<std::string> fetch_range(const RemotePlace & place, HttpClient & client, const RemoteFile & file,
                                uint64_t offset, uint64_t size);

} // namespace gnv
