// The identity of a checkpoint and of the model in it.
#pragma once

#include "checkpoint/safetensors.h"

#include <string>

namespace gnv {

// SHA-256 over names, dtypes and shapes of all tensors and over the content of the small ones (norms and the like,
// which training changes too): the same for the same weights in any sharding, another for another model or fine-tune.
Result<std::string> model_fingerprint(const Checkpoint & checkpoint, const FolderFiles & files);

// SHA-256 over names, sizes, times and headers of the shards: another for files that were written again.
Result<std::string> shard_fingerprint(const Checkpoint & checkpoint);

} // namespace gnv
