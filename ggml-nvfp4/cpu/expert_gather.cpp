#include "cpu/row_kernels.h"

#include <cstring>

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const ExpertGatherParams & params = call.as<ExpertGatherParams>();
    const Tensor &x = call.inputs[0], &into = call.inputs[3], &y = call.outputs[0];
    const int32_t * const slots = call.inputs[1].as<const int32_t>();
    const int32_t * const offsets = call.inputs[2].as<const int32_t>() + params.first; // of the experts that x has
    const int64_t width = y.shape.last(), rows = y.shape.rows();
    const size_t row_bytes = size_t(tensor_bytes(y.dtype, {width}));
    const int64_t begin = offsets[0], end = offsets[params.count];
    const bool moves = into.exists() && into.data != y.data; // then all other rows come along
    const int64_t from = moves ? 0 : begin, to = moves ? rows : end;
    return for_blocks(*call.threads, to - from, width, [&](int64_t first, int64_t last, int) {
        for (int64_t j = from + first; j < from + last; j++) {
            uint8_t * const row = y.as<uint8_t>() + size_t(j) * row_bytes;
            if (j < begin || j >= end) {
                memcpy(row, into.as<const uint8_t>() + size_t(j) * row_bytes, row_bytes);
                continue;
            }
            const int64_t group = std::upper_bound(offsets, offsets + params.count, j) - offsets - 1;
            const int64_t piece = slots[j] / params.slots_per_token * params.count + group;
            memcpy(row, x.as<const uint8_t>() + size_t(piece) * row_bytes, row_bytes);
        }
    });
}

const KernelEntry expert_gather_entry = {run};

} // namespace gnv::cpu
