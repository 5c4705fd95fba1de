// The parts of attention_decode.cuh, whose tiles the copy engine brings: a tile is one copy, by one thread, so that few instructions lie
// between the start of a block and its first keys. Instructions that run once take longer than the copies they ask for.
//
// A text alone has one block for nearly every processor. Beside a product that leaves room (one_row_shares()) blocks start when its row
// is there, and their first tiles come while it multiplies; they go on when the columns that they need are made, before its last ones.
//
//   product    |row|q, k, v ......|gates|
//   parts          |ask|           |heads|tile|tile|tile|
#include "cuda/attention_decode_hopper.cuh"

#include "cuda/copy_engine.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace decode;
using hopper::tile_columns;

constexpr int threads = warps * warp_size, registers = 64; // what one_row_shares() counts on
constexpr int most_slots = 6; // of the ring that tiles go through: keys, values, the next keys and so on

struct CacheMaps {
    CUtensorMap k, v;
};

// A tile as copies bring it: columns of 64, one behind the other.
template <int head>
struct ColumnTile {
    static constexpr int elements = tile * head, bytes = elements * int(sizeof(bf16));
    bf16 * memory;
    __device__ bf16 * eight(int row, int column) const {
        return memory + column / tile_columns * (tile * tile_columns) +
               hopper::piece_at(row, column % tile_columns / 8);
    }
    __device__ uint4 & chunk(int row, int i) const { return *reinterpret_cast<uint4 *>(eight(row, i * 8)); }
};

template <int head, bool makes>
struct Shared {
    union alignas(16) {
        typename PartWork<head>::Scores scores;
        bf16 queries[makes ? heads_at_once : 1][head + padding]; // until they are in registers
    };
    typename PartWork<head>::Shared of_work;
    alignas(16) bf16 new_k[head], new_v[head];
    float k_weights[head];
    hopper::Arrivals arrived[most_slots];
};

struct Ring {
    int slots;
    size_t bytes; // of shared memory, with all else
};
template <int head, bool makes>
Ring ring_for(bool alone) {
    constexpr int slot = ColumnTile<head>::bytes, rest = sizeof(Shared<head, makes>) + hopper::tile_alignment;
    if (!alone) return {2, 2 * slot + rest};
    static_assert(3 * slot + rest <= lone_decode_bytes);
    return {std::min((lone_decode_bytes - rest) / slot, most_slots), lone_decode_bytes};
}

