// A counting sort, on the calling thread: a few nanoseconds for each choice, beside the products that
// each choice costs.
#include "cpu/row_kernels.h"

namespace gnv::cpu {

static Status run(KernelCall & call) {
    const ExpertOrderParams & params = call.as<ExpertOrderParams>();
    const int32_t * const indices = call.inputs[0].as<const int32_t>();
    int32_t * const slots = call.outputs[0].as<int32_t>();
    int32_t * const offsets = call.outputs[1].as<int32_t>();
    const int64_t choices = call.inputs[0].shape.elements();
    const auto group_of = [&](int64_t slot) { return uint64_t(int64_t(indices[slot]) - params.first); };
    const uint64_t groups = uint64_t(params.count);

    std::fill_n(offsets, groups + 1, 0);
    for (int64_t slot = 0; slot < choices; slot++)
        if (group_of(slot) < groups) offsets[group_of(slot) + 1]++;
    for (uint64_t g = 0; g < groups; g++) offsets[g + 1] += offsets[g];
    for (int64_t slot = 0; slot < choices; slot++)
        if (group_of(slot) < groups) slots[offsets[group_of(slot)]++] = int32_t(slot);
    // Each offset now stands where the next group begins.
    for (uint64_t g = groups; g > 0; g--) offsets[g] = offsets[g - 1];
    offsets[0] = 0;
    return {};
}

const KernelEntry expert_order_entry = {run};

} // namespace gnv::cpu
