// Causal attention in blocks of 64 queries: scores and weighted sums with mma.sync in BF16, softmax in F32 as it goes (running
// maximum and sum). Probabilities are rounded to BF16 before they are divided by their sum, not after.
//
//   a block: 4 warps x 16 queries of one head; keys and values come in tiles through shared memory
//
// With a cache, keys and values before the segment come from there, those of the segment from where they were made. They were
// BF16 when they were stored, so the cache's F32 goes back to BF16 without a loss. Segments of a single position run the
// kernels of attention_decode.cuh: which one a segment runs does not depend on the others.
#include "cuda/attention_decode.cuh"
#include "cuda/kernels.cuh"
#include "cuda/mma.cuh"

namespace gnv::cuda {

namespace {

constexpr int warps = 4, queries = warps * 16;
constexpr int padding = 8; // elements behind each row in shared memory: rows start in different banks

// Copies rows [first, count) of one head to shared memory; rows from `count` on become zeros, those before `first` are left.
template <int head, int rows>
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int64_t count, int64_t first = 0) {
    constexpr int pieces = head / 8;
    for (int i = threadIdx.x; i < rows * pieces; i += warps * warp_size) {
        const int row = i / pieces, piece = i % pieces;
        if (row < first) continue;
        copy_16_bytes(to + row * (head + padding) + piece * 8, from + (row < count ? row : first) * stride + piece * 8,
                      row < count);
    }
}

// Copies rows [0, count) of one head from a cache.
template <int head, int rows>
__device__ void copy_cached(bf16 * to, const float * from, int64_t stride, int64_t count) {
    constexpr int pieces = head / 8;
    for (int i = threadIdx.x; i < rows * pieces; i += warps * warp_size) {
        const int row = i / pieces, piece = i % pieces;
        if (row >= count) continue;
        const auto * const source = reinterpret_cast<const float4 *>(from + row * stride + piece * 8);
        const float4 low = source[0], high = source[1];
        const float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        *reinterpret_cast<Eight *>(to + row * (head + padding) + piece * 8) = pack(values);
    }
}

// The new rows of each segment go into its cache; a row a block.
__global__ void store_kernel(const bf16 * k, const bf16 * v, const int32_t * segments, int segment_count,
                             AttentionCache cache, int64_t width) {
    const int64_t t = blockIdx.x;
    int segment = 0;
    while (segment + 1 < segment_count && segments[segment + 1] <= t) segment++;
    const int64_t row = segment * cache.capacity + cache.past[segment] + (t - segments[segment]);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        cache.k[row * width + i] = __bfloat162float(k[t * width + i]);
        cache.v[row * width + i] = __bfloat162float(v[t * width + i]);
    }
}

