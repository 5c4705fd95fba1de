// The codec's kernels; contracts in exec/backend.h.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

namespace gnv::cuda {

cudaError_t nvfp4_absolute_maximum(cudaStream_t stream, const uint16_t * weights, int64_t count, uint32_t * largest);
cudaError_t nvfp4_pack(cudaStream_t stream, const uint16_t * weights, int64_t blocks, float global, uint8_t * codes,
                       uint8_t * scales);

} // namespace gnv::cuda
