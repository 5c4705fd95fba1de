// Attention of one position against the cache of its text: generation runs it for every token. The time goes into reading the
// cache, so keys are cut into parts that blocks take side by side, and products are those of tensor cores, with sums in F32.
//
//   keys    |--64--|--64--|--64--|-3-|       parts depend on the number of keys alone: the same bits in any batch
//              each part: largest score, sum of exp, weighted sum of values, of up to 8 query heads of a key head
//   combine    the parts in order
//
// A pass ahead has a query for each position of a segment, behind the rows before it: the bits of that position alone.
//
// A block starts while the kernel before it runs, and reads at once what lies in the cache of earlier passes: that kernel lets this
// one start when all kernels before have ended (store_kernel, pack_kernel, heads_kernel; the products before heads that are made
// here), so the places of texts and old rows are there. What it writes itself is read after the wait.
//
// Probabilities are rounded to BF16 before they are divided by their sum, as in attention.cu. Codes of a cache in E4M3 become BF16
// on their way to shared memory; their scales, powers of two, go into scores and probabilities, which changes no bit.
#pragma once

#include "cuda/attention_heads.cuh"
#include "cuda/chain.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"

#include <algorithm>

namespace gnv::cuda {

namespace decode {

constexpr int warps = 8;
constexpr int tile = 64; // keys whose scores are held together
static_assert(cache_page % tile == 0);
constexpr int heads_at_once = 8; // query heads of a block
constexpr int most_parts = 192;  // of any text

// Blocks of a query and a part.
inline int blocks_of_part(const Attention & p) {
    return p.key_heads * int(blocks_for(p.query_heads / p.key_heads, heads_at_once));
}
// How texts are cut into parts, of whole tiles: long ones into as many as make `blocks` blocks, more or less.
struct Cut {
    int parts;
    uint32_t inverse; // 2^32 / parts, rounded up: exact for the tiles of any text, and a division takes long
    Cut() = default;
    Cut(const Attention & p, int blocks)
        : parts(std::clamp(blocks / blocks_of_part(p), 16, most_parts)),
          inverse(uint32_t(((uint64_t(1) << 32) + parts - 1) / parts)) {}
    __device__ int keys_of_part(int keys) const {
        const auto tiles = unsigned(keys + tile - 1) / tile;
        return int(__umulhi(tiles + parts - 1, inverse)) * tile;
    }
    __device__ int parts_of(int keys) const {
        const int each = keys_of_part(keys);
        return (keys + each - 1) / each;
    }
    // Of any text that fits.
    int most_parts_of(int64_t capacity) const { return int(std::min<int64_t>(parts, (capacity + tile - 1) / tile)); }
};

// The results of parts of each query and head: the weighted sums f32 [queries, Hq, parts, D], and behind them the largest scores and
// the sums f32 [queries, Hq, parts, 2].
struct Partial {
    float * sums;
    float2 * scores;
    int parts; // that there is room for
    Cut cut;
    // MadeHeads; the count is 0 again when parts are combined.
    uint32_t *made, all;
};
inline uint64_t partial_bytes(int64_t queries, int64_t query_heads, int64_t parts, int64_t head) {
    return uint64_t(queries * query_heads * parts * (head + 2)) * sizeof(float);
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
constexpr int keys_of_warp = 16, key_warps = tile / keys_of_warp; // of a product; warps that have all keys of a tile
static_assert(warps == 2 * key_warps && warps == heads_at_once);

// What a block does with the tiles of a part. Products are transposed, [keys or columns, heads]: eight heads are the width of one
// product of mma.cuh. Warps multiply keys, each finds the shares of its own head's keys, and they multiply values; barriers of the block
// lie between.
template <int head>
struct PartWork {
    static constexpr int steps = head / 16 / 2; // of a warp's product of keys: the even or the odd ones
    static constexpr int blocks_of_warp = head / 16 > warps ? head / 16 / warps : 1,
                         columns_of_warp = blocks_of_warp * 16;
    static constexpr int score_stride = tile + 4;         // lanes that store at once are in different banks
    using Scores = float[2][heads_at_once][score_stride]; // of even and of odd steps
    struct Shared {
        bf16 shares[heads_at_once][tile + padding];
        float shrink[heads_at_once];
    };

    Shared & shared;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, row = lane / 4, pair = lane % 4 * 2;
    const int first_key = warp % key_warps * keys_of_warp, odd = warp / key_warps; // of the warp's products of keys
    const int column = warp * columns_of_warp;                                     // of its products of values
    const bool has_columns = column < head;
    uint32_t query[steps][2]; // right operands: 16 columns of each head
    float o[blocks_of_warp][4] = {};
    float largest = -INFINITY, sum = 0; // of head `warp`

    __device__ explicit PartWork(Shared & memory) : shared(memory) {}

    // `rows`: of the block's first head; `count` heads exist.
    __device__ void load_queries(const bf16 * rows, int stride, int count) {
        const bf16 * const from = rows + (row < count ? row : 0) * stride + pair;
#pragma unroll
        for (int step = 0; step < steps; step++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                query[step][i] = *reinterpret_cast<const uint32_t *>(from + (2 * step + odd) * 16 + i * 8);
    }
    // Tile: eight(row, column) is where a row has its eight numbers from a column on.
    template <class Tile>
    __device__ void multiply_keys(const Tile & k, Scores & scores) const {
        float s[4] = {};
#pragma unroll
        for (int step = 0; step < steps; step++) {
            uint32_t keys[4];
            load_matrices(keys, k.eight(first_key + lane % 16, (2 * step + odd) * 16 + lane / 16 * 8));
            multiply_add(s, keys, query[step][0], query[step][1]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) scores[odd][pair + i % 2][first_key + row + i / 2 * 8] = s[i];
    }
    // score(i, product): the score of key lane + i * warp_size of the tile; -Inf: it is not seen. share(i, number): what its values are
    // multiplied with.
    template <class Score, class Share>
    __device__ void weigh(const Scores & scores, const Score & score, const Share & share) {
        const auto score_at = [&](int i) {
            const int key = lane + i * warp_size;
            return score(i, scores[0][warp][key] + scores[1][warp][key]);
        };
        const float low = score_at(0), high = score_at(1);
        const float most = fmaxf(largest, warp_max(fmaxf(low, high)));
        const float less = most == -INFINITY ? 1.0f : expf(largest - most);
        const float e_low = low == -INFINITY ? 0.0f : expf(low - most);
        const float e_high = high == -INFINITY ? 0.0f : expf(high - most);
        sum = sum * less + warp_sum(e_low + e_high);
        largest = most;
        shared.shares[warp][lane] = share(0, __float2bfloat16_rn(e_low));
        shared.shares[warp][lane + warp_size] = share(1, __float2bfloat16_rn(e_high));
        if (lane == 0) shared.shrink[warp] = less;
    }
    template <class Tile>
    __device__ void multiply_values(const Tile & v) {
#pragma unroll
        for (int block = 0; block < blocks_of_warp; block++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[block][i] *= shared.shrink[pair + i % 2];
#pragma unroll
        for (int step = 0; has_columns && step < tile / 16; step++) {
            uint32_t shares[2];
#pragma unroll
            for (int i = 0; i < 2; i++)
                shares[i] = *reinterpret_cast<const uint32_t *>(&shared.shares[row][step * 16 + i * 8 + pair]);
#pragma unroll
            for (int block = 0; block < blocks_of_warp; block++) {
                uint32_t values[4]; // columns, columns + 8 of eight keys, then of the next eight
                load_matrices_transposed(
                    values, v.eight(step * 16 + lane / 16 * 8 + lane % 8, column + block * 16 + lane / 8 % 2 * 8));
                multiply_add(o[block], values, shares[0], shares[1]);
            }
        }
    }
    // `first`: the place of the block's first head and part; `count` heads exist.
    __device__ void store(const Partial & partial, int64_t first, int count) const {
#pragma unroll
        for (int block = 0; block < blocks_of_warp; block++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (has_columns && pair + i % 2 < count)
                    partial.sums[(first + int64_t(pair + i % 2) * partial.parts) * head + column + block * 16 + row +
                                 i / 2 * 8] = o[block][i];
        if (warp < count && lane == 0) partial.scores[first + int64_t(warp) * partial.parts] = {largest, sum};
    }
};

// A tile whose rows lie `padding` apart.
template <int head>
struct PaddedTile {
    static constexpr int stride = head + padding, bytes = tile * stride * int(sizeof(bf16));
    bf16 * memory;
    __device__ bf16 * eight(int row, int column) const { return memory + row * stride + column; }
};
template <int head>
constexpr int shared_bytes = 2 * PaddedTile<head>::bytes; // of a tile of keys and one of values

// Copies `count` rows of a tile; the others become zeros, but row `left_out` stays as it is.
template <int head>
__device__ void copy_tile(bf16 * to, const bf16 * from, int64_t stride, int count, int left_out) {
    constexpr int pieces = head / 8, rows_at_once = warps * warp_size / pieces;
    const int begin = threadIdx.x / pieces, piece = threadIdx.x % pieces;
    to += begin * (head + padding) + piece * 8;
    if (count == tile) { // nearly always: a third of the instructions
        from += begin * stride + piece * 8;
#pragma unroll
        for (int i = 0; i < tile / rows_at_once; i++, from += rows_at_once * stride)
            copy_16_bytes(to + i * rows_at_once * (head + padding), from);
    } else {
#pragma unroll 1
        for (int row = begin; row < tile; row += rows_at_once, to += rows_at_once * (head + padding))
            if (row != left_out) copy_16_bytes(to, from + (row < count ? row * stride + piece * 8 : 0), row < count);
    }
    commit_copies();
}

// A tile of codes on its way: in registers until its place in shared memory is free.
template <int head>
struct CodedTile {
    static constexpr int pieces = head / 16, rows_at_once = warps * warp_size / pieces, count = tile / rows_at_once;
    uint4 codes[count];
    float scales[2]; // of the rows that are this lane's scores: `lane` and warp_size further

    // `rows` rows of the tile exist; the others become zeros.
    __device__ void fetch(const uint8_t * from, const uint8_t * scales_from, int heads, int rows) {
        const int piece = threadIdx.x % pieces, begin = threadIdx.x / pieces;
        const int64_t stride = int64_t(heads) * head;
        from += begin * stride + piece * 16;
#pragma unroll
        for (int i = 0; i < count; i++, from += rows_at_once * stride)
            codes[i] =
                begin + i * rows_at_once < rows ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
        fetch_scales(scales_from, heads, rows);
    }
    __device__ void fetch_scales(const uint8_t * scales_from, int heads, int rows) {
        const int first = threadIdx.x % warp_size, second = first + warp_size;
        scales[0] = first < rows ? scale_of_byte(scales_from[int64_t(first) * heads]) : 0.0f;
        scales[1] = second < rows ? scale_of_byte(scales_from[int64_t(second) * heads]) : 0.0f;
    }
    // Another row of the tile.
    __device__ void fetch_row(const uint8_t * from, int row) {
        const int piece = threadIdx.x % pieces, begin = threadIdx.x / pieces;
#pragma unroll
        for (int i = 0; i < count; i++)
            if (begin + i * rows_at_once == row) codes[i] = *reinterpret_cast<const uint4 *>(from + piece * 16);
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

// Block: key head (and eight of its query heads), part, query: parts that exist come first. With `makes`, queries are made here, and
// the last part of a key head stores the new row: one position a segment, up to eight query heads a key head.
template <int head, class Element, bool makes>
__global__ void __launch_bounds__(warps * warp_size, 3)
    part_kernel(const __grid_constant__ Attention p, const __grid_constant__ NewHeads made,
                const __grid_constant__ CacheOf<Element> cache, const __grid_constant__ Queries queries,
                const uint8_t * key_mask, const __grid_constant__ Partial partial) {
    constexpr bool is_coded = sizeof(Element) == 1;
    using Work = PartWork<head>;
    using Tile = PaddedTile<head>;
    extern __shared__ __align__(16) bf16 tiles[];
    const Tile k_tile = {tiles}, v_tile = {tiles + Tile::bytes / int(sizeof(bf16))};
    using Heads = bf16[heads_at_once + 1][Tile::stride]; // the last: k
    __shared__ __align__(16) union {
        typename Work::Scores scores;
        uint8_t heads[makes ? sizeof(Heads) : 1]; // until queries are in registers
    } shared;
    Heads & made_heads = reinterpret_cast<Heads &>(shared.heads);
    __shared__ __align__(16) typename Work::Shared of_work;
    Work work(of_work);
    let_later_start();
    [[maybe_unused]] HeadMaker<head> maker(made.rope);
    if (makes && is_coded) maker.set_frequency();
    const Query at_hand(queries, cache.past, int(blockIdx.z));
    if (makes && !is_coded) maker.set_frequency(); // while that is on its way; codes have no registers for both
    const int segment = at_hand.segment, begin = at_hand.at;
    const int past = int(at_hand.past), count = past + 1, each = partial.cut.keys_of_part(count);
    const int first = int(blockIdx.y) * each, last = min(first + each, count);
    if (!at_hand.exists || first >= count) {
        if (blockIdx.y == 0) wait_for_earlier(); // some block does: this kernel must end behind those before it
        return;
    }
    const int group = p.query_heads / p.key_heads, blocks = (group + heads_at_once - 1) / heads_at_once;
    const int key_head = blockIdx.x / blocks, skipped = blockIdx.x % blocks * heads_at_once;
    const int first_head = key_head * group + skipped, heads = min(heads_at_once, group - skipped);
    const int64_t row_stride = int64_t(p.key_heads) * head;
    const int lane = work.lane, warp = work.warp;
    CodedTile<head> k_codes, v_codes;
    const auto load = [&](CodedTile<head> & codes, const Tile & to, const Element * rows, const uint8_t * scales,
                          int key, int end, int left_out) {
        if (key >= last) return;
        const int64_t from = cache.row(segment, key) * p.key_heads + key_head;
        const int exist = min(tile, end - key);
        if constexpr (is_coded) {
            codes.fetch(rows + from * head, scales + from, p.key_heads, exist);
        } else {
            copy_tile<head>(to.memory, rows + from * head, row_stride, exist, left_out);
        }
    };
    const auto load_keys = [&](int key, int end, int left_out) {
        load(k_codes, k_tile, cache.k, cache.k_scales, key, end, left_out);
    };
    const auto load_values = [&](int key, int end, int left_out) {
        load(v_codes, v_tile, cache.v, cache.v_scales, key, end, left_out);
    };
    if constexpr (makes) {
        const bool has_newest = last == count;
        const int newest = has_newest && past - first < tile ? past - first : -1; // row of the first tile
        const int end = min(last, past);
        float q_weights[8], k_weights[8], of_q[8], of_k[8];
        uint4 of_v;
        const auto load_weights = [&] {
            HeadMaker<head>::load(made.q.weight, q_weights);
            HeadMaker<head>::load(made.k.weight, k_weights);
        };
        if (!is_coded) load_weights(); // tiles of codes take their registers meanwhile
        load_keys(first, end, newest);
        load_values(first, end, newest);
        if (is_coded) load_weights();
        wait_for_earlier();
        const int64_t q_row = int64_t(begin) * p.query_heads + first_head,
                      k_row = int64_t(begin) * p.key_heads + key_head;
        const bool stores_k = has_newest && warp == 0;
        const bool stores_v = has_newest && warp == 1 && (is_coded || lane < HeadMaker<head>::lanes);
        const bf16 * const v_head = made.v + k_row * head;
        const int h = min(warp, heads - 1); // warps without a head make the last one for themselves
        HeadMaker<head>::load(made.q.x + (q_row + h) * made.q.stride, of_q);
        if (stores_k) HeadMaker<head>::load(made.k.x + k_row * made.k.stride, of_k);
        if (!is_coded && stores_v) of_v = *reinterpret_cast<const uint4 *>(v_head + lane * 8);
        maker.set_position(made.positions, begin); // while those are on their way
        const bool writes = blockIdx.y == 0 && warp < heads;
        maker.make(of_q, q_weights, made.q, made_heads[warp], writes ? made.q.normed + (q_row + h) * head : nullptr,
                   writes ? made.q.out + (q_row + h) * head : nullptr);
        const int64_t to = cache.row(segment, past) * p.key_heads + key_head;
        if (stores_k) {
            bf16 * const k_head = made_heads[heads_at_once];
            maker.make(of_k, k_weights, made.k, k_head, made.k.normed + k_row * head, made.k.out + k_row * head);
            store_head<head>(k_head, cache, to, false);
            if (!is_coded && newest >= 0 && lane < HeadMaker<head>::lanes)
                *reinterpret_cast<uint4 *>(k_tile.eight(newest, lane * 8)) =
                    *reinterpret_cast<const uint4 *>(k_head + lane * 8);
        }
        if (stores_v) {
            if constexpr (is_coded) {
                pack_head<head>(v_head + lane * (head / warp_size), cache.v + to * head, cache.v_scales + to);
            } else {
                store_eight(cache.v + to * head + lane * 8, of_v);
                if (newest >= 0) *reinterpret_cast<uint4 *>(v_tile.eight(newest, lane * 8)) = of_v;
            }
        }
        __syncthreads();
        if constexpr (is_coded)
            if (newest >= 0) {
                const int64_t from = cache.row(segment, first) * p.key_heads + key_head;
                k_codes.fetch_row(cache.k + to * head, newest);
                k_codes.fetch_scales(cache.k_scales + from, p.key_heads, newest + 1);
                v_codes.fetch_row(cache.v + to * head, newest);
                v_codes.fetch_scales(cache.v_scales + from, p.key_heads, newest + 1);
            }
        work.load_queries(made_heads[0], Tile::stride, heads);
    } else {
        // Rows from here on are new ones of this pass.
        const bool early = first + tile <= cache.past[segment];
        const auto load_first = [&] {
            load_keys(first, last, -1);
            load_values(first, last, -1);
        };
        if (early) load_first();
        wait_for_earlier();
        if (!early) load_first();
        work.load_queries(made.queries + (int64_t(begin) * p.query_heads + first_head) * head, head, heads);
    }
    const bool newest_seen = !key_mask || key_mask[begin];

    for (int key = first; key < last; key += tile) {
        const bool more = key + tile < last;
        if constexpr (is_coded) {
            k_codes.put(k_tile.memory);
        } else {
            wait_for_copies<1>(); // the values are still under way
        }
        __syncthreads();
        work.multiply_keys(k_tile, shared.scores);
        __syncthreads();
        [[maybe_unused]] const float of_keys[2] = {k_codes.scales[0], k_codes.scales[1]};
        load_keys(key + tile, last, -1);
        work.weigh(
            shared.scores,
            [&](int i, float score) {
                const int at = key + lane + i * warp_size;
                if constexpr (is_coded) score *= of_keys[i];
                return at < last && (at < past || newest_seen) ? score * p.scale : -INFINITY;
            },
            [&](int i, bf16 share) {
                if constexpr (is_coded) return __float2bfloat16_rn(__bfloat162float(share) * v_codes.scales[i]);
                return share;
            });
        if constexpr (is_coded) {
            v_codes.put(v_tile.memory);
        } else if (more) {
            wait_for_copies<1>();
        } else {
            wait_for_copies<0>();
        }
        __syncthreads();
        work.multiply_values(v_tile);
        __syncthreads();
        load_values(key + tile, last, -1);
    }
    work.store(partial, (int64_t(blockIdx.z) * p.query_heads + first_head) * partial.parts + blockIdx.y, heads);
}

} // namespace decode

} // namespace gnv::cuda