// Grid and `makes` as in part_kernel(); `group`: query heads of a key head, for which there are `blocks_of_group`.
template <int head, bool makes>
__global__ void __launch_bounds__(threads, (64 << 10) / (threads * registers))
    kernel(const __grid_constant__ Attention p, const __grid_constant__ NewHeads made,
           const __grid_constant__ AttentionCache cache, const __grid_constant__ CacheMaps maps,
           const __grid_constant__ Queries queries, const uint8_t * key_mask, const __grid_constant__ Partial partial,
           int group, int blocks_of_group, int slots) {
    using Tile = ColumnTile<head>;
    constexpr int chunks = head / 8; // of a row
    extern __shared__ unsigned char memory[];
    auto * const tiles = static_cast<bf16 *>(hopper::aligned_tiles(memory));
    auto & shared = *reinterpret_cast<Shared<head, makes> *>(tiles + slots * Tile::elements);
    const auto tile_in = [&](int slot) { return Tile{tiles + slot * Tile::elements}; };
    PartWork<head> work(shared.of_work);
    const int lane = work.lane, warp = work.warp;

    let_later_start();
    if (threadIdx.x == 0) {
        hopper::prefetch_map(maps.k);
        hopper::prefetch_map(maps.v);
        for (hopper::Arrivals & of_tile : shared.arrived) hopper::start_arrivals(of_tile, 1);
        hopper::show_barriers();
    }
    const Query at_hand(queries, cache.past, int(blockIdx.z));
    const int segment = at_hand.segment, begin = at_hand.at;
    const int past = int(at_hand.past), count = past + 1, each = partial.cut.keys_of_part(count);
    const int first = int(blockIdx.y) * each, last = min(first + each, count);
    const bool has_newest = last == count;
    if (!at_hand.exists || first >= count) {
        if (blockIdx.y == 0) wait_for_earlier(); // some block does: this kernel must end behind those before it
        return;
    }
    int key_head = blockIdx.x, skipped = 0;
    if (blocks_of_group > 1)
        key_head = blockIdx.x / blocks_of_group, skipped = blockIdx.x % blocks_of_group * heads_at_once;
    const int first_head = key_head * group + skipped, heads = min(heads_at_once, group - skipped);

    // The queries of a segment share its rows.
    const uint64_t policy = queries.ahead > 0 ? hopper::stays() : hopper::goes_first();
    // Asks for tile `item` / 2 of the keys, or with an odd item of the values. Rows behind the last one come, too.
    const auto ask = [&](int item, int slot) {
        const int key = first + item / 2 * tile;
        if (threadIdx.x != 0 || key >= last) return;
        hopper::expect_bytes(shared.arrived[slot], Tile::bytes);
        hopper::copy_box(tile_in(slot).memory, item % 2 ? maps.v : maps.k, 0, int(cache.row(segment, key)),
                         key_head * (head / tile_columns), shared.arrived[slot], policy);
    };
    const auto ask_first = [&] {
#pragma unroll 1
        for (int item = 0; item < slots; item++) ask(item, item);
    };
    [[maybe_unused]] HeadMaker<head> maker(made.rope);
    // The last part makes the new row: warp 0 its k, warp 1 its v. What they are made of:
    const auto ask_new_row = [&] {
        const int64_t from = int64_t(begin) * p.key_heads + key_head;
        if (warp < 2 && lane < chunks)
            copy_16_bytes((warp == 0 ? shared.new_k : shared.new_v) + lane * 8,
                          (warp == 0 ? made.k.x + from * made.k.stride : made.v + from * head) + lane * 8);
    };
    // They go into the cache, too.
    const auto make_new_row = [&] {
        if (warp > 1) return;
        commit_copies();
        wait_for_copies<0>();
        __syncwarp();
        const int64_t from = int64_t(begin) * p.key_heads + key_head;
        const int64_t to = cache.row(segment, past) * p.key_heads + key_head;
        if (warp == 0) {
            float weights[8], x[8];
            HeadMaker<head>::load(shared.k_weights, weights);
            HeadMaker<head>::load(shared.new_k, x);
            __syncwarp(); // all lanes have
            maker.make(x, weights, made.k, shared.new_k, made.k.normed + from * head, made.k.out + from * head);
        }
        store_head<head>(warp == 0 ? shared.new_k : shared.new_v, cache, to, warp == 1);
    };
    // A tile that was asked for before has something else there.
    const auto put_new_row = [&](const Tile & to, const bf16 * row, int at) {
        if (int(threadIdx.x) < chunks) to.chunk(at, threadIdx.x) = reinterpret_cast<const uint4 *>(row)[threadIdx.x];
    };

    if constexpr (makes) {
        ask_first();
        if (has_newest && warp == 0)
            for (int i = lane * 4; i < head; i += warp_size * 4) copy_16_bytes(shared.k_weights + i, made.k.weight + i);
        float weights[8], x[8];
        HeadMaker<head>::load(made.q.weight, weights);
        maker.set_frequency();
        maker.set_position(made.positions, begin);
        if (partial.made) {
            if (threadIdx.x == 0) wait_for_made(partial.made, partial.all);
            __syncthreads();
        } else {
            wait_for_earlier();
        }
        if (has_newest) ask_new_row();
        const int h = min(warp, heads - 1); // warps without a head make the last one for themselves
        const int64_t row = int64_t(begin) * p.query_heads + first_head + h;
        HeadMaker<head>::load(made.q.x + row * made.q.stride, x);
        const bool writes = blockIdx.y == 0 && warp < heads;
        maker.make(x, weights, made.q, shared.queries[warp], writes ? made.q.normed + row * head : nullptr,
                   writes ? made.q.out + row * head : nullptr);
        if (has_newest) make_new_row();
        __syncthreads();
        work.load_queries(shared.queries[0], head + padding, heads);
    } else {
        // Rows from here on are new ones of this pass.
        const bool early = min(last, first + (slots + 1) / 2 * tile) <= cache.past[segment];
        if (early) ask_first();
        wait_for_earlier();
        if (!early) ask_first();
        work.load_queries(made.queries + (int64_t(begin) * p.query_heads + first_head) * head, head, heads);
    }
    const bool newest_seen = !key_mask || key_mask[begin];
    __syncthreads(); // queries are in registers, and arrivals have begun

    // The next tile's place, the phase of its arrivals, and the next item to ask for.
    int slot = 0, phase = 0, asked = slots;
    const auto use_next = [&] {
        ask(asked++, slot);
        if (++slot == slots) slot = 0, phase ^= 1;
    };
    for (int key = first; key < last; key += tile) {
        const bool ends = key + tile >= last;
        hopper::wait_for(shared.arrived[slot], phase); // each thread for itself
        if (makes && has_newest && ends) {
            put_new_row(tile_in(slot), shared.new_k, past - key);
            __syncthreads();
        }
        work.multiply_keys(tile_in(slot), shared.scores);
        __syncthreads();
        use_next();
        work.weigh(
            shared.scores,
            [&](int i, float score) {
                const int at = key + lane + i * warp_size;
                return at < last && (at < past || newest_seen) ? score * p.scale : -INFINITY;
            },
            [](int, bf16 share) { return share; });
        hopper::wait_for(shared.arrived[slot], phase);
        if (ends) { // rows behind the last one may be no numbers, which times 0 are none
#pragma unroll 1
            for (int i = (last - key) * chunks + int(threadIdx.x); i < tile * chunks; i += threads)
                tile_in(slot).chunk(i / chunks, i % chunks) = {0, 0, 0, 0};
            if (makes && has_newest) put_new_row(tile_in(slot), shared.new_v, past - key);
        }
        __syncthreads();
        work.multiply_values(tile_in(slot));
        __syncthreads();
        use_next();
    }
    if (partial.made && has_newest) wait_for_earlier(); // this kernel must end behind the product
    work.store(partial, (int64_t(blockIdx.z) * p.query_heads + first_head) * partial.parts + blockIdx.y, heads);
}

