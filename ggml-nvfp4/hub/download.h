// Files of a repository into the cache: several at a time, each taken up where an earlier download ended, and named only
// when its hash is the hub's.
#pragma once

#include "hub/hub_cache.h"
#include "hub/repository.h"

namespace gnv {

inline constexpr uint64_t spare_disk_bytes = 64 << 20; // which downloads leave for everything else

// Fails before the first byte if the disk lacks room for what is missing.
Status check_room(const HubCache & cache, const std::vector<RemoteFile> & files);

// `commit` is that of the listing that `files` are of.
Status download_files(const HubOptions & hub, const RepositoryName & repository, const std::string & commit,
                      const std::vector<RemoteFile> & files);

} // namespace gnv
