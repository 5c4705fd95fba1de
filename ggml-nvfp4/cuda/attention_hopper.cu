// Attention in blocks of queries with Hopper's tensor cores. The arithmetic is that of attention.cu: scores in F32 from BF16,
// softmax as it goes, probabilities rounded to BF16 before they are divided by their sum.
//
//   a block: two groups of 4 warps, each 64 queries of one head; tiles of keys and of values come through shared memory, two
//   of each, while the group multiplies
//
// A group computes the softmax of a tile while the tensor cores sum the values of the tile before, and the two groups wait for
// each other only where a tile arrives.
#include "cuda/attention.cuh"
#include "cuda/tiles.cuh"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int queries = hopper_queries, group_queries = 64, group_threads = 128, threads = 256;

// `size`: of a head, or the next larger one; `keys` in a tile.
template <int size_, int keys_>
struct Tiling {
    static constexpr int size = size_, keys = keys_;
    static constexpr int panels = (size + tile_columns - 1) / tile_columns; // tiles side by side
    static constexpr int query_elements = panels * queries * tile_columns, key_elements = panels * keys * tile_columns;
    static constexpr int bytes = (query_elements + 4 * key_elements) * int(sizeof(bf16)) + tile_alignment;
};

// A barrier for the block, which its two groups reach from different places.
__device__ void meet() { asm volatile("bar.sync 1, %0;" ::"n"(threads) : "memory"); }

// Copies `rows` rows of a head to panels of tiles; those from `count` on, at least 1, become zeros, and what is behind the head.
template <class T, int rows, bool general>
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int count, int head) {
    constexpr int pieces = T::size / 8, rows_at_once = threads / pieces;
    const int piece = int(threadIdx.x) % pieces, first = int(threadIdx.x) / pieces;
    if (threads % pieces != 0 && first == rows_at_once) return; // the threads that are left over
    const bool real = !general || piece * 8 < head;
    const bf16 * source = from + first * stride + piece * 8;
    to += piece / 8 * rows * tile_columns;
#pragma unroll
    for (int i = 0; i < (rows + rows_at_once - 1) / rows_at_once; i++, source += rows_at_once * stride) {
        const int row = first + i * rows_at_once;
        if (rows % rows_at_once != 0 && row >= rows) break;
        const bool exists = real && row < count;
        copy_16_bytes(to + piece_at(row, piece % 8), exists ? source : from, exists);
    }
}

