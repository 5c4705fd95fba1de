// The choice of experts: a row of the router, and the order of few slots. For the ops' own kernels, and for one that does both.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

inline constexpr int most_router_logits = 32; // of a lane
inline constexpr int most_few_slots = 256;    // that one block sorts, each thread one

// A probability as a number that grows with it; 0 for NaN and what is taken already.
__device__ inline unsigned key_of(float p) { return p >= 0 ? __float_as_uint(p) + 1 : 0; }

// One row, by a warp.
template <int each> // logits of a lane
__device__ void route_row(const bf16 * logits, float * weights, int32_t * indices, int64_t t, int experts, int chosen) {
    const int lane = threadIdx.x % warp_size;
    float p[each];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < each; i++) {
        const int expert = i * warp_size + lane;
        p[i] = expert < experts ? __bfloat162float(logits[t * experts + expert]) : -INFINITY;
        largest = fmaxf(largest, p[i]);
    }
    for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, step));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < each; i++) {
        p[i] = expf(p[i] - largest);
        sum += p[i];
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < each; i++) p[i] = i * warp_size + lane < experts ? p[i] / sum : -2;
    float total = 0, mine = 0;
    for (int k = 0; k < chosen; k++) {
        unsigned key = 0;
        int expert = experts;
#pragma unroll
        for (int i = 0; i < each; i++)
            if (key_of(p[i]) > key) key = key_of(p[i]), expert = i * warp_size + lane;
        const unsigned best_key = largest_of_warp(key);
        // Of equal ones the lower index.
        int best_expert = int(smallest_of_warp(key == best_key ? unsigned(expert) : unsigned(experts)));
        const float best = best_key > 0 ? __uint_as_float(best_key - 1) : -1.0f;
        if (best_key == 0) best_expert = k; // NaN everywhere: distinct experts all the same
#pragma unroll
        for (int i = 0; i < each; i++)
            if (i * warp_size + lane == best_expert) p[i] = -2;
        total += best;
        if (lane == k) mine = best;
        if (lane == 0) indices[t * chosen + k] = best_expert;
    }
    if (lane < chosen) weights[t * chosen + lane] = rounded(mine / total);
}

// Which experts some slots chose.
struct Choices {
    const int32_t * indices;
    int64_t slots, chunk; // all, those of a chunk
    int64_t first;        // expert
    int experts;

    __device__ int64_t begin() const { return blockIdx.x * chunk; }
    __device__ int64_t end() const { return min(slots, begin() + chunk); }
    // Which of these experts a slot chose; -1: none of them.
    __device__ int expert_of(int64_t slot) const {
        const int64_t expert = indices[slot] - first;
        return expert >= 0 && expert < experts ? int(expert) : -1;
    }
};

// As expert_order, by a block of most_few_slots threads: a slot's place is after those before it and those of earlier experts.
__device__ inline void order_few(const Choices & choices, int32_t * offsets, int32_t * out) {
    __shared__ int chosen[most_few_slots];
    const int slot = threadIdx.x, slots = int(choices.slots);
    const int mine = slot < slots ? choices.expert_of(slot) : -1;
    chosen[slot] = mine;
    __syncthreads();
    int place = 0;
#pragma unroll 8
    for (int other = 0; other < slots; other++) {
        const int expert = chosen[other];
        if (expert >= 0 && (expert < mine || (expert == mine && other < slot))) place++;
    }
    if (mine >= 0) out[place] = slot;
    const int total = __syncthreads_count(mine >= 0);
    for (int e = threadIdx.x; e < choices.experts; e += most_few_slots) {
        int before = 0;
#pragma unroll 8
        for (int other = 0; other < slots; other++) before += chosen[other] >= 0 && chosen[other] < e;
        offsets[e] = before;
    }
    if (threadIdx.x == 0) offsets[choices.experts] = total;
}

struct RoutedFew {
    const bf16 * logits;
    float * weights;
    int32_t * indices;
    int tokens, experts, chosen;
    int32_t *offsets, *slots; // of experts [first, first + count)
    int64_t first;
    int count;
};
// The same by a block of most_few_slots threads.
template <int each>
__device__ void route_by_block(const RoutedFew & p) {
    for (int t = threadIdx.x / warp_size; t < p.tokens; t += most_few_slots / warp_size)
        route_row<each>(p.logits, p.weights, p.indices, t, p.experts, p.chosen);
    __syncthreads();
    const int64_t slots = int64_t(p.tokens) * p.chosen;
    order_few({p.indices, slots, slots, p.first, p.count}, p.offsets, p.slots);
}
// router and expert_order; tokens * chosen <= most_few_slots.
Status route_few(const CudaContext & context, const RoutedFew & call);

} // namespace gnv::cuda
