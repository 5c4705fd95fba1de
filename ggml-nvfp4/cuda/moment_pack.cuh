// Quantizers that weigh errors by second moments; contracts in exec/device_quantizer.h.
#pragma once

#include "exec/device_quantizer.h"

#include <cuda_runtime.h>

namespace gnv::cuda {

// `is_full`: totals are [K][K] and rows are quantized by GPTQ first; else [K / 16][16][16], and by local Hessians.
uint64_t moment_work_bytes(int64_t columns, bool is_full);
cudaError_t nvfp4_pack_by_moments(cudaStream_t stream, int processors, bool is_full, std::span<UnitToPack> units,
                                  void * work, uint64_t work_bytes);

} // namespace gnv::cuda
