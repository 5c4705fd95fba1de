#include "cpu/row_kernels.h"

namespace gnv::cpu {

// weight_offset + w
static uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.inputs[1].shape.elements()) * sizeof(float);
}

static Status run(KernelCall & call) {
    const RmsNormParams & params = call.as<RmsNormParams>();
    const Tensor &x = call.inputs[0], &y = call.outputs[0];
    const int64_t stride = x.shape.last(), width = y.shape.last();
    float * const scale = static_cast<float *>(call.scratch);
    const float * const w = widened(call, call.inputs[1], scale);
    for (int64_t c = 0; c < width; c++) scale[c] = params.weight_offset + w[c];
    return for_blocks(*call.threads, y.shape.rows(), width, [&](int64_t first, int64_t last, int) {
        loops(call).rows.rms_norm(x.as<const float>() + first * stride, stride, scale, last - first, width,
                                  params.epsilon, rounds(call), y.as<float>() + first * width);
    });
}

const KernelEntry rms_norm_entry = {run, scratch_bytes};

} // namespace gnv::cpu
