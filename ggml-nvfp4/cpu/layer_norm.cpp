#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const Tensor &x = call.inputs[0], &w = call.inputs[1], &b = call.inputs[2];
    const int64_t width = x.shape.last();
    float * const y = call.outputs[0].as<float>();
    return for_blocks(*call.threads, x.shape.rows(), width, [&](int64_t first, int64_t last, int) {
        loops(call).rows.layer_norm(x.as<const float>() + first * width, w.as<const float>(), b.as<const float>(),
                                    last - first, width, call.as<LayerNormParams>().epsilon, rounds(call),
                                    y + first * width);
    });
}

const KernelEntry layer_norm_entry = {run};

} // namespace gnv::cpu