template <int head, int keys, bool cached>
__global__ void __launch_bounds__(warps * warp_size)
    attention_kernel(Attention p, const bf16 * q, const bf16 * k, const bf16 * v, const int32_t * segments,
                     int segment_count, const uint8_t * key_mask, AttentionCache cache, bf16 * out) {
    constexpr int stride = head + padding;
    extern __shared__ __align__(16) bf16 shared[];
    bf16 * const q_tile = shared;
    bf16 * const k_tile = q_tile + queries * stride;
    bf16 * const v_tile = k_tile + keys * stride;

    // Blocks of queries are numbered through all segments.
    int64_t block = blockIdx.x, begin = 0, end = 0;
    int segment = 0;
    for (; segment < segment_count; segment++) {
        begin = segments[segment], end = segments[segment + 1];
        const int64_t blocks = (end - begin + queries - 1) / queries;
        if (block < blocks) break;
        block -= blocks;
    }
    if (segment == segment_count || (cached && end - begin == 1)) return;
    const int64_t past = cached ? cache.past[segment] : 0;
    const int64_t first = begin + block * queries; // of the queries, in the batch
    // Keys and queries are numbered from the beginning of the text.
    const int64_t shift = past - begin, length = past + end - begin;
    const int query_head = blockIdx.y, key_head = query_head / (p.query_heads / p.key_heads);
    const int64_t q_stride = int64_t(p.query_heads) * head, k_stride = int64_t(p.key_heads) * head;
    const bf16 * const k_head = k + int64_t(key_head) * head;
    const bf16 * const v_head = v + int64_t(key_head) * head;

    copy_rows<head, queries>(q_tile, q + first * q_stride + int64_t(query_head) * head, q_stride, end - first);
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int row = lane / 4,
              pair = lane % 4 * 2; // of the accumulators: rows row and row + 8, columns pair and pair + 1
    float o[head / 8][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const int64_t query[2] = {first + shift + warp * 16 + row, first + shift + warp * 16 + row + 8};
    const int64_t last_key = min(first + shift + queries, length); // keys from here on are later than all queries

    for (int64_t key = 0; key < last_key; key += keys) {
        __syncthreads();
        const int64_t from_cache = cached ? max(past - key, int64_t(0)) : 0; // rows of the tile
        if (from_cache > 0) {
            const int64_t at = (segment * cache.capacity + key) * k_stride + int64_t(key_head) * head;
            copy_cached<head, keys>(k_tile, cache.k + at, k_stride, from_cache);
            copy_cached<head, keys>(v_tile, cache.v + at, k_stride, from_cache);
        }
        copy_rows<head, keys>(k_tile, k_head + (key - shift) * k_stride, k_stride, length - key, from_cache);
        copy_rows<head, keys>(v_tile, v_head + (key - shift) * k_stride, k_stride, length - key, from_cache);
        commit_copies();
        wait_for_copies<0>();
        __syncthreads();

        float s[keys / 8][4] = {};
#pragma unroll
        for (int d = 0; d < head; d += 16) {
            uint32_t a[4];
            load_matrices(a, q_tile + (warp * 16 + lane % 16) * stride + d + lane / 16 * 8);
#pragma unroll
            for (int n = 0; n < keys; n += 16) {
                uint32_t b[4]; // keys n.. n + 7: d, d + 8; keys n + 8..: d, d + 8
                load_matrices(b, k_tile + (n + lane % 8 + lane / 16 * 8) * stride + d + lane / 8 % 2 * 8);
                multiply_add(s[n / 8], a, b[0], b[1]);
                multiply_add(s[n / 8 + 1], a, b[2], b[3]);
            }
        }
        float most[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < keys / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int64_t at = key + n * 8 + pair + i % 2;
                const bool seen = at <= query[i / 2] && at < length && (at < past || !key_mask || key_mask[at - shift]);
                s[n][i] = seen ? s[n][i] * p.scale : -INFINITY;
                most[i / 2] = fmaxf(most[i / 2], s[n][i]);
            }
        float shrink[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            most[i] = fmaxf(most[i], __shfl_xor_sync(all_lanes, most[i], 1));
            most[i] = fmaxf(most[i], __shfl_xor_sync(all_lanes, most[i], 2));
            shrink[i] = most[i] == -INFINITY ? 1.0f : expf(largest[i] - most[i]);
            largest[i] = most[i];
            sum[i] *= shrink[i];
        }
#pragma unroll
        for (int n = 0; n < keys / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[n][i] = s[n][i] == -INFINITY ? 0.0f : expf(s[n][i] - largest[i / 2]);
                sum[i / 2] += s[n][i];
            }
#pragma unroll
        for (int d = 0; d < head / 8; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[d][i] *= shrink[i / 2];
#pragma unroll
        for (int n = 0; n < keys; n += 16) {
            const uint32_t a[4] = {pair_of(s[n / 8][0], s[n / 8][1]), pair_of(s[n / 8][2], s[n / 8][3]),
                                   pair_of(s[n / 8 + 1][0], s[n / 8 + 1][1]),
                                   pair_of(s[n / 8 + 1][2], s[n / 8 + 1][3])};
#pragma unroll
            for (int d = 0; d < head; d += 16) {
                uint32_t b[4]; // columns d.. d + 7: keys n, n + 8; columns d + 8..: keys n, n + 8
                load_matrices_transposed(b, v_tile + (n + lane % 16) * stride + d + lane / 16 * 8);
                multiply_add(o[d / 8], a, b[0], b[1]);
                multiply_add(o[d / 8 + 1], a, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(all_lanes, sum[i], 1);
        sum[i] += __shfl_xor_sync(all_lanes, sum[i], 2);
        if (query[i] >= length) continue;
        const float scale = sum[i] > 0 ? 1.0f / sum[i] : 0.0f;
        bf16 * const to = out + (query[i] - shift) * q_stride + int64_t(query_head) * head + pair;
#pragma unroll
        for (int d = 0; d < head / 8; d++)
            *reinterpret_cast<uint32_t *>(to + d * 8) = pair_of(o[d][2 * i] * scale, o[d][2 * i + 1] * scale);
    }
}

enum { in_q, in_k, in_v, in_segments, in_key_mask, in_cache_k, in_cache_v, in_past };

template <int head, int keys, bool cached>
Status launch_prefill(CudaContext & context, KernelCall & call, const Attention & p, const AttentionCache & cache) {
    const int segments = int(call.inputs[in_segments].shape[0] - 1);
    constexpr int bytes = (queries + 2 * keys) * (head + padding) * int(sizeof(bf16));
    const cudaError_t error =
        cudaFuncSetAttribute(attention_kernel<head, keys, cached>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail(Code::device, "attention: ", cudaGetErrorString(error));
    // A block more for each segment than full blocks can be needed.
    const dim3 grid(unsigned(p.tokens / queries + segments), unsigned(p.query_heads));
    attention_kernel<head, keys, cached><<<grid, warps * warp_size, bytes, context.stream>>>(
        p, call.inputs[in_q].as<const bf16>(), call.inputs[in_k].as<const bf16>(), call.inputs[in_v].as<const bf16>(),
        call.inputs[in_segments].as<const int32_t>(), segments, call.inputs[in_key_mask].as<const uint8_t>(), cache,
        call.outputs[0].as<bf16>());
    return launched("attention");
}

template <int head>
Status launch_decode(CudaContext & context, KernelCall & call, const Attention & p, const AttentionCache & cache) {
    const auto * segments = call.inputs[in_segments].as<const int32_t>();
    const auto segment_count = unsigned(call.inputs[in_segments].shape[0] - 1);
    const auto parts = unsigned(decode::most_parts_of(cache.capacity));
    const int group = p.query_heads / p.key_heads;
    auto * const partial = static_cast<float *>(call.scratch);
    const dim3 grid(parts, unsigned(p.key_heads) * blocks_for(group, decode::heads_at_once), segment_count);
    decode::part_kernel<head><<<grid, decode::warps * warp_size, 0, context.stream>>>(
        p, call.inputs[in_q].as<const bf16>(), cache, segments, call.inputs[in_key_mask].as<const uint8_t>(), partial);
    decode::combine_kernel<head><<<dim3(unsigned(p.query_heads), segment_count), head, 0, context.stream>>>(
        p, cache.past, segments, partial, parts, call.outputs[0].as<bf16>());
    return launched("attention");
}

template <int head, int keys>
Status launch(CudaContext & context, KernelCall & call) {
    const Tensor &q = call.inputs[in_q], &k = call.inputs[in_k], &cached = call.inputs[in_cache_k];
    const Attention p = {q.shape[0], int(q.shape[1] / head), int(k.shape[1] / head), call.as<AttentionParams>().scale};
    if (!cached.exists()) return launch_prefill<head, keys, false>(context, call, p, {});
    const AttentionCache cache = {cached.as<float>(), call.inputs[in_cache_v].as<float>(),
                                  call.inputs[in_past].as<const int32_t>(), cached.shape[1]};
    store_kernel<<<unsigned(p.tokens), 256, 0, context.stream>>>(
        k.as<const bf16>(), call.inputs[in_v].as<const bf16>(), call.inputs[in_segments].as<const int32_t>(),
        int(call.inputs[in_segments].shape[0] - 1), cache, k.shape[1]);
    GNV_TRY(launched("attention"));
    GNV_TRY((launch_prefill<head, keys, true>(context, call, p, cache)));
    return launch_decode<head>(context, call, p, cache);
}

Status run(CudaContext & context, KernelCall & call) {
    switch (call.as<AttentionParams>().head) {
    case 256: return launch<256, 32>(context, call);
    case 128: return launch<128, 64>(context, call);
    default: return launch<64, 64>(context, call);
    }
}

Status supports(const KernelCall & call) {
    const int64_t head = call.as<AttentionParams>().head;
    if (head == 64 || head == 128 || head == 256) return {};
    return fail(Code::unsupported, "heads of ", head, " dims; they have 64, 128 or 256 there");
}

uint64_t scratch_bytes(const KernelCall & call) {
    const Shape & cache = call.inputs[in_cache_k].shape;
    if (cache.rank == 0) return 0;
    const int64_t head = call.as<AttentionParams>().head;
    return decode::partial_bytes(cache[0], call.inputs[in_q].shape[1] / head, cache[1], head);
}

} // namespace

const CudaEntry attention_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
