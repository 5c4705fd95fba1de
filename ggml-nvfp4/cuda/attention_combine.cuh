// The parts of attention of one position become its result, and are gated.
#pragma once

#include "cuda/attention_decode.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace decode {

// Parts whose results are added to one sum: part i goes to sum i % sums_of_parts, and the sums are added in order.
constexpr int sums_of_parts = 8;

// What a part's numbers are multiplied with: a part whose keys are all masked has nothing to give.
__device__ inline float part_weight(float2 part, float largest) { return part.y == 0 ? 0.0f : expf(part.x - largest); }

// What a warp adds where parts are few: each warp finds the weights of all parts for itself, and waits for no other.
struct FewParts {
    static constexpr int most = 2 * warp_size, most_each = most / sums_of_parts;
    float sum = 0, o = 0;
    // `from`: this lane's column of the warp's first part, `stride` numbers from part to part. load_more() is called when all that is
    // added is on its way.
    template <class LoadMore>
    __device__ FewParts(const float2 * scores, const float * from, int stride, int warp, int count,
                        const LoadMore & load_more) {
        constexpr int most_held = most / warp_size, apart = warp_size / sums_of_parts;
        const int lane = threadIdx.x % warp_size;
        float2 held[most_held]; // of part lane + i * warp_size
#pragma unroll
        for (int i = 0; i < most_held; i++) {
            held[i] = {-INFINITY, 0};
            if (lane + i * warp_size < count) held[i] = scores[lane + i * warp_size];
        }
        float ahead[most_each];
#pragma unroll
        for (int i = 0; i < most_each; i++)
            if (warp + i * sums_of_parts < count) ahead[i] = from[int64_t(i) * sums_of_parts * stride];
        load_more();
        float largest = -INFINITY;
#pragma unroll
        for (const float2 & part : held) largest = fmaxf(largest, part.x);
        largest = warp_max(largest);
#pragma unroll
        for (float2 & part : held) part.x = part_weight(part, largest);
#pragma unroll
        for (int i = 0; i < most_each; i++) {
            if (warp + i * sums_of_parts >= count) break;
            const int holder = warp + i % apart * sums_of_parts; // lane
            const float weight = __shfl_sync(all_lanes, held[i / apart].x, holder);
            sum = fmaf(weight, __shfl_sync(all_lanes, held[i / apart].y, holder), sum);
            o = fmaf(weight, ahead[i], o);
        }
    }
};

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
    if (partial.made && blockIdx.x + blockIdx.y + threadIdx.x == 0) *partial.made = 0;
    if (!at_hand.exists) return;
    const int query_head = blockIdx.x / blocks_of_head, begin = at_hand.at;
    const int count = partial.cut.parts_of(int(at_hand.past) + 1);
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    const int column = split ? int(blockIdx.x) % blocks_of_head * warp_size + lane : int(threadIdx.x);
    const int64_t first = (int64_t(blockIdx.y) * p.query_heads + query_head) * partial.parts;
    const float * const from = partial.sums + first * head + column;
    const int64_t row = int64_t(begin) * p.query_heads + query_head;
    float sum[own_sums] = {}, o[own_sums] = {}, opened = 0;
    const auto load_gate = [&] {
        if (gate.gates && (!split || warp == 0)) opened = __bfloat162float(gate.gates[row * gate.stride + column]);
    };
    if (split && count <= FewParts::most) {
        const FewParts few(partial.scores + first, from + warp * head, head, warp, count, load_gate);
        sum[0] = few.sum, o[0] = few.o;
    } else {
        float ahead[split ? most_each : 1]; // what this warp adds is on its way while weights are found
        if constexpr (split) {
#pragma unroll
            for (int i = 0; i < most_each; i++)
                if (warp + i * sums_of_parts < count) ahead[i] = from[int64_t(warp + i * sums_of_parts) * head];
        }
        load_gate();
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
        for (int i = threadIdx.x; i < count; i += threads) weights[i] = part_weight({weights[i], sums[i]}, largest);
        __syncthreads();
        if constexpr (split) {
#pragma unroll
            for (int i = 0; i < most_each; i++) {
                const int part = warp + i * sums_of_parts;
                if (part >= count) break;
                sum[0] = fmaf(weights[part], sums[part], sum[0]);
                o[0] = fmaf(weights[part], ahead[i], o[0]);
            }
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
        }
    }
    if constexpr (split) {
        of_columns[warp][0][lane] = sum[0], of_columns[warp][1][lane] = o[0];
        __syncthreads();
        if (warp > 0) return;
        for (int j = 1; j < sums_of_parts; j++) sum[0] += of_columns[j][0][lane], o[0] += of_columns[j][1][lane];
    } else {
        for (int j = 1; j < sums_of_parts; j++) sum[0] += sum[j], o[0] += o[j];
    }
    const bf16 result = __float2bfloat16_rn(sum[0] == 0 ? 0.0f : o[0] / sum[0]);
    out[row * head + column] = result;
    if (gate.gates)
        gate.out[row * head + column] = __float2bfloat16_rn(sigmoid_gated(__bfloat162float(result), opened));
}

} // namespace decode

} // namespace gnv::cuda
