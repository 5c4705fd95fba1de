// Attention of one position against the cache of its text: generation runs it for every token. The time goes into reading the
// cache, so keys are cut into parts that blocks take side by side, and products are those of tensor cores, with sums in F32.
//
//   keys    |--64--|--64--|--64--|-3-|       parts depend on the number of keys alone: the same bits in any batch
//              each part: largest score, sum of exp, weighted sum of values, of up to 8 query heads of a key head
//   combine    the parts in order
//
// A pass ahead has a query for each position of a segment, behind the rows before it: the bits of that position alone.
//
// Probabilities are rounded to BF16 before they are divided by their sum, as in attention.cu. Codes of a cache in E4M3 become BF16
// on their way to shared memory; their scales, powers of two, go into scores and probabilities, which changes no bit.
#pragma once

#include "cuda/attention_cache.cuh"
#include "cuda/chain.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace decode {

constexpr int warps = 4;
constexpr int tile = 64; // keys whose scores are held together
static_assert(cache_page % tile == 0);
constexpr int heads_at_once = 8; // query heads of a block
constexpr int most_parts = 192;  // of two key heads: as many blocks as a large device runs at once

__device__ inline int64_t keys_of_part(int64_t keys) {
    const int64_t tiles = (keys + tile - 1) / tile;
    return (tiles + most_parts - 1) / most_parts * tile;
}
__device__ inline int64_t parts_of(int64_t keys) {
    const int64_t each = keys_of_part(keys);
    return (keys + each - 1) / each;
}
// Of any text that fits.
inline int64_t most_parts_of(int64_t capacity) { return std::min<int64_t>(most_parts, (capacity + tile - 1) / tile); }

// The results of parts: f32 [queries, Hq, parts, D + 2]: the weighted sum, the largest score, the sum.
inline uint64_t partial_bytes(int64_t queries, int64_t query_heads, int64_t capacity, int64_t head) {
    return uint64_t(queries * query_heads * most_parts_of(capacity) * (head + 2)) * sizeof(float);
}

// Where queries are: of every position of `ahead` segments, or with 0 one of each segment that has one position.
struct Queries {
    const int32_t * segments;
    int ahead;
};
// The position that a block computes, behind `past` rows of its segment.
struct Query {
    int segment, at;
    int64_t past;
    bool exists;
    __device__ Query(const Queries & all, const int32_t * rows_before, int index) {
        segment = all.ahead > 0 ? stretch_of(all.segments, all.ahead, index) : index;
        const int begin = all.segments[segment];
        at = all.ahead > 0 ? index : begin;
        past = int64_t(rows_before[segment]) + (at - begin);
        exists = all.ahead > 0 || all.segments[segment + 1] - begin == 1;
    }
};

__device__ inline float warp_max(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(all_lanes, value, step));
    return value;
}

constexpr int padding = 8; // elements behind each row in shared memory: rows start in different banks
constexpr int keys_of_warp = tile / warps;

template <int head>
constexpr int shared_bytes = 2 * tile *(head + padding) * int(sizeof(bf16)); // of a tile of keys and one of values

// Copies `count` rows of a tile; the others become zeros.
template <int head>
__device__ void copy_tile(bf16 * to, const bf16 * from, int64_t stride, int count) {
    constexpr int pieces = head / 8, rows_at_once = warps * warp_size / pieces;
    const int piece = threadIdx.x % pieces;
#pragma unroll
    for (int row = threadIdx.x / pieces; row < tile; row += rows_at_once)
        copy_16_bytes(to + row * (head + padding) + piece * 8, from + (row < count ? row * stride + piece * 8 : 0),
                      row < count);
    commit_copies();
}

// A tile of codes on its way: in registers until its place in shared memory is free.
template <int head>
struct CodedTile {
    static constexpr int pieces = head / 16, rows_at_once = warps * warp_size / pieces, count = tile / rows_at_once;
    uint4 codes[count];
    float scales[2]; // of the two rows that the thread asked for

