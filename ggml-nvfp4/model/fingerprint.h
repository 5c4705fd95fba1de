// The identity of the model in a checkpoint.
#pragma once

#include "checkpoint/safetensors.h"

#include <string>

namespace gnv {

// SHA-256 over names, dtypes and shapes of all tensors and over the content of the small ones (norms and the like,
// which training changes too): the same for the same weights in any sharding, another for another model or fine-tune.
Result<std::string> model_fingerprint(const Checkpoint & checkpoint, const FolderFiles & files);

} // namespace gnv
