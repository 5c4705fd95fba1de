// First the rows of each token are listed, in ascending order, which is that of experts; then tokens are independent.
#include "cpu/row_kernels.h"

namespace gnv::cpu {

// counts i32 [T], rows i32 [T, m], weights f32 [T, m], where m = n / T is the largest number of rows of a token.
static uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.outputs[0].shape.rows() + 2 * call.inputs[2].shape.elements()) * sizeof(int32_t);
}

static Status run(KernelCall & call) {
    const Tensor &sum = call.inputs[0], &slots = call.inputs[2], &offsets = call.inputs[3], &weights = call.inputs[4];
    const int64_t tokens = call.outputs[0].shape.rows(), width = call.outputs[0].shape.last();
    if (tokens == 0) return {};
    const int64_t per_token = weights.shape.last(), most = slots.shape.elements() / tokens;
    int32_t * const counts = static_cast<int32_t *>(call.scratch);
    int32_t * const rows = counts + tokens;
    float * const row_weights = reinterpret_cast<float *>(rows + tokens * most);
    std::fill_n(counts, tokens, 0);
    const int32_t used = offsets.as<const int32_t>()[offsets.shape.elements() - 1];
    for (int32_t j = 0; j < used; j++) {
        const int32_t slot = slots.as<const int32_t>()[j];
        const int64_t token = slot / per_token, place = token * most + counts[token]++;
        rows[place] = j;
        row_weights[place] = weights.as<const float>()[slot];
    }
    const float * const y = call.inputs[1].as<const float>();
    return for_blocks(*call.threads, tokens, width * (most + 1), [&](int64_t first, int64_t last, int) {
        for (int64_t t = first; t < last; t++)
            loops(call).rows.combine(sum.exists() ? sum.as<const float>() + t * width : nullptr, y, rows + t * most,
                                     row_weights + t * most, counts[t], width, call.outputs[0].as<float>() + t * width);
    });
}

const KernelEntry expert_combine_entry = {run, scratch_bytes};

} // namespace gnv::cpu
