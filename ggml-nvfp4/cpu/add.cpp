#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const float *a = call.inputs[0].as<const float>(), *b = call.inputs[1].as<const float>();
    float * const y = call.outputs[0].as<float>();
    return for_blocks(*call.threads, call.outputs[0].shape.elements(), 1, [&](int64_t first, int64_t last, int) {
        loops(call).rows.add(a + first, b + first, last - first, rounds(call), y + first);
    });
}

const KernelEntry add_entry = {run};

} // namespace gnv::cpu
