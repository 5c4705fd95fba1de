// The kernel table of CUDA devices: cuda/<op>.cu defines <op>_entry for each op of graph/ops.h.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

GNV_OPS(GNV_DECLARE_ENTRY)

const KernelEntry & kernel(Op op);

} // namespace gnv::cuda
