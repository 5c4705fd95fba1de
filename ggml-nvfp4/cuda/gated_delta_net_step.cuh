// One position of many texts. Memory is busy with the states, which are read once and written once: a block has a head of a text,
// and a thread four neighbouring columns of every fourth row, so that a warp reads and writes whole lines.
//
// Sums are those of gated_delta_net.cu, in the same order: rows i * 16 + part * 4 + j over i, then over j, then over parts.
#pragma once

#include "cuda/chain.cuh"
#include "cuda/gated_delta_net.cuh"

namespace gnv::cuda::delta_step {

constexpr int head = 128; // rows and columns of a state
constexpr int warps = 4, threads = warps * warp_size;
constexpr int parts = 4, groups = head / 16;

// Sums over the lanes that share columns.
__device__ inline float sum_of_rows(const float (&dots)[parts]) {
    float of_part[parts];
#pragma unroll
    for (int part = 0; part < parts; part++) {
        const float pair = dots[part] + __shfl_xor_sync(all_lanes, dots[part], 8);
        of_part[part] = pair + __shfl_xor_sync(all_lanes, pair, 16);
    }
    return (of_part[0] + of_part[1]) + (of_part[2] + of_part[3]);
}

static __global__ void __launch_bounds__(threads, 2) step_kernel(Delta d, DeltaTensors tensors) {
    __shared__ __align__(16) float staged[2][4][parts][groups]; // k, q: of rows i * 16 + part * 4 + j at [j][part][i]
    let_later_start();
    wait_for_earlier();
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, j = lane / 8;
    const int at_head = blockIdx.x, key = at_head / (d.value_heads / d.key_heads), segment = blockIdx.y;
    const int column = warp * warp_size + lane % 8 * 4;
    const int64_t t = tensors.segments[segment], width = d.width();
    float4 * const own = reinterpret_cast<float4 *>(
        tensors.memory + (tensors.slot_of(segment) * d.value_heads + at_head) * int64_t(head) * head + column);
    const auto row = [&](int part, int i) { return (i * 16 + part * 4 + j) * (head / 4); };
    float4 state[parts][groups];
#pragma unroll
    for (int i = 0; i < groups; i++)
#pragma unroll
        for (int part = 0; part < parts; part++) state[part][i] = __ldcs(own + row(part, i));
    if (warp < 2) { // k, q
        const bf16 * const from = tensors.qkv + t * width + (warp == 0 ? d.key_heads + key : key) * int64_t(head);
        float x[head / warp_size];
#pragma unroll
        for (int i = 0; i < head / warp_size; i++) x[i] = __bfloat162float(from[i * warp_size + lane]);
        stage_unit_row(x, warp == 1, staged[warp]);
    }
    const float2 gates = delta_gates(d, tensors, t * d.value_heads + at_head);
    const float decay = expf(gates.x), beta = gates.y;
    float values[4];
    load_several<4>(tensors.qkv + t * width + 2 * int64_t(d.key_heads) * head + int64_t(at_head) * head + column,
                    values);
    __syncthreads();

    const auto key_of = [&](int is_query, int part, float(&of_rows)[groups]) {
#pragma unroll
        for (int i = 0; i < groups; i += 4)
            *reinterpret_cast<float4 *>(of_rows + i) = *reinterpret_cast<const float4 *>(&staged[is_query][j][part][i]);
    };
    float dots[4][parts] = {}; // by column
#pragma unroll
    for (int part = 0; part < parts; part++) {
        float k[groups];
        key_of(0, part, k);
#pragma unroll
        for (int i = 0; i < groups; i++)
#pragma unroll
            for (int c = 0; c < 4; c++) dots[c][part] = fmaf(k[i], component(state[part][i], c), dots[c][part]);
    }
    float u[4];
#pragma unroll
    for (int c = 0; c < 4; c++) u[c] = beta * (values[c] - decay * sum_of_rows(dots[c]));
    float sums[4][parts] = {};
#pragma unroll
    for (int part = 0; part < parts; part++) {
        float k[groups], q[groups];
        key_of(0, part, k);
        key_of(1, part, q);
#pragma unroll
        for (int i = 0; i < groups; i++) {
            float4 & s = state[part][i];
#pragma unroll
            for (int c = 0; c < 4; c++) {
                component(s, c) = fmaf(k[i], u[c], decay * component(s, c));
                sums[c][part] = fmaf(q[i], component(s, c), sums[c][part]);
            }
            __stcs(own + row(part, i), s);
        }
    }
    float o[4];
#pragma unroll
    for (int c = 0; c < 4; c++) o[c] = sum_of_rows(sums[c]);
    if (j == 0) store_several<4>(tensors.out + (t * d.value_heads + at_head) * head + column, o);
}

// Whether texts of one position each can be run so.
inline bool fits(const Delta & d, const DeltaTensors & tensors) {
    return tensors.memory && d.key_head == head && d.value_head == head;
}

inline Status run(const CudaContext & context, const Delta & d, const DeltaTensors & tensors) {
    return launch_chained("gated_delta_net", context, step_kernel, dim3(unsigned(d.value_heads), unsigned(d.segments)),
                          threads, 0, d, tensors);
}

} // namespace gnv::cuda::delta_step
