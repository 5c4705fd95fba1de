// Causal attention with heads of 256, with Hopper's tensor cores and copy engine. The arithmetic is that of
// attention.cu: scores in F32 from BF16, softmax as it goes, probabilities rounded to BF16 before they are divided by
// their sum.
//
//   a cluster: two blocks, for the same 128 queries of two heads of one key head; each fetches half of a tile for both
//   a block:   a thread that has tiles copied to a ring of places, and two groups that multiply, each 64 queries
//
// A group computes the softmax of a tile while the tensor cores sum the values of the tile before and multiply for the
// other group. Clusters stay: each takes its next queries from a count, and their tiles arrive while it finishes the
// last ones.
#include "cuda/attention_hopper.cuh"
#include "cuda/attention_text_hopper.cuh"
#include "cuda/copy_engine.cuh"
#include "cuda/tensor_map.h"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

// Three places for tiles of 96 keys, or of their values, fill the shared memory. Products of smaller tiles, which have
// more places, read more of it for each number.
template <int blocks_, bool cached_>
struct Tiling {
    static constexpr int blocks = blocks_; // of a cluster
    static constexpr bool cached = cached_;
    static constexpr int size = 256, keys = 96, places = 3, groups = 2, panels = size / tile_columns;
    static constexpr int queries = groups * group_queries, threads = (groups + 1) * group_threads;
    static constexpr int query_elements = queries * size, tile_elements = keys * size;
    static constexpr int query_bytes = query_elements * int(sizeof(bf16));
    static constexpr int tile_bytes = tile_elements * int(sizeof(bf16));
    static constexpr int bytes = query_bytes + places * tile_bytes + tile_alignment;
    static_assert(cache_page % keys == 0); // a tile is in one page
    static_assert(queries == text_queries);
};

// Some queries of one head. Keys and queries are numbered from the beginning of the text.
struct Work {
    int head, first_query, tiles; // no tiles: there is no more work
    int shift, past, length;      // from rows to numbers; keys before the rows; of the text so far
};

// What the threads of a block tell each other, and the first block of a cluster the second.
template <class T>
struct Messages {
    Arrivals full[T::places], empty[T::places];
    Arrivals queries_full, queries_empty;
    Work work[2];
    Arrivals work_full[2], work_empty[2];
    int next; // for the second block
    Arrivals next_full, next_empty;

    __device__ void start() {
        constexpr int warps = T::groups * 4;
        for (int i = 0; i < T::places; i++) {
            start_arrivals(full[i], 1);
            start_arrivals(empty[i], warps * T::blocks);
        }
        start_arrivals(queries_full, 1);
        start_arrivals(queries_empty, warps);
        for (int i = 0; i < 2; i++) {
            start_arrivals(work_full[i], 1);
            start_arrivals(work_empty[i], warps);
        }
        start_arrivals(next_full, 1);
        start_arrivals(next_empty, 1);
    }
};

// A place of the ring, and how often the ring was passed before.
template <class T>
struct Cursor {
    int place = 0, pass = 0;
    __device__ void step() {
        if (++place == T::places) place = 0, pass++;
    }
};

