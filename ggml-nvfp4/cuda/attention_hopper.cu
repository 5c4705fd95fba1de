// Attention in blocks of queries with Hopper's tensor cores; attention_text_hopper.cu has that of texts with heads of 256. The
// arithmetic is that of attention.cu: scores in F32 from BF16, softmax as it goes, probabilities rounded to BF16 before they
// are divided by their sum.
//
//   a block: one group of 4 warps that copies tiles of keys and of values to shared memory, and two or three groups that
//   multiply, each 64 queries of one head
//
// A group computes the softmax of a tile while the tensor cores sum the values of the tile before and multiply for the other
// groups. A place in shared memory is filled again as soon as all groups are done with the tile in it.
#include "cuda/arrivals.cuh"
#include "cuda/attention_hopper.cuh"
#include "cuda/attention_text_hopper.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

// `size`: of a head, or the next larger one, of which `pieces` of 16 bytes are real; 0: the shape says how many. `keys` in a tile.
// `places` are there for tiles of keys, and as many for tiles of values.
template <int size_, int keys_, int groups_, int pieces_ = size_ / 8>
struct Tiling {
    static constexpr int size = size_, keys = keys_, groups = groups_, pieces = pieces_, places = 2;
    static constexpr int queries = groups * group_queries, threads = (groups + 1) * group_threads;
    static constexpr int panels = (size + tile_columns - 1) / tile_columns; // tiles side by side
    static constexpr int query_elements = panels * queries * tile_columns, key_elements = panels * keys * tile_columns;
    static constexpr int elements = query_elements + 2 * places * key_elements;
    static constexpr int bytes = elements * int(sizeof(bf16)) + tile_alignment;
    // Of 65,536 registers, in steps of 8.
    static constexpr int copying_registers = groups == 3 ? 32 : 24, multiplying_registers = groups == 3 ? 160 : 240;
};

// Arrivals at the places of tiles.
template <class T>
struct Places {
    Arrivals full[T::places], empty[T::places];

    __device__ void start() {
        for (int i = 0; i < T::places; i++) {
            start_arrivals(full[i], group_threads);
            start_arrivals(empty[i], T::groups * 4);
        }
    }
    // By all threads that copy: the tile is there once their copies have arrived.
    __device__ void announce(int tile) { arrive_with_copies(full[tile % T::places]); }
    __device__ void wait_for_tile(int tile) {
        wait_for(full[tile % T::places], tile / T::places);
        show_to_tensor_cores();
    }
    // By one lane of each warp that used the tile.
    __device__ void free_tile(int tile) { arrive(empty[tile % T::places]); }
    // Until the tile that was there is no longer used.
    __device__ void wait_for_place(int tile) {
        if (tile >= T::places) wait_for(empty[tile % T::places], tile / T::places - 1);
    }
};

// Copies `rows` rows of `pieces` pieces each to panels of tiles; rows from `count` on become zeros. By one group, in a loop that
// needs few registers.
template <int rows>
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int count, int pieces) {
    const int row_step = group_threads / pieces, piece_step = group_threads % pieces;
    const int thread = int(threadIdx.x) % group_threads;
    int row = thread / pieces, piece = thread % pieces;
    const bf16 * source = from + row * stride + piece * 8;
#pragma unroll 1
    while (row < rows) {
        const bool exists = row < count;
        copy_16_bytes(to + piece / 8 * rows * tile_columns + piece_at(row, piece % 8), exists ? source : from, exists);
        row += row_step;
        piece += piece_step;
        source += row_step * stride + piece_step * 8;
        if (piece_step > 0 && piece >= pieces) {
            piece -= pieces;
            row++;
            source += stride - pieces * 8;
        }
    }
}

// s = q k^T of 64 queries and a tile of keys; not yet done on return.
template <class T>
__device__ void multiply_keys(float (&s)[T::keys / 2], const bf16 * q, const bf16 * k) {
#pragma unroll
    for (float & score : s) score = 0;
    begin_products();
#pragma unroll
    for (int d = 0; d < T::size; d += 16) {
        const int panel = d / tile_columns;
        multiply_add(s, from_column(tile_descriptor(q + panel * T::queries * tile_columns), d % tile_columns),
                     from_column(tile_descriptor(k + panel * T::keys * tile_columns), d % tile_columns));
    }
    commit_products();
}

// Sums of earlier tiles to the new maximum.
template <class T>
__device__ void shrink_sums(Softmax<T> & state) {
    if (!__any_sync(all_lanes, state.shrink[0] != 1 || state.shrink[1] != 1)) return; // times 1
#pragma unroll
    for (int d = 0; d < T::size / 2; d++) state.o[d] *= state.shrink[d / 2 % 2];
}

