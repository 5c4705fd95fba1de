// The codec's kernels; contracts in exec/device_quantizer.h. `processors`: streaming multiprocessors of the device.
#pragma once

#include "exec/backend.h"

#include <cuda_runtime.h>
#include <span>

namespace gnv::cuda {

cudaError_t nvfp4_absolute_maximum(cudaStream_t stream, int processors, std::span<const WeightsToMeasure> weights);
cudaError_t nvfp4_pack(cudaStream_t stream, int processors, std::span<const WeightsToPack> weights);

} // namespace gnv::cuda