    // `rows` rows of the tile exist; the others become zeros.
    __device__ void fetch(const uint8_t * from, const uint8_t * scales_from, int heads, int rows, int first,
                          int second) {
        const int piece = threadIdx.x % pieces, begin = threadIdx.x / pieces;
        const int64_t stride = int64_t(heads) * head;
#pragma unroll
        for (int i = 0; i < count; i++) {
            const int row = begin + i * rows_at_once;
            codes[i] = row < rows ? *reinterpret_cast<const uint4 *>(from + row * stride + piece * 16)
                                  : make_uint4(0, 0, 0, 0);
        }
        scales[0] = first < rows ? scale_of_byte(scales_from[int64_t(first) * heads]) : 0.0f;
        scales[1] = second < rows ? scale_of_byte(scales_from[int64_t(second) * heads]) : 0.0f;
    }
    __device__ void put(bf16 * to) const {
        to += threadIdx.x / pieces * (head + padding) + threadIdx.x % pieces * 16;
#pragma unroll
        for (int i = 0; i < count; i++) {
            const uint2 a = widened_codes(codes[i].x), b = widened_codes(codes[i].y);
            const uint2 c = widened_codes(codes[i].z), d = widened_codes(codes[i].w);
            auto * const place = reinterpret_cast<uint4 *>(to + i * rows_at_once * (head + padding));
            place[0] = make_uint4(a.x, a.y, b.x, b.y);
            place[1] = make_uint4(c.x, c.y, d.x, d.y);
        }
    }
};

