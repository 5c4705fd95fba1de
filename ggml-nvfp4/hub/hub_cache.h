// A repository in the cache that huggingface_hub and its programs share:
//
//   CACHE/models--ORG--NAME/blobs/HASH                   a file's content
//   CACHE/models--ORG--NAME/blobs/HASH.incomplete        its first bytes, to go on with
//   CACHE/models--ORG--NAME/snapshots/COMMIT/NAME        a link to the blob
//   CACHE/models--ORG--NAME/refs/REVISION                the commit that a branch or tag stood for
//   CACHE/.locks/models--ORG--NAME/HASH.lock             locked while a program writes the blob
#pragma once

#include "core/stop_check.h"
#include "hub/card/hub_names.h"
#include "hub/repository.h"

namespace gnv {

class HubCache {
  public:
    HubCache(std::string root, const RepositoryName & repository)
        : root_(std::move(root)), folder_(root_ + "/" + repository.cache_folder()), name_(repository.cache_folder()) {}

    const std::string & folder() const { return folder_; }
    std::string blob(const std::string & hash) const { return folder_ + "/blobs/" + hash; }
    std::string snapshot(const std::string & commit) const { return folder_ + "/snapshots/" + commit; }

    Status prepare() const; // makes the folders
    // The commit that `revision` stands for here; "" where it is unknown.
    std::string find_commit(const std::string & revision) const;
    // The bytes of the blob, or of its first part, that are here already.
    uint64_t bytes_here(const RemoteFile & file) const;
    // The complete blob is here.
    bool has_blob(const RemoteFile & file) const;
    Status add_to_snapshot(const RemoteFile & file, const std::string & commit) const;
    Status set_reference(const std::string & revision, const std::string & commit) const;

    // An exclusive lock, the one that huggingface_hub takes; waits for it. Released when the object ends.
    class Lock {
      public:
        Lock(Lock && other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
        ~Lock();

      private:
        friend class HubCache;
        explicit Lock(int fd) : fd_(fd) {}
        int fd_;
    };
    Result<Lock> lock(const RemoteFile & file, const StopCheck & stop) const;

  private:
    std::string root_, folder_, name_;
};

// Makes a folder and those above it.
Status make_folders(const std::string & path);

} // namespace gnv
