#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const int64_t column = call.as<SigmoidGateParams>().column;
    const float *x = call.inputs[0].as<const float>(), *gates = call.inputs[1].as<const float>();
    float * const y = call.outputs[0].as<float>();
    const int64_t width = call.inputs[0].shape.last(), stride = call.inputs[1].shape.last();
    const bool one_for_all = stride == column + 1;
    return for_blocks(*call.threads, call.inputs[0].shape.rows(), 2 * width, [&](int64_t first, int64_t last, int) {
        for (int64_t r = first; r < last; r++) {
            const float * const gate = gates + r * stride + column;
            if (one_for_all)
                loops(call).rows.sigmoid_scale(x + r * width, *gate, width, rounds(call), y + r * width);
            else
                loops(call).rows.sigmoid_gate(x + r * width, gate, width, rounds(call), y + r * width);
        }
    });
}

const KernelEntry sigmoid_gate_entry = {run};

} // namespace gnv::cpu
