#include "cpu/row_kernels.h"

namespace gnv::cpu {

static uint64_t scratch_bytes(const KernelCall & call) { // w in F32
    return uint64_t(call.inputs[1].shape.elements()) * sizeof(float);
}

static Status run(KernelCall & call) {
    const GatedRmsNormParams & params = call.as<GatedRmsNormParams>();
    const float *x = call.inputs[0].as<const float>(), *z = call.inputs[2].as<const float>();
    const float * const w = widened(call, call.inputs[1], static_cast<float *>(call.scratch));
    float * const y = call.outputs[0].as<float>();
    const Shape & shape = call.outputs[0].shape;
    const int64_t width = shape.last();
    return for_blocks(*call.threads, shape.rows(), 2 * width, [&](int64_t first, int64_t last, int) {
        const int64_t begin = first * width;
        loops(call).rows.gated_rms_norm(x + begin, w, z + begin, last - first, width, params.epsilon, params.sigmoid,
                                        rounds(call), y + begin);
    });
}

const KernelEntry gated_rms_norm_entry = {run, scratch_bytes};

} // namespace gnv::cpu
