// What both ways of preparing the chunks of gated_delta_net compute alike: gates and the factors that follow from them
// (gated_delta_prepare.cu, gated_delta_prepare_hopper.cu).
//
// The decay between positions of different blocks of 16 is a product of two powers, neither of them above 1: from the
// position to the beginning of the block of i, and from there to i.
#pragma once

#include "cuda/gated_delta_plan.cuh"

namespace gnv::cuda {

// Sums of gates up to each position; high + low is the sum.
struct DeltaGates {
    float high[delta_chunk], low[delta_chunk], beta[delta_chunk];

    __device__ float between(int i, int j) const { return (high[i] - high[j]) + (low[i] - low[j]); }
};

// By one warp: g and beta of two positions a lane, zeros behind the last. A gate below -1000 leaves nothing, as one of -1000.
__device__ inline void sum_gates(const float2 (&gates_of_two)[2], DeltaGates & out) {
    const int lane = threadIdx.x % warp_size;
    float gates[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        gates[i] = gates_of_two[i].x < -1000 ? -1000.0f : gates_of_two[i].x;
        out.beta[2 * lane + i] = gates_of_two[i].y;
    }
    double sum = double(gates[0]) + double(gates[1]);
#pragma unroll
    for (int step = 1; step < warp_size; step *= 2) {
        const double before = __shfl_up_sync(all_lanes, sum, step);
        if (lane >= step) sum += before;
    }
    const double previous = __shfl_up_sync(all_lanes, sum, 1);
    const double sums[2] = {(lane > 0 ? previous : 0.0) + double(gates[0]), sum};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float high = float(sums[i]);
        out.high[2 * lane + i] = high;
        out.low[2 * lane + i] = float(sums[i] - double(high));
    }
}

// What a value head's matrices are made of: element [i, j] of a block below the diagonal is the product of k or q and k,
// times of_row[i] times of_column[block of i - 1][j].
struct DeltaPowers {
    float of_keys[delta_chunk], of_queries[delta_chunk], of_column[delta_blocks - 1][delta_chunk - 16];
};

// By 128 threads. norms: factors that make k and q of length one.
__device__ inline void make_powers(const DeltaGates & gates, const float (&norms)[2][delta_chunk], int thread,
                                   DeltaPowers & out, ChunkFactors & factors) {
    const auto before_block = [&](int block) { return block * 16 - 1; };
    if (thread < 96) { // 16, 32 and 48 columns
        const int block = thread < 16 ? 1 : thread < 48 ? 2 : 3, j = thread - (block == 1 ? 0 : block == 2 ? 16 : 48);
        out.of_column[block - 1][j] = expf(gates.between(before_block(block), j)) * norms[0][j];
    }
    const int i = thread % delta_chunk;
    if (thread < delta_chunk) {
        const float power = i < 16 ? 0.0f : expf(gates.between(i, before_block(i / 16)));
        out.of_keys[i] = gates.beta[i] * norms[0][i] * power;
        out.of_queries[i] = norms[1][i] * power;
    } else {
        const float entry = expf(gates.high[i] + gates.low[i]);
        factors.at[i] = {gates.beta[i], gates.beta[i] * entry * norms[0][i], entry * norms[1][i],
                         expf(gates.between(delta_chunk - 1, i)) * norms[0][i]};
        if (i == delta_chunk - 1) factors.decay = entry; // rows behind the last have gates of 0
    }
}

} // namespace gnv::cuda