// The thread that has tiles copied. Tiles follow each other in the order of their use: the first keys, then keys and
// the values of the tile before, the last values.
template <class T>
__device__ void feed(const BlockAttention & a, const CUtensorMap & q_map, const CUtensorMap & k_map,
                     const CUtensorMap & v_map, Messages<T> & m, bf16 * q_tile, bf16 * ring, int rank) {
    const Attention & p = a.shape;
    const int heads = p.query_heads / T::blocks; // for a cluster's first block
    const int items = a.first_blocks[a.segment_count] * heads, clusters = int(gridDim.x) / T::blocks;
    Cursor<T> at;
    int item = int(blockIdx.x) / T::blocks;
    for (int turn = 0;; turn++) {
        Work work = {};
        int segment = 0;
        if (item < items) {
            const int block = item / heads;
            segment = stretch_of(a.first_blocks, a.segment_count, block);
            const int begin = a.segments[segment], end = a.segments[segment + 1];
            // The last queries of a segment see the most keys: they come first, so that none is left over at the end.
            const int first = begin + (a.first_blocks[segment + 1] - 1 - block) * T::queries;
            work.head = item % heads * T::blocks + rank;
            work.past = T::cached ? a.cache.past[segment] : 0;
            work.shift = work.past - begin, work.length = work.past + end - begin;
            work.first_query = first + work.shift;
            work.tiles = (min(work.first_query + T::queries, work.length) + T::keys - 1) / T::keys;
        }
        if (turn >= 2) wait_for(m.work_empty[turn % 2], turn / 2 - 1);
        m.work[turn % 2] = work;
        arrive(m.work_full[turn % 2]);
        if (work.tiles == 0) return;

        const int key_column = work.head / (p.query_heads / p.key_heads) * T::size;
        const auto copy = [&](const CUtensorMap & map, int tile) {
            const int key = tile * T::keys;
            const int row = T::cached ? int(a.cache.row(segment, key)) : key - work.shift;
            if (at.pass > 0) wait_for(m.empty[at.place], at.pass - 1);
            Arrivals & full = m.full[at.place];
            expect_bytes(full, T::tile_bytes);
            constexpr int share = T::panels / T::blocks; // of each block
#pragma unroll
            for (int i = 0; i < share; i++) {
                const int panel = rank * share + i, column = key_column + panel * tile_columns;
                bf16 * const to = ring + at.place * T::tile_elements + panel * T::keys * tile_columns;
                if constexpr (T::blocks == 1) {
                    copy_box(to, map, column, row, 0, full);
                } else {
                    copy_box_to(to, map, column, row, 0, full, (1 << T::blocks) - 1);
                }
            }
            at.step();
        };
        if (turn > 0) wait_for(m.queries_empty, turn - 1);
        expect_bytes(m.queries_full, T::query_bytes);
        for (int panel = 0; panel < T::panels; panel++)
            copy_box(q_tile + panel * T::queries * tile_columns, q_map, work.head * T::size + panel * tile_columns,
                     work.first_query - work.shift, 0, m.queries_full);
        copy(k_map, 0);
        for (int tile = 1; tile < work.tiles; tile++) {
            copy(k_map, tile);
            copy(v_map, tile - 1);
        }
        copy(v_map, work.tiles - 1);

        if (rank == 0) {
            item = clusters + atomicAdd(a.taken, 1);
            if (T::blocks > 1) {
                if (turn > 0) wait_for(m.next_empty, turn - 1);
                send_to_block(m.next, item, m.next_full, 1);
            }
        } else {
            expect_bytes(m.next_full, sizeof(int));
            wait_for(m.next_full, turn);
            item = *const_cast<volatile int *>(&m.next);
            arrive_in_block(m.next_empty, 0);
        }
    }
}

// s = q k^T of 64 queries and a tile of keys; not yet done on return.
template <class T>
__device__ void multiply_keys(float (&s)[T::keys / 2], const bf16 * q, const bf16 * k) {
    begin_products();
#pragma unroll
    for (int d = 0; d < T::size; d += 16) {
        const int panel = d / tile_columns;
        multiply_add(s, from_column(tile_descriptor(q + panel * T::queries * tile_columns), d % tile_columns),
                     from_column(tile_descriptor(k + panel * T::keys * tile_columns), d % tile_columns), d > 0);
    }
    commit_products();
}

// Values from row `count` of a tile on become zeros: what is behind a text may be NaN. By a group; the other writes the
// same.
template <class T>
__device__ void clear_values(bf16 * v, int count, int group) {
    constexpr int pieces = T::size / 8;
    for (int i = int(threadIdx.x) % group_threads; i < (T::keys - count) * pieces; i += group_threads) {
        const int piece = i % pieces;
        *reinterpret_cast<uint4 *>(v + piece / 8 * T::keys * tile_columns + piece_at(count + i / pieces, piece % 8)) =
            make_uint4(0, 0, 0, 0);
    }
    show_to_tensor_cores();
    asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(group_threads) : "memory");
}

// Writes the 64 x 256 results of a group, of rows below `length`: the sums of values over the sum of probabilities.
// `query`: of this thread's first row; the second is 8 further. `out`: where the first of them goes. Of each of four
// pieces of 16 bytes four lanes have a word; they exchange words until each has a piece.
template <class T>
__device__ void store_results(const Softmax<T> & state, int query, int length, bf16 * out, int64_t stride) {
    const int quarter = int(threadIdx.x) % 4;
    const bool odd = quarter % 2, high = quarter / 2;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = state.sum[i];
        sum += __shfl_xor_sync(all_lanes, sum, 1);
        sum += __shfl_xor_sync(all_lanes, sum, 2);
        const float factor = sum > 0 ? 1.0f / sum : sum; // 0: no key is seen; NaN stays
        bf16 * const to = out + i * 8 * stride + quarter * 8;
#pragma unroll
        for (int d = 0; d < T::size / 8; d += 4) {
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                words[j] = pair_of(state.o[(d + j) * 4 + 2 * i] * factor, state.o[(d + j) * 4 + 2 * i + 1] * factor);
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                uint32_t &low_word = words[j], &high_word = words[j + 1];
                const uint32_t other = __shfl_xor_sync(all_lanes, odd ? low_word : high_word, 1);
                (odd ? low_word : high_word) = other;
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t &low_word = words[j], &high_word = words[j + 2];
                const uint32_t other = __shfl_xor_sync(all_lanes, high ? low_word : high_word, 2);
                (high ? low_word : high_word) = other;
            }
            if (query + i * 8 < length)
                *reinterpret_cast<uint4 *>(to + d * 8) = make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
}

