#include "cpu/row_kernels.h"

#include <cstring>

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const float * const x = call.inputs[0].as<const float>();
    const uint8_t * const mask = call.inputs[1].as<const uint8_t>();
    float * const y = call.outputs[0].as<float>();
    const int64_t width = call.inputs[0].shape.last();
    const size_t bytes = size_t(width) * sizeof(float);
    return for_blocks(*call.threads, call.inputs[0].shape.rows(), width, [&](int64_t first, int64_t last, int) {
        for (int64_t t = first; t < last; t++)
            if (!mask[t])
                memset(y + t * width, 0, bytes);
            else if (y != x)
                memcpy(y + t * width, x + t * width, bytes);
    });
}

const KernelEntry mask_rows_entry = {run};

} // namespace gnv::cpu