// Writes the 64 x `head` results of a group, of rows below `length`: the sums of values over the sum of probabilities. `query`:
// of this thread's first row; the second is 8 further. `out`: where the first of them goes.
template <class T>
__device__ void store_results(const Softmax<T> & state, int query, int length, bf16 * out, int64_t stride, int head) {
    const int pair = int(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = state.sum[i];
        sum += __shfl_xor_sync(all_lanes, sum, 1);
        sum += __shfl_xor_sync(all_lanes, sum, 2);
        if (query + i * 8 >= length) continue;
        const float factor = sum > 0 ? 1.0f / sum : sum; // 0: no key is seen; NaN stays
        bf16 * const to = out + i * 8 * stride + pair;
#pragma unroll
        for (int d = 0; d < T::size / 8; d++)
            if (d * 8 < head)
                *reinterpret_cast<uint32_t *>(to + d * 8) =
                    pair_of(state.o[d * 4 + 2 * i] * factor, state.o[d * 4 + 2 * i + 1] * factor);
    }
}

// What a kernel is made for: text, where a query sees the keys before it, with a cache or without; all keys; or what the shape
// and the key mask say.
enum class Sight { causal, cached, all, any };

// Block: some queries of one head; the heads of the same queries are neighbours.
template <class T, Sight sight>
__global__ void __launch_bounds__(T::threads, 1) kernel(BlockAttention a) {
    constexpr int keys = T::keys, queries = T::queries;
    constexpr bool cached = sight == Sight::cached, masks = sight != Sight::all;
    static_assert(!cached || cache_page % keys == 0);
    const Attention & p = a.shape;
    const int pieces = T::pieces > 0 ? T::pieces : p.head / 8, head = pieces * 8;
    const bool causal = sight == Sight::any ? p.causal : sight != Sight::all;
    extern __shared__ unsigned char memory[];
    __shared__ Places<T> key_places, value_places;
    bf16 * const q_tile = static_cast<bf16 *>(aligned_tiles(memory));
    bf16 * const k_tiles = q_tile + T::query_elements;
    bf16 * const v_tiles = k_tiles + T::places * T::key_elements;

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
    const auto tiles_before = [&](int query) { // with keys that a query before this one sees
        const int last_key = causal ? min(query, length) : length;
        return (last_key + keys - 1) / keys;
    };
    const int first_query = first + shift, tiles = tiles_before(first_query + queries);

    if (threadIdx.x == 0) {
        key_places.start();
        value_places.start();
    }
    // What is behind a head stays zero: no copy writes it.
    if (head < T::panels * tile_columns) {
        auto * const zeros = reinterpret_cast<uint4 *>(q_tile);
        for (int i = int(threadIdx.x); i < T::elements / 8; i += T::threads) zeros[i] = make_uint4(0, 0, 0, 0);
        show_to_tensor_cores();
    }
    __syncthreads();

    const int group = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0); // known to be one for the warp
    if (group == T::groups) {
        give_registers<T::copying_registers>();
        // All keys and values of the text: with a cache the new ones are there, too.
        const bf16 * const keys_in = (cached ? a.cache.k : a.k) + int64_t(key_head) * head;
        const bf16 * const values_in = (cached ? a.cache.v : a.v) + int64_t(key_head) * head;
        const auto copy = [&](bf16 * to, Places<T> & places, const bf16 * from, int tile) {
            if (tile >= tiles) return;
            const int key = tile * keys;
            const int64_t row_of_key = cached ? a.cache.row(segment, key) : begin + key;
            places.wait_for_place(tile);
            copy_rows<keys>(to + tile % T::places * T::key_elements, from + row_of_key * k_stride, k_stride,
                            length - key, pieces);
            places.announce(tile);
        };
        copy_rows<queries>(q_tile, a.q + first * q_stride + int64_t(query_head) * head, q_stride, end - first, pieces);
        copy(k_tiles, key_places, keys_in, 0); // and the queries
        for (int tile = 0; tile < tiles; tile++) {
            copy(k_tiles, key_places, keys_in, tile + 1);
            copy(v_tiles, value_places, values_in, tile);
        }
        wait_for_copies<0>();
        return;
    }
    take_registers<T::multiplying_registers>();

    const int lane = threadIdx.x % warp_size, row = lane / 4, pair = lane % 4 * 2; // of sums, as wgmma.cuh says
    const int group_query = first_query + group * group_queries; // the first of the group, and of the warp
    const int warp_query = group_query + int(threadIdx.x) / warp_size % 4 * 16;
    const int own_tiles = group_query < length ? tiles_before(group_query + group_queries) : 0;
    Softmax<T> state;
    const float scale = p.scale * log2_of_e;
    float s[keys / 2];
    uint32_t probabilities[keys / 16][4];
    const bf16 * const q_rows = q_tile + group * group_queries * tile_columns;
    const auto take = [&](int tile) { // the softmax of scores that are done
        const int key = tile * keys;
        if ((masks && a.key_mask) || key + keys > (causal ? warp_query + 1 : length)) {
#pragma unroll
            for (int n = 0; n < keys / 2; n++) {
                const int at = key + n / 4 * 8 + pair + n % 2, query = warp_query + row + n / 2 % 2 * 8;
                const bool seen = (!causal || at <= query) && at < length &&
                                  (!masks || at < past || !a.key_mask || a.key_mask[at - shift]);
                if (!seen) s[n] = -INFINITY;
            }
        }
        take_softmax<T>(state, s, scale);
    };
    const auto multiply = [&](int tile) { // scores
        multiply_keys<T>(s, q_rows, k_tiles + tile % T::places * T::key_elements);
    };
    const auto add = [&](int tile) { // weighted values
        add_values<T>(state, probabilities, v_tiles + tile % T::places * T::key_elements);
    };
    int tile = 0;
    if (own_tiles > 0) {
        key_places.wait_for_tile(0);
        multiply(0);
        wait_for_products<0>();
        if (lane == 0) key_places.free_tile(0);
        take(0);
        round_probabilities<T>(s, probabilities);
        for (; tile + 1 < own_tiles; tile++) {
            key_places.wait_for_tile(tile + 1);
            multiply(tile + 1);
            value_places.wait_for_tile(tile);
            add(tile);
            wait_for_products<1>();
            if (lane == 0) key_places.free_tile(tile + 1);
            take(tile + 1);
            wait_for_products<0>();
            if (lane == 0) value_places.free_tile(tile);
            shrink_sums<T>(state);
            round_probabilities<T>(s, probabilities);
        }
        value_places.wait_for_tile(tile);
        add(tile);
        wait_for_products<0>();
        if (lane == 0) value_places.free_tile(tile);
    }
    for (tile = own_tiles; tile < tiles; tile++) { // that only other groups need
        key_places.wait_for_tile(tile);
        value_places.wait_for_tile(tile);
        if (lane == 0) {
            key_places.free_tile(tile);
            value_places.free_tile(tile);
        }
    }
    const int query = warp_query + row;
    store_results<T>(state, query, length, a.out + int64_t(query - shift) * q_stride + int64_t(query_head) * head,
                     q_stride, head);
}