// A group that multiplies.
template <class T>
__device__ void multiply(const BlockAttention & a, Messages<T> & m, const bf16 * q_tile, bf16 * ring, int group) {
    constexpr int keys = T::keys;
    const Attention & p = a.shape;
    const int lane = threadIdx.x % warp_size, row = lane / 4, pair = lane % 4 * 2; // of sums, as wgmma.cuh says
    const bf16 * const q_rows = q_tile + group * group_queries * tile_columns;
    const float scale = p.scale * log2_of_e;
    Cursor<T> at;
    const auto wait_for_tile = [&](const Cursor<T> & c) { wait_for(m.full[c.place], c.pass); };
    const auto tile_at = [&](const Cursor<T> & c) { return ring + c.place * T::tile_elements; };
    const auto free_tile = [&](const Cursor<T> & c) { // in all blocks of the cluster: each copies to all
        if constexpr (T::blocks == 1) {
            if (lane == 0) arrive(m.empty[c.place]);
        } else {
            if (lane < T::blocks) arrive_in_block(m.empty[c.place], lane);
        }
    };
    for (int turn = 0;; turn++) {
        wait_for(m.work_full[turn % 2], turn / 2);
        const Work work = m.work[turn % 2];
        __syncwarp();
        if (lane == 0) arrive(m.work_empty[turn % 2]);
        if (work.tiles == 0) return;

        const int length = work.length;
        const int group_query = work.first_query + group * group_queries; // the first of the group, and of the warp
        const int warp_query = group_query + int(threadIdx.x) / warp_size % 4 * 16;
        const int own_tiles = group_query < length ? (min(group_query + group_queries, length) + keys - 1) / keys : 0;
        Softmax<T> state;
        float s[keys / 2];
        uint32_t probabilities[keys / 16][4];
        const auto take = [&](int tile) { // the softmax of scores that are done
            const int key = tile * keys;
            if (a.key_mask || key + keys > warp_query + 1) {
#pragma unroll
                for (int n = 0; n < keys / 2; n++) {
                    const int number = key + n / 4 * 8 + pair + n % 2, query = warp_query + row + n / 2 % 2 * 8;
                    const bool seen = number <= query && number < length &&
                                      (number < work.past || !a.key_mask || a.key_mask[number - work.shift]);
                    if (!seen) s[n] = -INFINITY;
                }
            }
            take_softmax<T>(state, s, scale);
        };
        const auto shrink_sums = [&] { // of earlier tiles, to the new maximum
#pragma unroll
            for (int d = 0; d < T::size / 2; d++) state.o[d] *= state.shrink[d / 2 % 2];
        };

        wait_for(m.queries_full, turn);
        int tile = 0;
        if (own_tiles > 0) {
            wait_for_tile(at);
            multiply_keys<T>(s, q_rows, tile_at(at));
            wait_for_products<0>();
            free_tile(at);
            at.step();
            take(0);
            round_probabilities<T>(s, probabilities);
            for (; tile + 1 < own_tiles; tile++) {
                const Cursor<T> of_keys = at;
                at.step();
                const Cursor<T> of_values = at;
                at.step();
                wait_for_tile(of_keys);
                multiply_keys<T>(s, q_rows, tile_at(of_keys));
                shrink_sums();
                wait_for_tile(of_values);
                add_values<T>(state, probabilities, tile_at(of_values));
                wait_for_products<1>();
                free_tile(of_keys);
                take(tile + 1);
                // Without this wait, for the next keys, the compiler moves the one that follows before the softmax,
                // which then computes while no product of this group does.
                if (tile + 2 < own_tiles) wait_for_tile(at);
                wait_for_products<0>();
                free_tile(of_values);
                round_probabilities<T>(s, probabilities);
            }
        }
        if (lane == 0) arrive(m.queries_empty);
        const auto pass_by = [&] { // a tile that only the other group needs
            wait_for_tile(at);
            free_tile(at);
            at.step();
        };
        int others = 2 * (work.tiles - own_tiles);
        if (own_tiles > 0) {
            if (others > 0) pass_by(), others--; // keys, which come before the values of the tile before
            shrink_sums();
            wait_for_tile(at);
            if (length - tile * keys < keys) clear_values<T>(tile_at(at), length - tile * keys, group);
            add_values<T>(state, probabilities, tile_at(at));
            wait_for_products<0>();
            free_tile(at);
            at.step();
        }
        for (; others > 0; others--) pass_by();
        const int query = warp_query + row;
        const int64_t stride = int64_t(p.query_heads) * T::size;
        store_results<T>(state, query, length, a.out + int64_t(query - work.shift) * stride + work.head * T::size,
                         stride);
    }
}

