#include "cpu/row_kernels.h"

#include <cstring>

namespace gnv::cpu {

static void copy_row(const KernelCall & call, const float * row, int64_t width, float * y) {
    if (rounds(call)) return loops(call).mixer.round(width, row, y);
    memcpy(y, row, size_t(width) * sizeof(float));
}

static Status run(KernelCall & call) {
    const Tensor &table = call.inputs[1], &given = call.inputs[2];
    const int32_t * const ids = call.inputs[0].as<const int32_t>();
    float * const y = call.outputs[0].as<float>();
    const int64_t width = table.shape.last();
    return for_blocks(*call.threads, call.outputs[0].shape.rows(), width, [&](int64_t first, int64_t last, int) {
        for (int64_t t = first; t < last; t++) {
            const int64_t from = ids[t] * width;
            if (ids[t] < 0)
                copy_row(call, given.as<const float>() + (-1 - int64_t(ids[t])) * width, width, y + t * width);
            else if (table.dtype == DType::bf16)
                loops(call).rows.widen_bf16(table.as<const uint16_t>() + from, width, y + t * width);
            else
                memcpy(y + t * width, table.as<const float>() + from, size_t(width) * sizeof(float));
        }
    });
}

const KernelEntry embedding_entry = {run};

} // namespace gnv::cpu
