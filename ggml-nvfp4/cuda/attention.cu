// Attention in blocks of queries: scores and weighted sums with mma.sync in BF16, softmax in F32 as it goes
// (running maximum and sum). Probabilities are rounded to BF16 before they are divided by their sum, not after.
//
//   a block: 4 warps x 16 queries of one head; tiles of keys and values come through shared memory, the values
//   while scores are computed, the next keys while values are summed
//
// Tiles are counted from the first key of the text, so that a query's sums run in one order wherever its block begins.
//
// Causal attention with heads of 64, 128 and 256 has kernels of its own. Heads of any other multiple of 8, and attention that
// sees all keys, run the same kernel with zeros behind each row up to the next size that tiles have; sizes that 8 does not
// divide, which no copy of 16 bytes fits, a plain one.
//
// With a cache all keys and values come from it: those of the segment are stored before. Of a cache in E4M3 the rows are made
// BF16 first, in scratch memory, for segments of more than one position. Segments of a single position, and every position of a
// pass ahead, run the kernels of attention_decode.cuh: a segment's kernel does not depend on the other segments.
#include "cuda/attention.cuh"
#include "cuda/attention_cache.cuh"
#include "cuda/attention_combine.cuh"
#include "cuda/attention_decode.cuh"
#include "cuda/attention_decode_hopper.cuh"
#include "cuda/kernels.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"
#include "graph/attention_inputs.h"

