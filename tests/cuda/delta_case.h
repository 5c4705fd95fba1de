// Gated DeltaNet on segments of some lengths, and one of them alone.
#pragma once

#include "cuda/device_fixture.h"

#include <numeric>

namespace gnv::test {

inline OpCase delta_case(std::mt19937 & random, const std::vector<int> & lengths, int key_heads, int value_heads,
                         int key_head, int value_head, bool with_state) {
    const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), 0), count = int64_t(lengths.size());
    GatedDeltaNetParams params;
    params.key_heads = key_heads, params.value_heads = value_heads, params.key_head = key_head,
    params.value_head = value_head;
    return {params,
            {activation(random, {tokens, 2 * key_heads * key_head + value_heads * value_head}),
             activation(random, {tokens, value_heads}), activation(random, {tokens, value_heads}),
             weight(random, DType::f32, {value_heads}), weight(random, DType::f32, {value_heads}),
             indices({count + 1}, segments_of(lengths)),
             zero_state(DType::f32, {count, value_heads, key_head, value_head})},
            {true, true, true, true, true, true, with_state}};
}

// Positions [first, first + count) of a Gated DeltaNet as the only segment.
inline OpCase one_segment(const OpCase & op, int64_t first, int64_t count, std::vector<float> memory) {
    OpCase one = op;
    for (size_t i = 0; i < 3; i++) {
        const int64_t width = op.inputs[i].shape.last();
        const auto numbers = op.inputs[i].numbers.begin() + first * width;
        one.inputs[i].numbers.assign(numbers, numbers + count * width);
        one.inputs[i].shape = {count, width};
    }
    one.inputs[5] = indices({2}, {0, int32_t(count)});
    one.inputs[6].shape.dims[0] = 1;
    one.inputs[6].numbers = std::move(memory);
    return one;
}

} // namespace gnv::test
