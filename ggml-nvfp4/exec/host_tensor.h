// Tensors of a device copied to host memory, activations widened to F32.
#pragma once

#include "exec/backend.h"

#include <cstdint>
#include <vector>

namespace gnv {

struct HostTensor {
    std::vector<float> memory; // or as many bytes of another dtype
    Tensor tensor;             // f32 where it was BF16, else as it was
};
// Waits for the compute queue.
Result<HostTensor> download_tensor(Backend & device, const Tensor & tensor);

// `count` elements, BF16 or F32, become F32.
Status widen_to_float(DType dtype, const void * from, int64_t count, float * to, ThreadPool & threads);

} // namespace gnv
