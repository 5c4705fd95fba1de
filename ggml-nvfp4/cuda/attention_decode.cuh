// Attention of one position against the cache of its text: generation runs it for every token. All products are in F32;
// the time goes into reading the cache, so keys are cut into parts that blocks take side by side.
//
//   keys    |--64--|--64--|--64--|-3-|       parts depend on the number of keys alone: the same bits in any batch
//              each part: largest score, sum of exp, weighted sum of values, of up to 8 query heads of a key head
//   combine    the parts in order
//
// Probabilities are rounded to BF16 before they are divided by their sum, as in attention.cu.
#pragma once

#include "cuda/chain.cuh"

namespace gnv::cuda {

struct Attention {
    int64_t tokens;
    int query_heads, key_heads;
    float scale;
    int head = 0;       // D, where the kernel is not made for one
    bool causal = true; // likewise
};

// k, v [S, capacity, Hkv * D], past i32 [S]; null without a cache.
struct AttentionCache {
    bf16 *k, *v;
    const int32_t * past;
    int64_t capacity;
};

namespace decode {

constexpr int warps = 4;
constexpr int tile = 64;         // keys whose scores are held together
constexpr int heads_at_once = 8; // query heads of a block
constexpr int most_parts = 256;
constexpr int keys_ahead = 4; // of a warp

__device__ inline int64_t keys_of_part(int64_t keys) {
    int64_t each = tile;
    while (each * most_parts < keys) each *= 2;
    return each;
}
__device__ inline int64_t parts_of(int64_t keys) {
    const int64_t each = keys_of_part(keys);
    return (keys + each - 1) / each;
}
// Of any text that fits.
inline int64_t most_parts_of(int64_t capacity) { return std::min<int64_t>(most_parts, (capacity + tile - 1) / tile); }

// The results of parts: f32 [S, Hq, parts, D + 2]: the weighted sum, the largest score, the sum.
inline uint64_t partial_bytes(int64_t segments, int64_t query_heads, int64_t capacity, int64_t head) {
    return uint64_t(segments * query_heads * most_parts_of(capacity) * (head + 2)) * sizeof(float);
}

__device__ inline float warp_max(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(all_lanes, value, step));
    return value;
}

// Block: part, key head (and eight of its query heads), segment. Skips segments of more than one position.
template <int head>
__global__ void __launch_bounds__(warps * warp_size)
    part_kernel(Attention p, const bf16 * q, AttentionCache cache, const int32_t * segments, const uint8_t * key_mask,
                float * partial) {
    constexpr int pairs = head / (2 * warp_size);                                      // of a row, in each lane
    constexpr int columns = head > warps * warp_size ? head / (warps * warp_size) : 1; // of a row, in each thread
    constexpr int heads_a_warp = heads_at_once / warps;
    let_later_start();
    wait_for_earlier();
    const int segment = blockIdx.z, begin = segments[segment];
    if (segments[segment + 1] - begin != 1) return;
    const int64_t past = cache.past[segment], count = past + 1, each = keys_of_part(count);
    const int64_t first = blockIdx.x * each, last = min(first + each, count);
    if (first >= count) return;
    const int group = p.query_heads / p.key_heads, blocks = (group + heads_at_once - 1) / heads_at_once;
    const int key_head = blockIdx.y / blocks, skipped = blockIdx.y % blocks * heads_at_once;
    const int first_head = key_head * group + skipped, heads = min(heads_at_once, group - skipped);
    const int64_t stride = int64_t(p.key_heads) * head;
    const bf16 * const k = cache.k + segment * cache.capacity * stride + int64_t(key_head) * head;
    const bf16 * const v = cache.v + segment * cache.capacity * stride + int64_t(key_head) * head;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;

    __shared__ float scores[tile][heads_at_once]; // then: probabilities
    __shared__ float shrink[heads_at_once];
    float2 query[heads_at_once][pairs];
#pragma unroll
    for (int h = 0; h < heads_at_once; h++) {
        const auto * const row = reinterpret_cast<const __nv_bfloat162 *>(
            q + (int64_t(begin) * p.query_heads + first_head + (h < heads ? h : 0)) * head);
#pragma unroll
        for (int i = 0; i < pairs; i++) query[h][i] = __bfloat1622float2(row[i * warp_size + lane]);
    }
    float o[heads_at_once][columns] = {};
    float largest[heads_a_warp], sum[heads_a_warp] = {};
    for (float & value : largest) value = -INFINITY;
    const bool has_columns = int(threadIdx.x) * columns < head;

    for (int64_t key = first; key < last; key += tile) {
        const int keys = int(min(int64_t(tile), last - key));
        __syncthreads();
        uint32_t ahead[keys_ahead][pairs]; // rows of keys that are under way
        for (int i = warp; i < keys; i += warps) {
            const int turn = i / warps % keys_ahead;
            if (turn == 0) {
#pragma unroll
                for (int a = 0; a < keys_ahead; a++)
#pragma unroll
                    for (int j = 0; j < pairs; j++)
                        if (i + a * warps < keys)
                            ahead[a][j] = reinterpret_cast<const uint32_t *>(k + (key + i + a * warps) *
                                                                                     stride)[j * warp_size + lane];
            }
            float2 values[pairs];
#pragma unroll
            for (int a = 0; a < keys_ahead; a++)
#pragma unroll
                for (int j = 0; j < pairs; j++)
                    if (a == turn) values[j] = numbers_of(ahead[a][j]);
            const bool seen = key + i < past || !key_mask || key_mask[begin];
#pragma unroll
            for (int h = 0; h < heads_at_once; h++) {
                float dot = 0;
#pragma unroll
                for (int j = 0; j < pairs; j++)
                    dot = fmaf(values[j].y, query[h][j].y, fmaf(values[j].x, query[h][j].x, dot));
                dot = warp_sum(dot);
                if (lane == h) scores[i][h] = seen ? dot * p.scale : -INFINITY;
            }
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < heads_a_warp; j++) {
            const int h = warp + j * warps;
            const float low = lane < keys ? scores[lane][h] : -INFINITY;
            const float high = lane + warp_size < keys ? scores[lane + warp_size][h] : -INFINITY;
            const float most = fmaxf(largest[j], warp_max(fmaxf(low, high)));
            const float less = most == -INFINITY ? 1.0f : expf(largest[j] - most);
            const float e_low = low == -INFINITY ? 0.0f : expf(low - most);
            const float e_high = high == -INFINITY ? 0.0f : expf(high - most);
            sum[j] = sum[j] * less + warp_sum(e_low + e_high);
            largest[j] = most;
            scores[lane][h] = rounded(e_low);
            scores[lane + warp_size][h] = rounded(e_high);
            if (lane == 0) shrink[h] = less;
        }
        __syncthreads();
        if (!has_columns) continue;
#pragma unroll
        for (int h = 0; h < heads_at_once; h++)
#pragma unroll
            for (int c = 0; c < columns; c++) o[h][c] *= shrink[h];
#pragma unroll 16
        for (int i = 0; i < keys; i++) {
            float row[columns];
            load_several<columns>(v + (key + i) * stride + threadIdx.x * columns, row);
#pragma unroll
            for (int c = 0; c < columns; c++)
#pragma unroll
                for (int h = 0; h < heads_at_once; h++) o[h][c] = fmaf(scores[i][h], row[c], o[h][c]);
        }
    }
    const auto to = [&](int h) {
        return partial + ((int64_t(segment) * p.query_heads + first_head + h) * gridDim.x + blockIdx.x) * (head + 2);
    };
#pragma unroll
    for (int h = 0; h < heads_at_once; h++)
#pragma unroll
        for (int c = 0; c < columns; c++)
            if (h < heads && has_columns) to(h)[threadIdx.x * columns + c] = o[h][c];
#pragma unroll
    for (int j = 0; j < heads_a_warp; j++) {
        const int h = warp + j * warps;
        if (h >= heads || lane > 0) continue;
        to(h)[head] = largest[j];
        to(h)[head + 1] = sum[j];
    }
}

// A column a thread; block: query head, segment. `parts`: the number that `partial` has room for.
template <int head>
__global__ void combine_kernel(Attention p, const int32_t * past, const int32_t * segments, const float * partial,
                               int64_t parts, bf16 * out) {
    let_later_start();
    wait_for_earlier();
    const int segment = blockIdx.y, query_head = blockIdx.x, begin = segments[segment];
    if (segments[segment + 1] - begin != 1) return;
    const int64_t count = parts_of(int64_t(past[segment]) + 1);
    const float * const from = partial + (int64_t(segment) * p.query_heads + query_head) * parts * (head + 2);
    float largest = -INFINITY;
    for (int64_t i = 0; i < count; i++) largest = fmaxf(largest, from[i * (head + 2) + head]);
    float sum = 0, o = 0;
    for (int64_t i = 0; i < count; i++) {
        const float * const part = from + i * (head + 2);
        if (part[head + 1] == 0) continue; // every key of it is masked
        const float weight = expf(part[head] - largest);
        sum = fmaf(weight, part[head + 1], sum);
        o = fmaf(weight, part[threadIdx.x], o);
    }
    out[(int64_t(begin) * p.query_heads + query_head) * head + threadIdx.x] =
        __float2bfloat16_rn(sum == 0 ? 0.0f : o / sum);
}

} // namespace decode

} // namespace gnv::cuda
