#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const float * const x = call.inputs[0].as<const float>();
    float * const y = call.outputs[0].as<float>();
    const bool tanh = call.as<GeluParams>().tanh;
    const int64_t cost = tanh ? 2 : 8;
    return for_blocks(*call.threads, call.outputs[0].shape.elements(), cost, [&](int64_t first, int64_t last, int) {
        loops(call).rows.gelu(x + first, last - first, tanh, rounds(call), y + first);
    });
}

const KernelEntry gelu_entry = {run};

} // namespace gnv::cpu
