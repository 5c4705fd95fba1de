#include "cpu/row_kernels.h"

namespace gnv::cpu {

enum { in_gate, in_up, in_maxima, in_offsets }; // the last two only with groups

static Status run(KernelCall & call) {
    const auto * const gate = call.inputs[in_gate].as<const float>();
    const auto * const up = call.inputs[in_up].as<const float>();
    float * const y = call.outputs[0].as<float>();
    const auto make = [&](int64_t first, int64_t last) { // elements
        loops(call).rows.silu_mul(gate + first, up + first, last - first, rounds(call), y + first);
    };
    const int64_t groups = call.as<SiluMulParams>().groups, count = call.outputs[0].shape.elements();
    int64_t observed = 0; // elements that are made as they are looked at
    if (groups > 0) {
        call.bad_row = -1;
        const GroupedRows rows(call.outputs[0], call.inputs[in_offsets], groups);
        observed = rows.rows * rows.stride;
        GNV_TRY(observe_maxima(call, rows, call.inputs[in_maxima].as<float>(),
                               [&](int64_t first, int64_t last) { make(first * rows.stride, last * rows.stride); }));
    }
    return for_blocks(*call.threads, count - observed, 2,
                      [&](int64_t first, int64_t last, int) { make(observed + first, observed + last); });
}

static uint64_t scratch_bytes(const KernelCall & call) {
    const int64_t groups = call.as<SiluMulParams>().groups;
    return groups > 0 ? maxima_scratch_bytes(groups, call.threads->size()) : 0;
}

const KernelEntry silu_mul_entry = {run, scratch_bytes};

} // namespace gnv::cpu
