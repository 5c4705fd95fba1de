#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const Shape & shape = call.inputs[0].shape;
    const int32_t * const indices = call.inputs[0].as<const int32_t>();
    const uint8_t * const mask = call.inputs[1].as<const uint8_t>(); // null: no pads
    int64_t * const counts = call.inputs[2].as<int64_t>();
    const int64_t per_token = shape.last();
    for (int64_t t = 0; t < shape.rows(); t++) {
        if (mask && !mask[t]) continue;
        for (int64_t j = 0; j < per_token; j++) counts[indices[t * per_token + j]]++;
    }
    return {};
}

const KernelEntry count_experts_entry = {run};

} // namespace gnv::cpu