// 2^x; where that is below the smallest normal number, 0.
__device__ float power_of_two(float x) {
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

// s = q k^T of 64 queries and a tile of keys; not yet done on return.
template <class T>
__device__ void multiply_keys(float (&s)[T::keys / 2], const bf16 * q, const bf16 * k) {
#pragma unroll
    for (float & score : s) score = 0;
    begin_products();
#pragma unroll
    for (int d = 0; d < T::size; d += 16) {
        const int panel = d / tile_columns;
        multiply_add(s, from_column(tile_descriptor(q + panel * queries * tile_columns), d % tile_columns),
                     from_column(tile_descriptor(k + panel * T::keys * tile_columns), d % tile_columns));
    }
    commit_products();
}

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

// Sums of earlier tiles to the new maximum.
template <class T>
__device__ void shrink_sums(Softmax<T> & state) {
    if (!__any_sync(all_lanes, state.shrink[0] != 1 || state.shrink[1] != 1)) return; // times 1
#pragma unroll
    for (int d = 0; d < T::size / 2; d++) state.o[d] *= state.shrink[d / 2 % 2];
}

template <class T>
__device__ void round_probabilities(const float (&s)[T::keys / 2], uint32_t (&p)[T::keys / 16][4]) {
#pragma unroll
    for (int n = 0; n < T::keys / 16; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[n][i] = pair_of(s[n * 8 + 2 * i], s[n * 8 + 2 * i + 1]);
}

// Block: some queries of one head; the heads of the same queries are neighbours. `general`: the shape says the head's size and
// what is seen.
template <class T, bool cached, bool general>
__global__ void __launch_bounds__(threads, 1) kernel(BlockAttention a) {
    constexpr int keys = T::keys;
    static_assert(!cached || cache_page % keys == 0);
    const Attention & p = a.shape;
    const int head = general ? p.head : T::size;
    const bool causal = !general || p.causal;
    extern __shared__ unsigned char memory[];
    bf16 * const q_tile = static_cast<bf16 *>(aligned_tiles(memory));
    bf16 * const k_tiles = q_tile + T::query_elements;
    bf16 * const v_tiles = k_tiles + 2 * T::key_elements;

    const int block = int(blockIdx.x / unsigned(p.query_heads)), query_head = int(blockIdx.x % unsigned(p.query_heads));
    if (block >= a.first_blocks[a.segment_count]) return;
    const int segment = stretch_of(a.first_blocks, a.segment_count, block);
    const int begin = a.segments[segment], end = a.segments[segment + 1], past = cached ? a.cache.past[segment] : 0;
    // The last queries of a segment see the most keys: their blocks come first, so that none is left over at the end.
    const int first = begin + (a.first_blocks[segment + 1] - 1 - block) * queries;
    // Keys and queries are numbered from the beginning of the text.
    const int shift = past - begin, length = past + end - begin;
    const int key_head = query_head / (p.query_heads / p.key_heads);
    const int64_t q_stride = int64_t(p.query_heads) * head, k_stride = int64_t(p.key_heads) * head;

    const int lane = threadIdx.x % warp_size;
    const int group = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0); // known to be one for the warp
    const int row = lane / 4, pair = lane % 4 * 2; // of sums: rows row and row + 8, columns pair and + 1
    const int first_query = first + shift, last_query = first_query + queries;
    const int group_query = first_query + group * group_queries; // the first of the group, and of the warp
    const int warp_query = group_query + int(threadIdx.x) / warp_size % 4 * 16;
    const auto tiles_before = [&](int query) { // with keys that a query before this one sees
        const int last_key = causal ? min(query, length) : length;
        return (last_key + keys - 1) / keys;
    };
    const int tiles = tiles_before(last_query),
              own_tiles = group_query < length ? tiles_before(group_query + group_queries) : 0;

    // All keys and values of the text: with a cache the new ones are there, too.
    const bf16 * const keys_in = (cached ? a.cache.k : a.k) + int64_t(key_head) * head;
    const bf16 * const values_in = (cached ? a.cache.v : a.v) + int64_t(key_head) * head;
    const auto load = [&](bf16 * to, const bf16 * from, int tile) {
        if (tile >= tiles) return;
        const int key = tile * keys;
        const int64_t row_of_key = cached ? a.cache.row(segment, key) : begin + key;
        copy_rows<T, keys, general>(to, from + row_of_key * k_stride, k_stride, length - key, head);
    };
    const auto keys_of = [&](int tile) { return k_tiles + tile % 2 * T::key_elements; };
    const auto values_of = [&](int tile) { return v_tiles + tile % 2 * T::key_elements; };
    const auto load_keys = [&](int tile) { load(keys_of(tile), keys_in, tile); };
    const auto load_values = [&](int tile) { load(values_of(tile), values_in, tile); };

    copy_rows<T, queries, general>(q_tile, a.q + first * q_stride + int64_t(query_head) * head, q_stride, end - first,
                                   head);
    load_keys(0);
    commit_copies();
    load_values(0);
    load_keys(1);
    commit_copies();

    Softmax<T> state;
    const float scale = p.scale * log2_of_e;
    float s[keys / 2];
    uint32_t probabilities[keys / 16][4];
    const bf16 * const q_rows = q_tile + group * group_queries * tile_columns;
    const auto take = [&](int tile) { // the softmax of scores that are done
        const int key = tile * keys;
        if (a.key_mask || key + keys > (causal ? warp_query + 1 : length)) {
#pragma unroll
            for (int n = 0; n < keys / 2; n++) {
                const int at = key + n / 4 * 8 + pair + n % 2, query = warp_query + row + n / 2 % 2 * 8;
                const bool seen =
                    (!causal || at <= query) && at < length && (at < past || !a.key_mask || a.key_mask[at - shift]);
                if (!seen) s[n] = -INFINITY;
            }
        }
        take_softmax<T>(state, s, scale);
    };
    // The next keys and these values arrive; these keys and the values before are no longer read.
    const auto arrive = [&] {
        wait_for_copies<0>();
        show_to_tensor_cores();
        meet();
    };
    const auto load_after = [&](int tile) {
        load_keys(tile + 2);
        load_values(tile + 1);
        commit_copies();
    };
    wait_for_copies<1>();
    show_to_tensor_cores();
    meet(); // queries and the first keys have arrived
    int tile = 0;
    if (own_tiles > 0) {
        multiply_keys<T>(s, q_rows, keys_of(0));
        wait_for_products<0>();
        take(0);
        round_probabilities<T>(s, probabilities);
        for (; tile + 1 < own_tiles; tile++) {
            arrive();
            multiply_keys<T>(s, q_rows, keys_of(tile + 1));
            add_values<T>(state, probabilities, values_of(tile));
            load_after(tile);
            wait_for_products<1>();
            take(tile + 1);
            wait_for_products<0>();
            shrink_sums<T>(state);
            round_probabilities<T>(s, probabilities);
        }
        arrive();
        add_values<T>(state, probabilities, values_of(tile));
        load_after(tile++);
        wait_for_products<0>();
    }
    for (; tile < tiles; tile++) { // that only the other group needs
        arrive();
        load_after(tile);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = state.sum[i];
        sum += __shfl_xor_sync(all_lanes, sum, 1);
        sum += __shfl_xor_sync(all_lanes, sum, 2);
        const int query = warp_query + row + i * 8;
        if (query >= length) continue;
        const float factor = sum > 0 ? 1.0f / sum : sum; // 0: no key is seen; NaN stays
        bf16 * const to = a.out + int64_t(query - shift) * q_stride + int64_t(query_head) * head + pair;
#pragma unroll
        for (int d = 0; d < T::size / 8; d++)
            if (!general || d * 8 < head)
                *reinterpret_cast<uint32_t *>(to + d * 8) =
                    pair_of(state.o[d * 4 + 2 * i] * factor, state.o[d * 4 + 2 * i + 1] * factor);
    }
}

template <class T, bool cached, bool general>
Status launch(cudaStream_t stream, const BlockAttention & attention, unsigned blocks) {
    const auto chosen = kernel<T, cached, general>;
    const cudaError_t error = cudaFuncSetAttribute(chosen, cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes);
    if (error != cudaSuccess) return fail(Code::device, "attention: ", cudaGetErrorString(error));
    chosen<<<blocks * unsigned(attention.shape.query_heads), threads, T::bytes, stream>>>(attention);
    return launched("attention");
}

template <class T>
Status launch_causal(cudaStream_t stream, const BlockAttention & attention, unsigned blocks) {
    return attention.cache.k ? launch<T, true, false>(stream, attention, blocks)
                             : launch<T, false, false>(stream, attention, blocks);
}

} // namespace

Status attention_hopper(cudaStream_t stream, const BlockAttention & attention, int64_t head, unsigned blocks) {
    if (attention.shape.head == 0) {
        switch (head) {
        case 256: return launch_causal<Tiling<256, 64>>(stream, attention, blocks);
        case 128: return launch_causal<Tiling<128, 64>>(stream, attention, blocks);
        default: return launch_causal<Tiling<64, 64>>(stream, attention, blocks);
        }
    }
    if (head <= 64) return launch<Tiling<64, 128>, false, true>(stream, attention, blocks);
    if (head <= 80) return launch<Tiling<80, 128>, false, true>(stream, attention, blocks);
    if (head <= 128) return launch<Tiling<128, 128>, false, true>(stream, attention, blocks);
    return launch<Tiling<256, 64>, false, true>(stream, attention, blocks);
}

} // namespace gnv::cuda
