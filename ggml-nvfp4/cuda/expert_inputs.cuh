// The inputs of the experts' down projections where every expert sees every token: their largest magnitudes, and the
// rows that the router chose (graph/ops.h: expert_inputs).
#pragma once

#include "cuda/row_ops.cuh"

namespace gnv::cuda {

struct ExpertInputs {
    const bf16 * x;        // [rows, k]
    const bf16 *gate, *up; // [experts, columns, k]
    int64_t rows, k, columns;
    int experts;
    const int32_t *slots, *offsets; // of the experts; offsets [experts + 1]
    int64_t slot_count, slots_per_token;
    bf16 *chosen_gate, *chosen_up; // [slot_count, columns]: both products of the pairs that the router chose
    float * maxima;                // [experts]
};

// NaN if a or b is.
__device__ inline float larger(float a, float b) {
    float out;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
    return out;
}

// The largest magnitude of SiLU(gate) * up, as bits of BF16, of the sums that may exceed `known`; sums[i] is of gate,
// sums[half + i] of the same column of up. Most numbers stay below a bound without exponentials. Those that may become
// infinite in BF16 have none.
template <int half>
__device__ unsigned largest_activation(const float (&sums)[2 * half], float known) {
    const auto may_exceed = [&](float bound, float extreme) {
        return !(bound * screening::rounding_margin <= known) || !(extreme < screening::most_sum); // also NaN
    };
    float bound = 0, extreme = 0;
#pragma unroll
    for (int i = 0; i < half; i++) {
        const float g = sums[i], u = fabsf(sums[half + i]);
        bound = larger(bound, larger(g, screening::silu_floor) * u);
        extreme = larger(extreme, larger(fabsf(g), u));
    }
    unsigned most = 0;
    if (may_exceed(bound, extreme)) {
#pragma unroll
        for (int i = 0; i < half; i++) {
            const float g = sums[i], u = sums[half + i];
            if (!may_exceed(larger(g, screening::silu_floor) * fabsf(u), larger(fabsf(g), fabsf(u)))) continue;
            // Not silu_mul(): without its branch several numbers at a time would need registers that the sums have.
            const float gate = rounded(g);
            const bf16 y = __float2bfloat16_rn(rounded(gate * sigmoid(gate)) * rounded(u));
            most = max(most, __bfloat16_as_ushort(y) & 0x7fffu);
        }
    }
    return most;
}

// Writes gate and up of this thread's columns of a row: pairs 8 columns apart, `pair` the first; 4 * j + at is a sum of
// pair j.
template <int half>
__device__ void store_pairs(const float (&sums)[2 * half], int at, int column, int columns, bf16 * gate, bf16 * up) {
#pragma unroll
    for (int j = 0; j < half / 4; j++) {
        if (column + j * 8 >= columns) break;
        *reinterpret_cast<uint32_t *>(gate + column + j * 8) = pair_of(sums[4 * j + at], sums[4 * j + at + 1]);
        *reinterpret_cast<uint32_t *>(up + column + j * 8) =
            pair_of(sums[half + 4 * j + at], sums[half + 4 * j + at + 1]);
    }
}

// Raises a maximum to the largest of a warp. Another warp may store a larger one in between; maxima never shrink.
__device__ inline void raise(int * maximum, unsigned bits) {
    if (!__any_sync(all_lanes, bits > 0)) return;
    bits = largest_of_warp(bits) << 16;
    if (threadIdx.x % warp_size == 0 && int(bits) > *reinterpret_cast<volatile int *>(maximum))
        atomicMax(maximum, int(bits));
}
__device__ inline float read_maximum(const int * maximum) {
    return __int_as_float(*reinterpret_cast<const volatile int *>(maximum));
}

} // namespace gnv::cuda
