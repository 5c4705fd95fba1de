#include "cpu/row_kernels.h"

namespace gnv::cpu {

// Floats of one thread's probabilities: whole cache lines.
static int64_t row_floats(const KernelCall & call) { return (call.inputs[0].shape.last() + 15) / 16 * 16; }

static uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(row_floats(call)) * sizeof(float) * uint64_t(call.threads->size());
}

static Status run(KernelCall & call) {
    const int64_t chosen = call.as<RouterParams>().experts_per_token;
    const int64_t experts = call.inputs[0].shape.last();
    const float * const logits = call.inputs[0].as<const float>();
    float * const weights = call.outputs[0].as<float>();
    int32_t * const indices = call.outputs[1].as<int32_t>();
    const auto route = [&](int64_t first, int64_t last, int thread) {
        float * const probabilities = static_cast<float *>(call.scratch) + thread * row_floats(call);
        for (int64_t t = first; t < last; t++)
            loops(call).rows.router(logits + t * experts, experts, chosen, rounds(call), probabilities,
                                    weights + t * chosen, indices + t * chosen);
    };
    return for_blocks(*call.threads, call.inputs[0].shape.rows(), 8 * experts, route);
}

const KernelEntry router_entry = {run, scratch_bytes};

} // namespace gnv::cpu
