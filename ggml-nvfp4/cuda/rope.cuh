// The angles and turns of rope, for its own kernels and for one that does more.
#pragma once

#include "cuda/common.cuh"

#include <cmath>

namespace gnv::cuda {

struct Rope {
    int64_t tokens, heads, head, half;
    int64_t stride, column; // of a row of x, of its first head
    bool axial;
    int64_t section[3];
    double log_theta;
    bool has_yarn;
    float factor, low, high, attention_factor;
};

inline Rope rope_of(const KernelCall & call) {
    const auto & params = call.as<RopeParams>();
    const Tensor & x = call.inputs[0];
    const int64_t heads = call.outputs[0].shape[1] / params.head;
    Rope rope = {x.shape[0],
                 heads,
                 params.head,
                 params.rotary / 2,
                 x.shape[1],
                 params.column,
                 params.axial,
                 {},
                 std::log(params.theta),
                 false,
                 1,
                 0,
                 1,
                 1};
    for (int i = 0; i < 3; i++) rope.section[i] = params.section[i];
    const Yarn & yarn = params.yarn;
    rope.has_yarn = !(yarn == Yarn());
    rope.factor = float(yarn.factor), rope.low = float(yarn.low), rope.high = float(yarn.high);
    rope.attention_factor = float(yarn.attention_factor);
    return rope;
}

// How far a pair turns from a position to the next.
__device__ inline float rope_frequency(const Rope & rope, int64_t pair) {
    const int64_t step = rope.axial ? 2 * (pair % (rope.half / 2)) : pair;
    const float power = float(exp(2.0 * double(step) / double(2 * rope.half) * rope.log_theta));
    float frequency = 1.0f / power;
    if (rope.has_yarn) {
        const float ramp = fminf(fmaxf((float(pair) - rope.low) / (rope.high - rope.low), 0.0f), 1.0f), keep = 1 - ramp;
        frequency = __fadd_rn(1 / (rope.factor * power) * (1 - keep), frequency * keep);
    }
    return frequency;
}
// cos and sin of a pair at position t
__device__ inline float2 rope_angle(const Rope & rope, const int32_t * positions, int64_t t, int64_t pair,
                                    float frequency) {
    const int kind = int(pair % 3);
    const int axis = rope.axial                                   ? (pair < rope.half / 2 ? 1 : 2)
                     : kind != 0 && pair < 3 * rope.section[kind] ? kind
                                                                  : 0;
    const float angle = float(positions[axis * rope.tokens + t]) * frequency;
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    return rope.axial ? float2{cosine, sine}
                      : float2{rounded(cosine * rope.attention_factor), rounded(sine * rope.attention_factor)};
}

__device__ inline float2 rope_angle(const Rope & rope, const int32_t * positions, int64_t t, int64_t pair) {
    return rope_angle(rope, positions, t, pair, rope_frequency(rope, pair));
}

// The pair a, b turned; the caller rounds.
__device__ inline float2 turned(const Rope & rope, float2 turn, float a, float b) {
    if (rope.axial) return {a * turn.x - b * turn.y, b * turn.x + a * turn.y};
    return {rounded(a * turn.x) + rounded(-b * turn.y), rounded(b * turn.x) + rounded(a * turn.y)};
}

} // namespace gnv::cuda
