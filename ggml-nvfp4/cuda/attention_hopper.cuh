// What attention's kernels for compute capability 9.0 have in common: the work of a group of four warps, 64 queries of one
// head. T says `size` of a head and `keys` in a tile.
#pragma once

#include "cuda/attention.cuh"
#include "cuda/wgmma.cuh"

namespace gnv::cuda::hopper {

constexpr int group_queries = 64, group_threads = 128;

// 2^x; where that is below the smallest normal number, 0.
__device__ inline float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// A thread's part of the state of its group's 64 queries: rows lane / 4 and lane / 4 + 8 of its warp's 16.
template <class T>
struct Softmax {
    float o[T::size / 2] = {};                 // weighted sums of values
    float largest[2] = {-INFINITY, -INFINITY}; // scores so far, before they are scaled
    float sum[2] = {0, 0};                     // of exp, this lane's columns only
    float shrink[2] = {1, 1};                  // what earlier sums must be scaled with
};

// o += p v; not yet done on return.
template <class T>
__device__ void add_values(Softmax<T> & state, const uint32_t (&p)[T::keys / 16][4], const bf16 * v) {
    const uint64_t tile = tile_descriptor(v, T::keys * tile_columns * int(sizeof(bf16)));
    begin_products();
#pragma unroll
    for (int n = 0; n < T::keys / 16; n++) multiply_add(state.o, p[n], from_row(tile, n * 16));
    commit_products();
}

// Scores become probabilities without their common divisor.
template <class T>
__device__ void take_softmax(Softmax<T> & state, float (&s)[T::keys / 2], float scale) {
    float shift[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float most = state.largest[i];
#pragma unroll
        for (int n = 0; n < T::keys / 2; n += 4) most = fmaxf(most, fmaxf(s[n + 2 * i], s[n + 2 * i + 1]));
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
        shift[i] = most == -INFINITY ? 0.0f : most * scale; // no key seen yet: all of exp is 0
        state.shrink[i] = power_of_two(state.largest[i] * scale - shift[i]);
        state.largest[i] = most;
        state.sum[i] *= state.shrink[i];
    }
#pragma unroll
    for (int n = 0; n < T::keys / 2; n++) {
        s[n] = power_of_two(s[n] * scale - shift[n / 2 % 2]);
        state.sum[n / 2 % 2] += s[n];
    }
}

template <class T>
__device__ void round_probabilities(const float (&s)[T::keys / 2], uint32_t (&p)[T::keys / 16][4]) {
#pragma unroll
    for (int n = 0; n < T::keys / 16; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[n][i] = pair_of(s[n * 8 + 2 * i], s[n * 8 + 2 * i + 1]);
}

} // namespace gnv::cuda::hopper
