// A model of the hub whose weights stay there: a folder with the small files in the cache, and weights that are downloaded
// shortly before they are read and removed after their last use, within a limit of disk space.
//
// A file of weights is always fetched whole, into a file without a name that vanishes with the process, and is read only when its
// hash is the hub's. Headers, and the small tensors of a fingerprint, come first, by ranges: they are compared with the file
// when it comes.
#pragma once

#include "formats/folder.h"
#include "hub/hub_client.h"
#include "hub/repository.h"

#include <memory>

namespace gnv {

// Downloads the small files that the cache lacks, and the beginnings of the weights. `disk_bytes`: the limit; 0: the four
// largest files, or less where the disk has less. A model that is complete in the cache is opened there. `hub.http.stop` and
// `hub.progress` are also called later, by reads and from threads that fetch ahead; true, or false, ends all of them.
Result<std::shared_ptr<const Folder>> stream_model(const HubOptions & hub, const RepositoryName & model,
                                                   uint64_t disk_bytes);

} // namespace gnv
