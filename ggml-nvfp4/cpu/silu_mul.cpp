#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const float *gate = call.inputs[0].as<const float>(), *up = call.inputs[1].as<const float>();
    float * const y = call.outputs[0].as<float>();
    return for_blocks(*call.threads, call.outputs[0].shape.elements(), 2, [&](int64_t first, int64_t last, int) {
        loops().rows.silu_mul(gate + first, up + first, last - first, rounds(call), y + first);
    });
}

const KernelEntry silu_mul_kernel = {run, nullptr};

} // namespace gnv::cpu