// Block: part, key head (and eight of its query heads), query. Products are transposed, [keys or columns, heads]: eight heads are
// the width of one product of mma.cuh.
template <int head, class Element>
__global__ void __launch_bounds__(warps * warp_size, 3)
    part_kernel(Attention p, const bf16 * q, CacheOf<Element> cache, Queries queries, const uint8_t * key_mask,
                float * partial) {
    constexpr bool is_coded = sizeof(Element) == 1;
    constexpr int stride = head + padding, steps = head / 16;
    constexpr int columns_of_warp = head / warps, blocks_of_warp = columns_of_warp / 16;
    constexpr int heads_a_warp = heads_at_once / warps;
    extern __shared__ __align__(16) bf16 tiles[];
    bf16 *const k_tile = tiles, *const v_tile = tiles + tile * stride;
    __shared__ float scores[tile][heads_at_once];
    __shared__ __align__(4) bf16 probabilities[heads_at_once][tile + padding];
    __shared__ float shrink[heads_at_once];
    let_later_start();
    wait_for_earlier();
    const Query at_hand(queries, cache.past, int(blockIdx.z));
    if (!at_hand.exists) return;
    const int segment = at_hand.segment, begin = at_hand.at;
    const int64_t past = at_hand.past, count = past + 1, each = keys_of_part(count);
    const int64_t first = blockIdx.x * each, last = min(first + each, count);
    if (first >= count) return;
    const int group = p.query_heads / p.key_heads, blocks = (group + heads_at_once - 1) / heads_at_once;
    const int key_head = blockIdx.y / blocks, skipped = blockIdx.y % blocks * heads_at_once;
    const int first_head = key_head * group + skipped, heads = min(heads_at_once, group - skipped);
    const int64_t row_stride = int64_t(p.key_heads) * head;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, row = lane / 4, pair = lane % 4 * 2;
    const int score_row = warp * keys_of_warp + row; // of the tile; and 8 further
    CodedTile<head> k_codes, v_codes;
    const auto load = [&](CodedTile<head> & codes, bf16 * to, const Element * rows, const uint8_t * scales, int64_t key,
                          int first_row, int second_row) {
        if (key >= last) return;
        const int64_t from = cache.row(segment, key) * p.key_heads + key_head;
        const int exist = int(min(int64_t(tile), last - key));
        if constexpr (is_coded) {
            codes.fetch(rows + from * head, scales + from, p.key_heads, exist, first_row, second_row);
        } else {
            copy_tile<head>(to, rows + from * head, row_stride, exist);
        }
    };
    const auto load_keys = [&](int64_t key) {
        load(k_codes, k_tile, cache.k, cache.k_scales, key, score_row, score_row + 8);
    };
    const auto load_values = [&](int64_t key) {
        load(v_codes, v_tile, cache.v, cache.v_scales, key, lane, lane + warp_size);
    };
    load_keys(first);
    load_values(first);

    uint32_t query[steps][2]; // right operands: 16 columns of each head
    const bf16 * const query_row =
        q + (int64_t(begin) * p.query_heads + first_head + (row < heads ? row : 0)) * head + pair;
#pragma unroll
    for (int step = 0; step < steps; step++)
#pragma unroll
        for (int i = 0; i < 2; i++) query[step][i] = *reinterpret_cast<const uint32_t *>(query_row + step * 16 + i * 8);
    float o[blocks_of_warp][4] = {};
    float largest[heads_a_warp], sum[heads_a_warp] = {};
    for (float & value : largest) value = -INFINITY;
    const bool newest_seen = !key_mask || key_mask[begin];

    for (int64_t key = first; key < last; key += tile) {
        const bool more = key + tile < last;
        if constexpr (is_coded) {
            k_codes.put(k_tile);
        } else {
            wait_for_copies<1>(); // the values are still under way
        }
        __syncthreads();
        float s[2][4] = {}; // of even and odd steps
#pragma unroll
        for (int step = 0; step < steps; step++) {
            uint32_t keys[4];
            load_matrices(keys, k_tile + (warp * keys_of_warp + lane % 16) * stride + step * 16 + lane / 16 * 8);
            multiply_add(s[step % 2], keys, query[step][0], query[step][1]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int of_tile = score_row + i / 2 * 8;
            const int64_t at = key + of_tile;
            const bool seen = at < last && (at < past || newest_seen);
            float score = s[0][i] + s[1][i];
            if constexpr (is_coded) score *= k_codes.scales[i / 2];
            scores[of_tile][pair + i % 2] = seen ? score * p.scale : -INFINITY;
        }
        __syncthreads();
        load_keys(key + tile);
#pragma unroll
        for (int j = 0; j < heads_a_warp; j++) {
            const int h = warp + j * warps;
            const float low = scores[lane][h], high = scores[lane + warp_size][h];
            const float most = fmaxf(largest[j], warp_max(fmaxf(low, high)));
            const float less = most == -INFINITY ? 1.0f : expf(largest[j] - most);
            const float e_low = low == -INFINITY ? 0.0f : expf(low - most);
            const float e_high = high == -INFINITY ? 0.0f : expf(high - most);
            sum[j] = sum[j] * less + warp_sum(e_low + e_high);
            largest[j] = most;
            bf16 share_low = __float2bfloat16_rn(e_low), share_high = __float2bfloat16_rn(e_high);
            if constexpr (is_coded) {
                share_low = __float2bfloat16_rn(__bfloat162float(share_low) * v_codes.scales[0]);
                share_high = __float2bfloat16_rn(__bfloat162float(share_high) * v_codes.scales[1]);
            }
            probabilities[h][lane] = share_low;
            probabilities[h][lane + warp_size] = share_high;
            if (lane == 0) shrink[h] = less;
        }
        if constexpr (is_coded) {
            v_codes.put(v_tile);
        } else if (more) {
            wait_for_copies<1>();
        } else {
            wait_for_copies<0>();
        }
        __syncthreads();
#pragma unroll
        for (int block = 0; block < blocks_of_warp; block++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[block][i] *= shrink[pair + i % 2];
#pragma unroll
        for (int step = 0; step < tile / 16; step++) {
            uint32_t shares[2];
#pragma unroll
            for (int i = 0; i < 2; i++)
                shares[i] = *reinterpret_cast<const uint32_t *>(&probabilities[row][step * 16 + i * 8 + pair]);
#pragma unroll
            for (int block = 0; block < blocks_of_warp; block++) {
                uint32_t values[4]; // columns, columns + 8 of eight keys, then of the next eight
                load_matrices_transposed(values, v_tile + (step * 16 + lane / 16 * 8 + lane % 8) * stride +
                                                     warp * columns_of_warp + block * 16 + lane / 8 % 2 * 8);
                multiply_add(o[block], values, shares[0], shares[1]);
            }
        }
        __syncthreads();
        load_values(key + tile);
    }
    const auto to = [&](int h) {
        return partial + ((int64_t(blockIdx.z) * p.query_heads + first_head + h) * gridDim.x + blockIdx.x) * (head + 2);
    };
#pragma unroll
    for (int block = 0; block < blocks_of_warp; block++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (pair + i % 2 < heads)
                to(pair + i % 2)[warp * columns_of_warp + block * 16 + row + i / 2 * 8] = o[block][i];
#pragma unroll
    for (int j = 0; j < heads_a_warp; j++) {
        const int h = warp + j * warps;
        if (h >= heads || lane > 0) continue;
        to(h)[head] = largest[j];
        to(h)[head + 1] = sum[j];
    }
}

// Parts whose results are added to one sum: part i goes to sum i % sums_of_parts, and the sums are added in order.
constexpr int sums_of_parts = 8;

// `split`: a block has 32 columns of a query head, and a warp for each sum of parts; else a thread has all parts of a column. The
// same bits: with few queries the first fills the device. `parts`: the number that `partial` has room for.
template <int head, bool split>
__global__ void __launch_bounds__(split ? sums_of_parts * warp_size : head)
    combine_kernel(Attention p, const int32_t * past, Queries queries, const float * partial, int64_t parts,
                   bf16 * out) {
    constexpr int threads = split ? sums_of_parts * warp_size : head, own_sums = split ? 1 : sums_of_parts;
    constexpr int blocks_of_head = split ? head / warp_size : 1;
    __shared__ float weights[most_parts], sums[most_parts], of_warps[threads / warp_size];
    __shared__ float of_columns[split ? sums_of_parts : 1][2][warp_size];
    let_later_start();
    wait_for_earlier();
    const Query at_hand(queries, past, int(blockIdx.y));
    if (!at_hand.exists) return;
    const int query_head = blockIdx.x / blocks_of_head, begin = at_hand.at, count = int(parts_of(at_hand.past + 1));
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    const int column = split ? int(blockIdx.x) % blocks_of_head * warp_size + lane : int(threadIdx.x);
    const float * const from = partial + (int64_t(blockIdx.y) * p.query_heads + query_head) * parts * (head + 2);
    float largest = -INFINITY;
    for (int i = threadIdx.x; i < count; i += threads) {
        weights[i] = from[int64_t(i) * (head + 2) + head];
        sums[i] = from[int64_t(i) * (head + 2) + head + 1];
        largest = fmaxf(largest, weights[i]);
    }
    largest = warp_max(largest);
    if (lane == 0) of_warps[warp] = largest;
    __syncthreads();
    for (const float of_warp : of_warps) largest = fmaxf(largest, of_warp);
    for (int i = threadIdx.x; i < count; i += threads) // a part whose keys are all masked has nothing to give
        weights[i] = sums[i] == 0 ? 0.0f : expf(weights[i] - largest);
    __syncthreads();
    float sum[own_sums] = {}, o[own_sums] = {};
#pragma unroll(split ? 8 : 1)
    for (int i = split ? warp : 0; i < count; i += sums_of_parts) {
#pragma unroll
        for (int j = 0; j < own_sums; j++) {
            if (i + j >= count) break;
            sum[j] = fmaf(weights[i + j], sums[i + j], sum[j]);
            o[j] = fmaf(weights[i + j], from[int64_t(i + j) * (head + 2) + column], o[j]);
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
    out[(int64_t(begin) * p.query_heads + query_head) * head + column] =
        __float2bfloat16_rn(sum[0] == 0 ? 0.0f : o[0] / sum[0]);
}

} // namespace decode

} // namespace gnv::cuda
