// On the calling thread: the CPU has no memory apart from the host's, so that this serves tests.
#include "cpu/row_kernels.h"

#include <cstring>

namespace gnv::cpu {

namespace {

// The codes and block scales of an expert, from a stack to its cache.
void copy_expert(const Tensor & stack, int64_t expert, const Tensor & cache, int64_t place) {
    const Shape one = {stack.shape[1], stack.shape[2]};
    const auto bytes = int64_t(tensor_bytes(stack.dtype, one));
    memcpy(cache.as<uint8_t>() + place * bytes, stack.as<const uint8_t>() + expert * bytes, size_t(bytes));
    if (stack.dtype != DType::f4) return;
    const int64_t scales = one.elements() / 16;
    memcpy(const_cast<uint8_t *>(cache.block_scales) + place * scales, stack.block_scales + expert * scales,
           size_t(scales));
}

// Where the next expert goes: never to one that is chosen.
int64_t next_place(const int32_t * offsets, const int32_t * counts, const int32_t * holds, int64_t count) {
    int64_t best = -1;
    for (int64_t place = 0; place < count; place++) {
        const int32_t expert = holds[place] - 1;
        if (expert < 0) return place;
        if (offsets[expert] < offsets[expert + 1]) continue;
        if (best < 0 || counts[expert] < counts[holds[best] - 1]) best = place;
    }
    return best;
}

} // namespace

static Status run(KernelCall & call) {
    const auto * const offsets = call.inputs[0].as<const int32_t>();
    const int64_t experts = call.inputs[0].shape[0] - 1, count = call.inputs[2].shape[0];
    auto *const table = call.inputs[7].as<int32_t>(), *const places = call.outputs[0].as<int32_t>();
    int32_t *const counts = table, *const holds = table + experts;
    const auto is_chosen = [&](int64_t g) { return offsets[g] < offsets[g + 1]; };
    std::fill_n(places, experts, -1);
    for (int64_t place = 0; place < count; place++)
        if (holds[place] > 0) places[holds[place] - 1] = int32_t(place);
    for (int64_t g = 0; g < experts; g++) {
        if (!is_chosen(g) || places[g] >= 0) continue;
        const int64_t place = next_place(offsets, counts, holds, count);
        GNV_CHECK(place >= 0); // no more than C are chosen
        if (holds[place] > 0) places[holds[place] - 1] = -1;
        holds[place] = int32_t(g) + 1;
        places[g] = int32_t(place);
        for (const int i : {1, 3, 5})
            if (call.inputs[i].exists()) copy_expert(call.inputs[i], g, call.inputs[i + 1], place);
    }
    for (int64_t g = 0; g < experts; g++) counts[g] += (is_chosen(g) ? 1024 : 0) - counts[g] / 64;
    return {};
}

const KernelEntry expert_fetch_entry = {run};

} // namespace gnv::cpu
