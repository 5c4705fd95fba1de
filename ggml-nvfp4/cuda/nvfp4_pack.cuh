// The codec's kernels; contracts in exec/device_quantizer.h. `processors`: streaming multiprocessors of the device.
#pragma once

#include "exec/backend.h"

#include <cuda_runtime.h>
#include <span>

namespace gnv::cuda {

cudaError_t nvfp4_absolute_maximum(cudaStream_t stream, int processors, std::span<const WeightsToMeasure> weights);
cudaError_t nvfp4_pack(cudaStream_t stream, int processors, std::span<const WeightsToPack> weights);
// The block scale that leaves the least sum of squared errors, of all that there are.
cudaError_t nvfp4_pack_least_squares(cudaStream_t stream, int processors, std::span<const WeightsToPack> weights);

} // namespace gnv::cuda