template <class T>
__global__ void __launch_bounds__(T::threads, 1)
    kernel(const __grid_constant__ BlockAttention a, const __grid_constant__ CUtensorMap q_map,
           const __grid_constant__ CUtensorMap k_map, const __grid_constant__ CUtensorMap v_map) {
    extern __shared__ unsigned char memory[];
    __shared__ Messages<T> messages;
    bf16 * const q_tile = static_cast<bf16 *>(aligned_tiles(memory));
    bf16 * const ring = q_tile + T::query_elements;
    if (threadIdx.x == 0) {
        messages.start();
        show_barriers();
    }
    wait_for_cluster();
    const int group = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0); // known to be one for the warp
    if (group == T::groups) {
        give_registers<24>();
        if (threadIdx.x == T::groups * group_threads)
            feed<T>(a, q_map, k_map, v_map, messages, q_tile, ring, T::blocks == 1 ? 0 : rank_in_cluster());
        __syncwarp();
    } else {
        take_registers<240>();
        multiply<T>(a, messages, q_tile, ring, group);
    }
    wait_for_cluster(); // the other block copies to this one, and tells it of free places
}

template <class T>
Status launch(cudaStream_t stream, const BlockAttention & a, unsigned blocks, int processors) {
    const Attention & p = a.shape;
    const int64_t q_columns = int64_t(p.query_heads) * T::size, k_columns = int64_t(p.key_heads) * T::size;
    const bf16 * const k = T::cached ? a.cache.k : a.k; // the new ones are in the cache, too
    const bf16 * const v = T::cached ? a.cache.v : a.v;
    const int64_t rows = T::cached ? a.cache.rows : p.tokens;
    GNV_ASSIGN(const CUtensorMap q_map, tensor_map({a.q, 1, p.tokens, q_columns, 2}, T::queries));
    GNV_ASSIGN(const CUtensorMap k_map, tensor_map({k, 1, rows, k_columns, 2}, T::keys));
    GNV_ASSIGN(const CUtensorMap v_map, tensor_map({v, 1, rows, k_columns, 2}, T::keys));
    cudaError_t error = cudaFuncSetAttribute(kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes);
    if (error == cudaSuccess) {
        cudaLaunchAttribute attribute = {};
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim = {unsigned(T::blocks), 1, 1};
        cudaLaunchConfig_t config = {};
        config.gridDim =
            std::min(blocks * unsigned(p.query_heads / T::blocks), unsigned(processors / T::blocks)) * T::blocks;
        config.blockDim = T::threads;
        config.dynamicSmemBytes = size_t(T::bytes);
        config.stream = stream;
        config.attrs = &attribute;
        config.numAttrs = 1;
        error = cudaLaunchKernelEx(&config, kernel<T>, a, q_map, k_map, v_map);
    }
    if (error != cudaSuccess) return fail(Code::device, "attention: ", cudaGetErrorString(error));
    return launched("attention");
}

} // namespace

Status attention_text_hopper(cudaStream_t stream, const BlockAttention & a, unsigned blocks, int processors) {
    if (a.shape.tokens == 0) return {};
    const bool pairs = a.shape.query_heads / a.shape.key_heads % 2 == 0;
    if (a.cache.k)
        return pairs ? launch<Tiling<2, true>>(stream, a, blocks, processors)
                     : launch<Tiling<1, true>>(stream, a, blocks, processors);
    return pairs ? launch<Tiling<2, false>>(stream, a, blocks, processors)
                 : launch<Tiling<1, false>>(stream, a, blocks, processors);
}

} // namespace gnv::cuda