namespace gnv::cuda {

namespace {

constexpr int warps = 4, queries = warps * 16, threads = warps * warp_size; // of a block
constexpr int padding = 8; // elements behind each row in shared memory: rows start in different banks

// Sizes of a block's work: `keys` in a tile.
template <int head_, int keys_>
struct Tiling {
    static constexpr int head = head_, keys = keys_;
    static constexpr int stride = head + padding; // of a row in shared memory
    static_assert(cache_page % keys == 0);
    static constexpr int bytes = (queries + 2 * keys) * stride * int(sizeof(bf16));
};

// Copies rows of one head to shared memory; those from `count` on become zeros.
template <class T, int rows>
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int count) {
    constexpr int pieces = T::head / 8, rows_at_once = threads / pieces;
    static_assert(threads % pieces == 0 && rows % rows_at_once == 0);
    const int piece = threadIdx.x % pieces, begin = threadIdx.x / pieces;
    to += begin * T::stride + piece * 8;
    from += begin * stride + piece * 8;
#pragma unroll
    for (int i = 0; i < rows / rows_at_once; i++) {
        const int row = begin + i * rows_at_once;
        const bool exists = row < count;
        // A row that does not exist is not read, but its address must be valid.
        const bf16 * const source = exists ? from + i * rows_at_once * stride : from - begin * stride;
        copy_16_bytes(to + i * rows_at_once * T::stride, source, exists);
    }
}

// The same of rows of `head` numbers, a multiple of 8: what is behind them becomes zeros.
template <class T, int rows>
__device__ void copy_shorter_rows(bf16 * to, const bf16 * from, int64_t stride, int count, int head) {
    constexpr int pieces = T::head / 8;
    for (int i = int(threadIdx.x); i < rows * pieces; i += threads) {
        const int row = i / pieces, piece = i % pieces;
        const bool exists = row < count && piece * 8 < head;
        copy_16_bytes(to + row * T::stride + piece * 8, exists ? from + row * stride + piece * 8 : from, exists);
    }
}

// A warp's state for its 16 queries, in the layout of sums in mma.cuh: rows lane / 4 and lane / 4 + 8.
template <class T>
struct Softmax {
    float o[T::head / 8][4] = {};              // weighted sums of values
    float largest[2] = {-INFINITY, -INFINITY}; // scores so far, before they are scaled
    float sum[2] = {0, 0};                     // of exp, this lane's columns only
};

// s = q k^T of 16 queries and a tile of keys.
template <class T>
__device__ void multiply_keys(float (&s)[T::keys / 8][4], const bf16 * q, const bf16 * k) {
    const int lane = threadIdx.x % warp_size;
    q += lane % 16 * T::stride + lane / 16 * 8;
    k += (lane % 8 + lane / 16 * 8) * T::stride + lane / 8 % 2 * 8;
#pragma unroll
    for (int d = 0; d < T::head; d += 16) {
        uint32_t a[4];
        load_matrices(a, q + d);
#pragma unroll
        for (int n = 0; n < T::keys; n += 16) {
            uint32_t b[4]; // keys n.. n + 7: d, d + 8; keys n + 8..: d, d + 8
            load_matrices(b, k + n * T::stride + d);
            multiply_add(s[n / 8], a, b[0], b[1]);
            multiply_add(s[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

// Scores become probabilities without their common divisor; earlier sums are scaled to the new maximum.
template <class T>
__device__ void take_softmax(Softmax<T> & state, float (&s)[T::keys / 8][4], float scale) {
    bool shrinks = false;
    float shift[2], shrink[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float most = state.largest[i];
#pragma unroll
        for (int n = 0; n < T::keys / 8; n++) most = fmaxf(most, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
        shift[i] = most == -INFINITY ? 0.0f : most * scale; // no key seen yet: all of exp is 0
        shrink[i] = exp2f(state.largest[i] * scale - shift[i]);
        state.largest[i] = most;
        state.sum[i] *= shrink[i];
        shrinks |= shrink[i] != 1;
    }
#pragma unroll
    for (int n = 0; n < T::keys / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[n][i] = exp2f(s[n][i] * scale - shift[i / 2]);
            state.sum[i / 2] += s[n][i];
        }
    if (!__any_sync(all_lanes, shrinks)) return; // times 1
#pragma unroll
    for (int d = 0; d < T::head / 8; d++)
#pragma unroll
        for (int i = 0; i < 4; i++) state.o[d][i] *= shrink[i / 2];
}

// o += s v
template <class T>
__device__ void add_values(Softmax<T> & state, const float (&s)[T::keys / 8][4], const bf16 * v) {
    const int lane = threadIdx.x % warp_size;
    v += lane % 16 * T::stride + lane / 16 * 8;
#pragma unroll
    for (int n = 0; n < T::keys; n += 16) {
        const uint32_t a[4] = {pair_of(s[n / 8][0], s[n / 8][1]), pair_of(s[n / 8][2], s[n / 8][3]),
                               pair_of(s[n / 8 + 1][0], s[n / 8 + 1][1]), pair_of(s[n / 8 + 1][2], s[n / 8 + 1][3])};
#pragma unroll
        for (int d = 0; d < T::head; d += 16) {
            uint32_t b[4]; // columns d.. d + 7: keys n, n + 8; columns d + 8..: keys n, n + 8
            load_matrices_transposed(b, v + n * T::stride + d);
            multiply_add(state.o[d / 8], a, b[0], b[1]);
            multiply_add(state.o[d / 8 + 1], a, b[2], b[3]);
        }
    }
}

// Block: some queries of one head; the heads of the same queries are neighbours. `general`: the shape says the head's size and
// what is seen.
template <class T, bool cached, bool general>
__global__ void __launch_bounds__(threads) attention_kernel(BlockAttention a) {
    const Attention & p = a.shape;
    const AttentionCache & cache = a.cache;
    const int32_t * const segments = a.segments;
    const uint8_t * const key_mask = a.key_mask;
    constexpr int keys = T::keys;
    const int head = general ? p.head : T::head;
    const bool causal = !general || p.causal;
    extern __shared__ __align__(16) bf16 shared[];
    bf16 * const q_tile = shared;
    bf16 * const k_tile = q_tile + queries * T::stride;
    bf16 * const v_tile = k_tile + keys * T::stride;

    const int block = int(blockIdx.x / unsigned(p.query_heads)), query_head = int(blockIdx.x % unsigned(p.query_heads));
    if (block >= a.first_blocks[a.segment_count]) return;
    const int segment = stretch_of(a.first_blocks, a.segment_count, block);
    const int begin = segments[segment], end = segments[segment + 1], past = cached ? cache.past[segment] : 0;
    // The last queries of a segment see the most keys: their blocks come first, so that none is left over at the end.
    const int first = begin + (a.first_blocks[segment + 1] - 1 - block) * queries;
    // Keys and queries are numbered from the beginning of the text.
    const int shift = past - begin, length = past + end - begin;
    const int key_head = query_head / (p.query_heads / p.key_heads);
    const int64_t q_stride = int64_t(p.query_heads) * head, k_stride = int64_t(p.key_heads) * head;
    const bf16 * const k_head = a.k + int64_t(key_head) * head - shift * k_stride; // of key 0
    const bf16 * const v_head = a.v + int64_t(key_head) * head - shift * k_stride;

    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int row = lane / 4,
              pair = lane % 4 * 2; // of the accumulators: rows row and row + 8, columns pair and pair + 1
    const int first_query = first + shift + warp * 16;                           // of the warp
    const int last_key = causal ? min(first + shift + queries, length) : length; // from here on no query sees a key
    // A tile of keys or of values.
    const auto load = [&](bf16 * tile, const bf16 * made, const bf16 * stored, int key) {
        if constexpr (general) {
            copy_shorter_rows<T, keys>(tile, made + key * k_stride, k_stride, length - key, head);
        } else {
            const bf16 * const from =
                cached ? stored + cache.row(segment, key) * k_stride + int64_t(key_head) * head : made + key * k_stride;
            copy_rows<T, keys>(tile, from, k_stride, length - key);
        }
        commit_copies();
    };

    const bf16 * const q_rows = a.q + first * q_stride + int64_t(query_head) * head;
    if constexpr (general) {
        copy_shorter_rows<T, queries>(q_tile, q_rows, q_stride, end - first, head);
    } else {
        copy_rows<T, queries>(q_tile, q_rows, q_stride, end - first);
    }
    load(k_tile, k_head, cache.k, 0);
    Softmax<T> state;
    const float scale = p.scale * log2_of_e;
    for (int key = 0; key < last_key; key += keys) {
        wait_for_copies<0>();
        __syncthreads(); // the keys have arrived; the previous values are no longer read
        load(v_tile, v_head, cache.v, key);
        const bool sees = !causal || key < first_query + 16; // else all keys are later than the warp's queries
        float s[keys / 8][4] = {};
        if (sees) {
            multiply_keys<T>(s, q_tile + warp * 16 * T::stride, k_tile);
            if (key_mask || key + keys > (causal ? first_query + 1 : length)) {
#pragma unroll
                for (int n = 0; n < keys / 8; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int at = key + n * 8 + pair + i % 2, query = first_query + row + i / 2 * 8;
                        const bool seen =
                            (!causal || at <= query) && at < length && (at < past || !key_mask || key_mask[at - shift]);
                        if (!seen) s[n][i] = -INFINITY;
                    }
            }
            take_softmax<T>(state, s, scale);
        }
        wait_for_copies<0>();
        __syncthreads(); // the values have arrived; these keys are no longer read
        if (key + keys < last_key) load(k_tile, k_head, cache.k, key + keys);
        if (sees) add_values<T>(state, s, v_tile);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = state.sum[i];
        sum += __shfl_xor_sync(all_lanes, sum, 1);
        sum += __shfl_xor_sync(all_lanes, sum, 2);
        const int query = first_query + row + i * 8;
        if (query >= length) continue;
        const float factor = sum > 0 ? 1.0f / sum : sum; // 0: no key is seen; NaN stays
        bf16 * const to = a.out + int64_t(query - shift) * q_stride + int64_t(query_head) * head + pair;
#pragma unroll
        for (int d = 0; d < T::head / 8; d++)
            if (!general || d * 8 < head)
                *reinterpret_cast<uint32_t *>(to + d * 8) =
                    pair_of(state.o[d][2 * i] * factor, state.o[d][2 * i + 1] * factor);
    }
}

// A warp for each query and head, without a cache: heads of any size up to 256.
__global__ void plain_kernel(Attention p, const bf16 * q, const bf16 * k, const bf16 * v, const int32_t * segments,
                             int segment_count, const uint8_t * key_mask, bf16 * out) {
    constexpr int most = 256 / warp_size; // numbers of a lane
    const int64_t warp = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / warp_size;
    if (warp >= p.tokens * p.query_heads) return;
    const int lane = threadIdx.x % warp_size;
    const int64_t t = warp / p.query_heads, query_head = warp % p.query_heads;
    const int segment = stretch_of(segments, segment_count, t);
    const int64_t k_stride = int64_t(p.key_heads) * p.head;
    const int64_t key_column = query_head / (p.query_heads / p.key_heads) * p.head;
    const int64_t end = p.causal ? t + 1 : segments[segment + 1];
    float query[most], o[most] = {}, largest = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < most; i++) {
        const int d = lane + i * warp_size;
        query[i] = d < p.head ? __bfloat162float(q[warp * p.head + d]) : 0.0f;
    }
    for (int64_t key = segments[segment]; key < end; key++) {
        if (key_mask && !key_mask[key]) continue;
        const bf16 * const k_row = k + key * k_stride + key_column;
        const bf16 * const v_row = v + key * k_stride + key_column;
        float score = 0;
#pragma unroll
        for (int i = 0; i < most; i++)
            if (lane + i * warp_size < p.head)
                score = fmaf(query[i], __bfloat162float(k_row[lane + i * warp_size]), score);
        score = warp_sum(score) * p.scale;
        const float now = fmaxf(largest, score);
        const float shrink = expf(largest - now), weight = expf(score - now); // the first key: exp of -Inf is 0
        largest = now;
        sum = fmaf(sum, shrink, weight);
        const float share = rounded(weight);
#pragma unroll
        for (int i = 0; i < most; i++)
            if (lane + i * warp_size < p.head)
                o[i] = fmaf(share, __bfloat162float(v_row[lane + i * warp_size]), o[i] * shrink);
    }
    const float factor = sum > 0 ? 1.0f / sum : sum; // 0: no key is seen; NaN stays
#pragma unroll
    for (int i = 0; i < most; i++) {
        const int d = lane + i * warp_size;
        if (d < p.head) out[warp * p.head + d] = __float2bfloat16_rn(o[i] * factor);
    }
}

using namespace attention_inputs;

// Scratch memory: blocks of queries before each segment, in all, and a count of those that are taken; the partial results of
// the decode kernels; then for longer segments the cache as BF16 where it holds codes.
uint64_t first_blocks_bytes(const KernelCall & call) {
    return aligned(uint64_t(call.inputs[in_segments].shape[0] + 1) * sizeof(int32_t));
}

template <class T, bool cached, bool general = false>
Status launch_prefill(CudaContext & context, KernelCall & call, const Attention & p, const AttentionCache & cache) {
    const int segments = int(call.inputs[in_segments].shape[0] - 1);
    const auto * const begins = call.inputs[in_segments].as<const int32_t>();
    auto * const first_blocks = static_cast<int32_t *>(call.scratch);
    int32_t * const taken = first_blocks + segments + 1;
    const BlockAttention attention = {p,
                                      call.inputs[in_q].as<const bf16>(),
                                      call.inputs[in_k].as<const bf16>(),
                                      call.inputs[in_v].as<const bf16>(),
                                      begins,
                                      segments,
                                      first_blocks,
                                      taken,
                                      call.inputs[in_key_mask].as<const uint8_t>(),
                                      cache,
                                      call.outputs[0].as<bf16>()};
    int rows = queries;
#ifdef GNV_HAVE_HOPPER
    const int64_t head = general ? p.head : T::head;
    if (context.hopper) rows = hopper_queries(attention, head);
#endif
    count_tiles(context.stream, begins, segments, cached ? 2 : 1, rows, first_blocks, taken);
    const auto blocks =
        unsigned(p.tokens / rows + segments); // one more for each segment than full blocks can be needed
#ifdef GNV_HAVE_HOPPER
    if (context.hopper) return attention_hopper(context.stream, attention, head, blocks, context.processors);
#endif
    const auto kernel = attention_kernel<T, cached, general>;
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes);
    if (error != cudaSuccess) return fail(Code::device, "attention: ", cudaGetErrorString(error));
    kernel<<<blocks * unsigned(p.query_heads), threads, T::bytes, context.stream>>>(attention);
    return launched("attention");
}

// Positions that are steps of their own in longer segments.
bool is_ahead(const KernelCall & call) {
    return call.as<AttentionParams>().one_position &&
           call.inputs[in_q].shape[0] > call.inputs[in_segments].shape[0] - 1;
}
// Of the kernels for one position.
int64_t query_count(const KernelCall & call) {
    return is_ahead(call) ? call.inputs[in_q].shape[0] : call.inputs[in_segments].shape[0] - 1;
}

// Rows that the cache has for a segment.
int64_t capacity_of(const KernelCall & call) {
    const Shape & pages = call.inputs[in_pages].shape;
    return pages.rank == 0 ? call.inputs[in_cache_k].shape[1] : pages[1] * cache_page;
}

bool is_coded(const KernelCall & call) { return call.inputs[in_cache_k].dtype == DType::f8_e4m3; }

Attention shape_of(const KernelCall & call) {
    const AttentionParams & params = call.as<AttentionParams>();
    const Shape &q = call.inputs[in_q].shape, &k = call.inputs[in_k].shape;
    return {q[0], int(q[1] / params.head), int(k[1] / params.head), params.scale, int(params.head), params.causal};
}

constexpr int any_decode_blocks =
    3 * lone_decode_blocks; // of the kernels for all devices, of which three share a processor

// Parts of a call whose long texts have so many blocks, without their place.
decode::Partial partial_of(const KernelCall & call, int blocks) {
    decode::Partial partial = {};
    partial.cut = decode::Cut(shape_of(call), blocks);
    partial.parts = partial.cut.most_parts_of(capacity_of(call));
    return partial;
}
// Room for the parts of any kernel.
uint64_t partial_bytes(const KernelCall & call) {
    const Attention p = shape_of(call);
    const int parts = partial_of(call, any_decode_blocks).parts;
    return aligned(decode::partial_bytes(query_count(call), p.query_heads, parts, p.head));
}
// Of keys, and of values, as BF16; 0: they are not needed.
uint64_t wide_bytes(const KernelCall & call) {
    if (!is_coded(call) || call.as<AttentionParams>().one_position) return 0;
    return aligned(tensor_bytes(DType::bf16, call.inputs[in_cache_k].shape));
}

template <class Element>
CacheOf<Element> cache_of(const KernelCall & call) {
    const Shape & shape = call.inputs[in_cache_k].shape;
    return {call.inputs[in_cache_k].as<Element>(),     call.inputs[in_cache_v].as<Element>(),
            call.inputs[in_past].as<const int32_t>(),  capacity_of(call),
            call.inputs[in_pages].as<const int32_t>(), call.inputs[in_k_scales].as<uint8_t>(),
            call.inputs[in_v_scales].as<uint8_t>(),    shape[0] * shape[1]};
}

// What a call does besides: with heads, it makes its queries and keys; with a gate, its result is gated.
struct Around {
    const MadeHeads * heads = nullptr;
    AttentionGate gate = {};
};

decode::NewHeads new_heads(const KernelCall & call, const MadeHeads & heads) {
    return {nullptr, heads.q, heads.k, call.inputs[in_v].as<const bf16>(), heads.rope, heads.positions};
}

// The parts, by the kernel for all devices.
template <int head, class Element, bool makes>
Status launch_parts(const CudaContext & context, const DecodeAttention & a, const CacheOf<Element> & cache) {
    const dim3 grid(unsigned(decode::blocks_of_part(a.shape)), unsigned(a.partial.parts), unsigned(a.query_count));
    return launch_chained("attention", context, decode::part_kernel<head, Element, makes>, grid,
                          decode::warps * warp_size, decode::shared_bytes<head>, a.shape, a.made, cache, a.queries,
                          a.key_mask, a.partial);
}

template <int head, class Element, bool makes>
Status launch_decode(CudaContext & context, KernelCall & call, const Attention & p, const CacheOf<Element> & cache,
                     const Around & around) {
    const bool by_engine = context.hopper && !is_coded(call);
    const auto count = unsigned(query_count(call));
    DecodeAttention a = {
        p,
        {},
        cache_of<bf16>(call),
        {call.inputs[in_segments].as<const int32_t>(), is_ahead(call) ? int(call.inputs[in_segments].shape[0] - 1) : 0},
        int(count),
        call.inputs[in_key_mask].as<const uint8_t>(),
        partial_of(call, by_engine ? lone_decode_blocks : any_decode_blocks)};
    decode::Partial & partial = a.partial;
    partial.sums = reinterpret_cast<float *>(static_cast<uint8_t *>(call.scratch) + first_blocks_bytes(call));
    partial.scores = reinterpret_cast<float2 *>(partial.sums + int64_t(count) * p.query_heads * partial.parts * head);
    if constexpr (makes) {
        a.made = new_heads(call, *around.heads);
        partial.made = around.heads->made, partial.all = around.heads->all;
    } else {
        a.made.queries = call.inputs[in_q].as<const bf16>();
    }
#ifdef GNV_HAVE_HOPPER
    if (by_engine) {
        GNV_TRY(attention_decode_hopper(context, a, head));
    } else
#endif
        GNV_TRY((launch_parts<head, Element, makes>(context, a, cache)));
    auto * const out = call.outputs[0].as<bf16>();
    if (unsigned(p.query_heads) * count < 2 * unsigned(context.processors))
        return launch_chained("attention", context, decode::combine_kernel<head, true>,
                              dim3(unsigned(p.query_heads) * (head / warp_size), count),
                              decode::sums_of_parts * warp_size, 0, p, cache.past, a.queries, partial, out,
                              around.gate);
    return launch_chained("attention", context, decode::combine_kernel<head, false>,
                          dim3(unsigned(p.query_heads), count), head, 0, p, cache.past, a.queries, partial, out,
                          around.gate);
}

// With few texts, blocks make their heads themselves: each launch that is saved counts, and what they repeat does not.
constexpr int64_t most_making = 8; // texts

// New rows go into the cache by `store`, where nothing that makes them does it.
template <class T, class Element, class Store>
Status launch_cached(CudaContext & context, KernelCall & call, const Attention & p, const CacheOf<Element> & cache,
                     const Around & around, const Store & store) {
    if (around.heads && context.chains && around.heads->rope.half <= warp_size) {
        if (!is_ahead(call) && query_count(call) <= most_making && p.query_heads / p.key_heads <= decode::heads_at_once)
            return launch_decode<T::head, Element, true>(context, call, p, cache, around);
        const dim3 grid(unsigned(p.query_heads + 2 * p.key_heads), unsigned(p.tokens));
        GNV_TRY(launch_chained("attention", context, decode::heads_kernel<T::head, Element>, grid, warp_size, 0,
                               new_heads(call, *around.heads), cache, call.inputs[in_segments].as<const int32_t>(),
                               int(call.inputs[in_segments].shape[0] - 1)));
        return launch_decode<T::head, Element, false>(context, call, p, cache, around);
    }
    if (around.heads)
        GNV_TRY(normed_rope(context, around.heads->q, around.heads->k, around.heads->rope, around.heads->positions));
    GNV_TRY(store());
    return launch_decode<T::head, Element, false>(context, call, p, cache, around);
}

template <class T>
Status launch_coded(CudaContext & context, KernelCall & call, const Attention & p, const Around & around) {
    const CodedCache cache = cache_of<uint8_t>(call);
    return launch_cached<T>(context, call, p, cache, around, [&]() -> Status {
        const auto * const segments = call.inputs[in_segments].as<const int32_t>();
        const auto count = unsigned(call.inputs[in_segments].shape[0] - 1);
        GNV_TRY(launch_chained("attention", context, pack_kernel<T::head>, unsigned(p.tokens), 128, 0,
                               call.inputs[in_k].as<const bf16>(), call.inputs[in_v].as<const bf16>(), segments,
                               int(count), cache, p.key_heads));
        if (call.as<AttentionParams>().one_position) return {};
        auto * const memory = static_cast<uint8_t *>(call.scratch) + first_blocks_bytes(call) + partial_bytes(call);
        AttentionCache wide = cache_of<bf16>(call);
        wide.k = reinterpret_cast<bf16 *>(memory);
        wide.v = reinterpret_cast<bf16 *>(memory + wide_bytes(call));
        const auto rows = unsigned(std::min<int64_t>(cache.capacity, 4096));
        widen_kernel<<<dim3(rows, count), 128, 0, context.stream>>>(segments, cache, p.key_heads, T::head, wide.k,
                                                                    wide.v);
        GNV_TRY(launched("attention"));
        return launch_prefill<T, true>(context, call, p, wide);
    });
}

template <class T>
Status launch(CudaContext & context, KernelCall & call, const Around & around) {
    const Tensor & k = call.inputs[in_k];
    Attention p = shape_of(call);
    p.head = 0; // the kernels know it
    if (!call.inputs[in_cache_k].exists()) return launch_prefill<T, false>(context, call, p, {});
    if (is_coded(call)) return launch_coded<T>(context, call, p, around);
    const AttentionCache cache = cache_of<bf16>(call);
    return launch_cached<T>(context, call, p, cache, around, [&]() -> Status {
        GNV_TRY(launch_chained("attention", context, store_kernel, unsigned(p.tokens), 256, 0, k.as<const bf16>(),
                               call.inputs[in_v].as<const bf16>(), call.inputs[in_segments].as<const int32_t>(),
                               int(call.inputs[in_segments].shape[0] - 1), cache, k.shape[1]));
        if (call.as<AttentionParams>().one_position) return {};
        return launch_prefill<T, true>(context, call, p, cache);
    });
}

// Of heads that have a kernel of their own, causal.
bool is_special(int64_t head) { return head == 64 || head == 128 || head == 256; }

Status launch_general(CudaContext & context, KernelCall & call) {
    const Tensor &q = call.inputs[in_q], &k = call.inputs[in_k];
    const Attention p = shape_of(call);
    const int head = p.head;
    if (head % 8 != 0) {
        if (p.tokens == 0) return {};
        plain_kernel<<<blocks_for(p.tokens * p.query_heads * warp_size, 256), 256, 0, context.stream>>>(
            p, q.as<const bf16>(), k.as<const bf16>(), call.inputs[in_v].as<const bf16>(),
            call.inputs[in_segments].as<const int32_t>(), int(call.inputs[in_segments].shape[0] - 1),
            call.inputs[in_key_mask].as<const uint8_t>(), call.outputs[0].as<bf16>());
        return launched("attention");
    }
    if (head <= 64) return launch_prefill<Tiling<64, 64>, false, true>(context, call, p, {});
    if (head <= 80) return launch_prefill<Tiling<80, 64>, false, true>(context, call, p, {});
    if (head <= 128) return launch_prefill<Tiling<128, 64>, false, true>(context, call, p, {});
    return launch_prefill<Tiling<256, 48>, false, true>(context, call, p, {});
}

Status run_special(KernelCall & call, const Around & around) {
    CudaContext & context = context_of(call);
    switch (call.as<AttentionParams>().head) {
    case 256: return launch<Tiling<256, 48>>(context, call, around); // two blocks a multiprocessor; 64 keys are slower
    case 128: return launch<Tiling<128, 64>>(context, call, around);
    default: return launch<Tiling<64, 64>>(context, call, around);
    }
}

Status run(KernelCall & call) {
    const AttentionParams & params = call.as<AttentionParams>();
    if (!params.causal || !is_special(params.head)) return launch_general(context_of(call), call);
    return run_special(call, {});
}

Status supports(const KernelCall & call) {
    const auto & params = call.as<AttentionParams>();
    if (call.inputs[in_cache_k].shape.rank > 0 && !is_special(params.head))
        return fail(Code::unsupported, "head size ", params.head,
                    " with a cache is not supported on this device (64, 128, 256)");
    if (is_ahead(call) && call.inputs[in_key_mask].shape.rank > 0)
        return Status(Code::unsupported, "a mask of positions that are steps is not supported on this device");
    if (call.inputs[in_pages].shape.rank > 0 && call.inputs[in_cache_k].shape[1] != cache_page)
        return fail(Code::unsupported, "pages of ", call.inputs[in_cache_k].shape[1],
                    " positions are not supported on this device (", cache_page, ")");
    if (params.head > 256)
        return fail(Code::unsupported, "head size ", params.head, " is not supported on this device (up to 256)");
    if (!(params.scale > 0))
        return fail(Code::unsupported, "a scale of ", params.scale,
                    " is not supported on this device: it must be positive");
    return {};
}

uint64_t scratch_bytes(const KernelCall & call) {
    if (call.inputs[in_cache_k].shape.rank == 0) return first_blocks_bytes(call);
    return first_blocks_bytes(call) + partial_bytes(call) + 2 * wide_bytes(call);
}

} // namespace

const KernelEntry attention_entry = {run, scratch_bytes, supports};

bool attention_can_gate(const AttentionParams & params, bool with_cache) {
    return params.causal && params.one_position && with_cache && is_special(params.head);
}

uint64_t attention_bytes_beside(const KernelCall & call) {
    const bool alone = context_of(call).hopper && !is_coded(call) && !is_ahead(call) && query_count(call) == 1;
    return alone ? lone_decode_bytes : 0;
}

Status attention_gated(KernelCall & call, const MadeHeads * heads, const AttentionGate & gate) {
    return run_special(call, {heads, gate});
}

} // namespace gnv::cuda
