// The parts of attention of one position become its result, and are gated.
#pragma once

#include "cuda/attention_decode.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace decode {

// Parts whose results are added to one sum: part i goes to sum i % sums_of_parts, and the sums are added in order.
constexpr int sums_of_parts = 8;

// `split`: a block has 32 columns of a query head, and a warp for each sum of parts; else a thread has all parts of a column. The
// same bits: with few queries the first fills the device.
template <int head, bool split>
__global__ void __launch_bounds__(split ? sums_of_parts * warp_size : head)
    combine_kernel(const __grid_constant__ Attention p, const int32_t * past, const __grid_constant__ Queries queries,
                   const __grid_constant__ Partial partial, bf16 * out, const __grid_constant__ AttentionGate gate) {
    constexpr int threads = split ? sums_of_parts * warp_size : head, own_sums = split ? 1 : sums_of_parts;
    constexpr int blocks_of_head = split ? head / warp_size : 1, most_each = most_parts / sums_of_parts;
    __shared__ float weights[most_parts], sums[most_parts], of_warps[threads / warp_size];
    __shared__ float of_columns[split ? sums_of_parts : 1][2][warp_size];
    let_later_start();
    const Query at_hand(queries, past, int(blockIdx.y)); // these were there when part_kernel started
    wait_for_earlier();
    if (!at_hand.exists) return;
    const int query_head = blockIdx.x / blocks_of_head, begin = at_hand.at, count = int(parts_of(at_hand.past + 1));
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    const int column = split ? int(blockIdx.x) % blocks_of_head * warp_size + lane : int(threadIdx.x);
    const int64_t first = (int64_t(blockIdx.y) * p.query_heads + query_head) * partial.parts;
    const float * const from = partial.sums + first * head + column;
    float ahead[split ? most_each : 1]; // what this warp adds is on its way while weights are found
    if constexpr (split) {
#pragma unroll
        for (int i = 0; i < most_each; i++)
            if (warp + i * sums_of_parts < count) ahead[i] = from[int64_t(warp + i * sums_of_parts) * head];
    }
    const int64_t row = int64_t(begin) * p.query_heads + query_head;
    float opened = 0;
    if (gate.gates && (!split || warp == 0)) opened = __bfloat162float(gate.gates[row * gate.stride + column]);
    float largest = -INFINITY;
    for (int i = threadIdx.x; i < count; i += threads) {
        const float2 found = partial.scores[first + i];
        weights[i] = found.x, sums[i] = found.y;
        largest = fmaxf(largest, found.x);
    }
    largest = warp_max(largest);
    if (lane == 0) of_warps[warp] = largest;
    __syncthreads();
    for (const float of_warp : of_warps) largest = fmaxf(largest, of_warp);
    for (int i = threadIdx.x; i < count; i += threads) // a part whose keys are all masked has nothing to give
        weights[i] = sums[i] == 0 ? 0.0f : expf(weights[i] - largest);
    __syncthreads();
    float sum[own_sums] = {}, o[own_sums] = {};
    if constexpr (split) {
#pragma unroll
        for (int i = 0; i < most_each; i++) {
            const int part = warp + i * sums_of_parts;
            if (part >= count) break;
            sum[0] = fmaf(weights[part], sums[part], sum[0]);
            o[0] = fmaf(weights[part], ahead[i], o[0]);
        }
        of_columns[warp][0][lane] = sum[0], of_columns[warp][1][lane] = o[0];
        __syncthreads();
        if (warp > 0) return;
        for (int j = 1; j < sums_of_parts; j++) sum[0] += of_columns[j][0][lane], o[0] += of_columns[j][1][lane];
    } else {
        for (int i = 0; i < count; i += sums_of_parts) {
            float found[own_sums];
#pragma unroll
            for (int j = 0; j < own_sums; j++)
                if (i + j < count) found[j] = from[int64_t(i + j) * head];
#pragma unroll
            for (int j = 0; j < own_sums; j++) {
                if (i + j >= count) break;
                sum[j] = fmaf(weights[i + j], sums[i + j], sum[j]);
                o[j] = fmaf(weights[i + j], found[j], o[j]);
            }
        }
        for (int j = 1; j < sums_of_parts; j++) sum[0] += sum[j], o[0] += o[j];
    }
    const bf16 result = __float2bfloat16_rn(sum[0] == 0 ? 0.0f : o[0] / sum[0]);
    out[row * head + column] = result;
    if (gate.gates)
        gate.out[row * head + column] = __float2bfloat16_rn(sigmoid_gated(__bfloat162float(result), opened));
}

} // namespace decode

} // namespace gnv::cuda
