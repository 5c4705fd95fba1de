#include "cpu/row_kernels.h"

#include <cstring>

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const ColumnsParams & params = call.as<ColumnsParams>();
    const int64_t stride = call.inputs[0].shape.last();
    const float * const x = call.inputs[0].as<const float>() + params.first;
    float * const y = call.outputs[0].as<float>();
    return for_blocks(*call.threads, call.inputs[0].shape.rows(), params.count, [&](int64_t first, int64_t last, int) {
        for (int64_t r = first; r < last; r++)
            if (rounds(call))
                loops(call).mixer.round(params.count, x + r * stride, y + r * params.count);
            else
                memcpy(y + r * params.count, x + r * stride, size_t(params.count) * sizeof(float));
    });
}

const KernelEntry columns_entry = {run};

} // namespace gnv::cpu
