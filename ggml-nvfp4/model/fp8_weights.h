// Linears in FP8 (E4M3) with scales, which checkpoints of mixed precision hold beside NVFP4: found by name, read as F32.
#pragma once

#include "checkpoint/safetensors.h"
#include "core/status.h"
#include "model/model_def.h"

#include <cstdint>

namespace gnv {

// The position of the scales of an FP8 weight, X.weight_scale; -1: there are none, or the tensor is no X.weight.
int64_t find_fp8_scales(const Checkpoint & checkpoint, const TensorInfo & weight);

// Whether the tensor is a Linear in FP8. Code::model where its scales are missing or do not fit it.
Result<bool> check_fp8(const TensorSpec & spec, const TensorInfo & weight, const Checkpoint & checkpoint);

} // namespace gnv