struct Kernel {
    void (*run)(BlockAttention);
    int queries, threads, bytes;
};
template <class T, Sight sight>
Kernel make() {
    return {kernel<T, sight>, T::queries, T::threads, T::bytes};
}

bool is_text_of_256(const BlockAttention & attention, int64_t head) { return attention.shape.head == 0 && head == 256; }

template <int size>
Kernel for_text(bool cached) {
    using T = Tiling<size, 64, size == 64 ? 3 : 2>;
    return cached ? make<T, Sight::cached>() : make<T, Sight::causal>();
}

Kernel choose(const BlockAttention & attention, int64_t head) {
    const Attention & p = attention.shape;
    if (p.head == 0) {
        const bool cached = attention.cache.k;
        return head == 128 ? for_text<128>(cached) : for_text<64>(cached);
    }
    if (!p.causal && !attention.key_mask) {
        switch (p.head) {
        case 64: return make<Tiling<64, 128, 3>, Sight::all>();
        case 72: return make<Tiling<80, 96, 3, 9>, Sight::all>();
        case 80: return make<Tiling<80, 96, 3>, Sight::all>();
        case 128: return make<Tiling<128, 128, 2>, Sight::all>();
        }
    }
    if (p.head <= 64) return make<Tiling<64, 128, 2, 0>, Sight::any>();
    if (p.head <= 80) return make<Tiling<80, 128, 2, 0>, Sight::any>();
    if (p.head <= 128) return make<Tiling<128, 128, 2, 0>, Sight::any>();
    return make<Tiling<256, 64, 2, 0>, Sight::any>();
}

} // namespace

int hopper_queries(const BlockAttention & attention, int64_t head) {
    return is_text_of_256(attention, head) ? text_queries : choose(attention, head).queries;
}

Status attention_hopper(cudaStream_t stream, const BlockAttention & attention, int64_t head, unsigned blocks,
                        int processors) {
    if (is_text_of_256(attention, head)) return attention_text_hopper(stream, attention, blocks, processors);
    const Kernel kernel = choose(attention, head);
    const cudaError_t error =
        cudaFuncSetAttribute(kernel.run, cudaFuncAttributeMaxDynamicSharedMemorySize, kernel.bytes);
    if (error != cudaSuccess) return fail(Code::device, "attention: ", cudaGetErrorString(error));
    kernel.run<<<blocks * unsigned(attention.shape.query_heads), kernel.threads, size_t(kernel.bytes), stream>>>(
        attention);
    return launched("attention");
}

} // namespace gnv::cuda