template <int head, bool makes>
Status launch(const CudaContext & context, const DecodeAttention & a) {
    const Attention & p = a.shape;
    const AttentionCache & cache = a.cache;
    const int group = p.query_heads / p.key_heads;
    const int64_t columns = int64_t(p.key_heads) * head;
    CacheMaps maps;
    GNV_ASSIGN(maps.k, wide_tensor_map(cache.k, cache.rows, columns, tile, head));
    GNV_ASSIGN(maps.v, wide_tensor_map(cache.v, cache.rows, columns, tile, head));
    const Ring ring = ring_for<head, makes>(a.query_count == 1);
    const dim3 grid(unsigned(blocks_of_part(p)), unsigned(a.partial.parts), unsigned(a.query_count));
    take_all_shared_memory(kernel<head, makes>);
    return launch_chained("attention", context, kernel<head, makes>, grid, threads, ring.bytes, p, a.made, cache, maps,
                          a.queries, a.key_mask, a.partial, group, int(blocks_for(group, heads_at_once)), ring.slots);
}

template <int head>
Status launch(const CudaContext & context, const DecodeAttention & a) {
    return a.made.queries ? launch<head, false>(context, a) : launch<head, true>(context, a);
}

} // namespace

Status attention_decode_hopper(const CudaContext & context, const DecodeAttention & a, int head) {
    switch (head) {
    case 256: return launch<256>(context, a);
    case 128: return launch<128>(context, a);
    default: return launch<64>(context, a);
    }
}

} // namespace gnv::cuda
