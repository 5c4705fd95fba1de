// The chunked form for heads of 128: 64 positions at once on tensor cores. With decays and n as in cpu/delta_loops.h,
// of a chunk with the state M from before it
//   R = beta (v - e M^T k)          the new values, as if M were the only state
//   N = T R                         T = (I + A)^-1, A[i, j] = beta[i] (k[i] . k[j]) d[i, j] for j < i
//   o = e M^T q + P N               P[i, j] = (q[i] . k[j]) d[i, j] for j <= i
//   M <- e[last] M + sum over j of k[j] (d[last, j] N[j])^T
// T and P do not depend on M: one kernel makes them for all chunks at once (gated_delta_prepare.cu), another walks through each
// segment's chunks. In that one a warp holds 16 columns of M and shares nothing with others: all it computes is transposed, [16
// columns, ..], so that the result of a product is the left operand of the next one without leaving the registers.
//
// Precision: q, k and v go in as they are, in BF16, and are made to length one by factors behind the products. M, R, N,
// T and P are F32 numbers in two BF16 parts. T is solved for in F32; products of its blocks take F32 numbers in two parts
// of 11 bits. Only differences of sums of gates go through exp; the sums are F64, kept as two F32 numbers, so that a gate of
// -1000 costs those after it nothing.
#include "cuda/gated_delta_plan.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

constexpr int head = delta_head, chunk = delta_chunk;
constexpr int padding = 8; // elements behind each row in shared memory: rows start in different banks
constexpr int row_stride = head + padding;
constexpr int blocks_across = delta_blocks;

// Rows of `columns` elements; those from `count` on become zeros.
template <int columns, int threads>
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int count) {
    constexpr int pieces = columns / 8;
    for (int i = threadIdx.x; i < chunk * pieces; i += threads) {
        const int row = i / pieces, piece = i % pieces;
        copy_16_bytes(to + row * (columns + padding) + piece * 8, from + (row < count ? row : 0) * stride + piece * 8,
                      row < count);
    }
}

// --- Through the chunks with the state -------------------------------------------------------------------------------

// sum += x m^T for the lower triangular m, both in parts: x[j] [16 columns, 16 positions], sum [16 columns, 64
// positions]. Products of two rests are below the precision of the sum.
__device__ void add_lower(float (&sum)[2 * blocks_across][4], int j, const uint32_t (&high)[4],
                          const uint32_t (&low)[4], const LowerMatrix & m) {
    const int lane = threadIdx.x % warp_size;
#pragma unroll
    for (int i = 0; i < blocks_across; i++) {
        if (i < j) continue;
        const uint4 part = m.blocks[LowerMatrix::block_at(i, j)][0][lane],
                    rest = m.blocks[LowerMatrix::block_at(i, j)][1][lane];
        multiply_add(sum[2 * i], high, part.x, part.y);
        multiply_add(sum[2 * i + 1], high, part.z, part.w);
        multiply_add(sum[2 * i], low, part.x, part.y);
        multiply_add(sum[2 * i + 1], low, part.z, part.w);
        multiply_add(sum[2 * i], high, rest.x, rest.y);
        multiply_add(sum[2 * i + 1], high, rest.z, rest.w);
    }
}

template <int warps>
struct Stage {
    static constexpr int columns = 16 * warps; // of v and of the state, in a block
    bf16 k[chunk * row_stride], q[chunk * row_stride], v[chunk * (columns + padding)];
    LanePlan plan;
};

// A block has one value head of one segment, or some columns of it. With two stages the next chunk comes
// in while one is computed.
template <int warps>
__global__ void __launch_bounds__(warps * warp_size, 1)
    walk_kernel(Delta d, DeltaTensors tensors, const int32_t * first_chunks, const LanePlan * plans, int stages) {
    constexpr int columns = Stage<warps>::columns, threads = warps * warp_size;
    extern __shared__ __align__(16) unsigned char memory[];
    auto * const stage_memory = reinterpret_cast<Stage<warps> *>(memory);
    const int value_head = blockIdx.y, segment = blockIdx.z;
    const int first_chunk = first_chunks[segment], chunks = first_chunks[segment + 1] - first_chunk;
    if (chunks == 0) return;
    const int64_t begin = tensors.segments[segment], end = tensors.segments[segment + 1];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, row = lane / 4, pair = lane % 4 * 2;
    const int first_column = int(blockIdx.x) * columns, own_column = first_column + warp * 16;
    const bf16 * const q = tensors.qkv + begin * d.width() + value_head / (d.value_heads / d.key_heads) * head;
    const bf16 * const v =
        tensors.qkv + begin * d.width() + (2 * d.key_heads + value_head) * int64_t(head) + first_column;

    const auto load = [&](int at) {
        Stage<warps> & stage = stage_memory[at % stages];
        const int64_t offset = int64_t(at) * chunk * d.width();
        const int rows = int(min(int64_t(chunk), end - begin - int64_t(at) * chunk));
        copy_rows<head, threads>(stage.k, q + d.key_heads * head + offset, d.width(), rows);
        copy_rows<head, threads>(stage.q, q + offset, d.width(), rows);
        copy_rows<columns, threads>(stage.v, v + offset, d.width(), rows);
        const LanePlan & plan = plans[int64_t(first_chunk + at) * d.value_heads + value_head];
        for (int i = threadIdx.x; i < int(sizeof(LanePlan) / 16); i += threads)
            copy_16_bytes(reinterpret_cast<uint4 *>(&stage.plan) + i, reinterpret_cast<const uint4 *>(&plan) + i);
    };
    load(0);
    commit_copies();

    float state[head / 8][4] = {}; // [16 columns, 128 rows of the state]
    float * const own = tensors.memory
                            ? tensors.memory + (tensors.slot_of(segment) * d.value_heads + value_head) * head * head
                            : nullptr;
    const auto state_at = [&](int tile, int e) {
        return int64_t(tile * 8 + pair + e % 2) * head + own_column + row + e / 2 * 8;
    };
    if (own)
#pragma unroll
        for (int tile = 0; tile < head / 8; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) state[tile][e] = own[state_at(tile, e)];

    for (int at = 0; at < chunks; at++) {
        if (stages == 2) {
            if (at + 1 < chunks) load(at + 1);
            commit_copies();
            wait_for_copies<1>();
        } else {
            wait_for_copies<0>();
        }
        __syncthreads();
        const Stage<warps> & stage = stage_memory[at % stages];

        // M^T k and M^T q of all positions
        float news[2 * blocks_across][4] = {}, out[2 * blocks_across][4] = {};
#pragma unroll
        for (int c = 0; c < head / 16; c++) {
            uint32_t high[4], low[4];
            split_operand(state[2 * c], state[2 * c + 1], high, low);
#pragma unroll
            for (int i = 0; i < blocks_across; i++) {
                uint32_t keys[4], queries[4];
                const int from = (i * 16 + lane % 8 + lane / 16 * 8) * row_stride + c * 16 + lane / 8 % 2 * 8;
                load_matrices(keys, stage.k + from);
                load_matrices(queries, stage.q + from);
                multiply_add(news[2 * i], high, keys[0], keys[1]);
                multiply_add(news[2 * i + 1], high, keys[2], keys[3]);
                multiply_add(out[2 * i], high, queries[0], queries[1]);
                multiply_add(out[2 * i + 1], high, queries[2], queries[3]);
                multiply_add(news[2 * i], low, keys[0], keys[1]);
                multiply_add(news[2 * i + 1], low, keys[2], keys[3]);
                multiply_add(out[2 * i], low, queries[0], queries[1]);
                multiply_add(out[2 * i + 1], low, queries[2], queries[3]);
            }
        }
        // R
        uint32_t high[blocks_across][4], low[blocks_across][4];
#pragma unroll
        for (int i = 0; i < blocks_across; i++) {
            uint32_t values[4]; // two of positions, each two of columns
            load_matrices_transposed(values, stage.v + (i * 16 + lane / 16 * 8 + lane % 8) * (columns + padding) +
                                                 warp * 16 + lane / 8 % 2 * 8);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int tile = 2 * i + half;
                const float2 first = numbers_of(values[2 * half]), second = numbers_of(values[2 * half + 1]);
                const float v_of[4] = {first.x, first.y, second.x, second.y};
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const PositionFactors & factors = stage.plan.factors.at[tile * 8 + pair + e % 2];
                    news[tile][e] = fmaf(factors.beta, v_of[e], -(factors.known * news[tile][e]));
                    out[tile][e] *= factors.query;
                }
            }
            split_operand(news[2 * i], news[2 * i + 1], high[i], low[i]);
        }
        // N, then its part of the outputs
#pragma unroll
        for (int tile = 0; tile < 2 * blocks_across; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) news[tile][e] = 0;
#pragma unroll
        for (int j = 0; j < blocks_across; j++) add_lower(news, j, high[j], low[j], stage.plan.inverse);
#pragma unroll
        for (int j = 0; j < blocks_across; j++) {
            split_operand(news[2 * j], news[2 * j + 1], high[j], low[j]);
            add_lower(out, j, high[j], low[j], stage.plan.weights);
        }
        const int64_t first = begin + int64_t(at) * chunk;
        bf16 * const to = tensors.out + ((first + row) * d.value_heads + value_head) * head + own_column + pair;
#pragma unroll
        for (int tile = 0; tile < 2 * blocks_across; tile++) {
            const uint32_t left = transposed(pair_of(out[tile][0], out[tile][1]));
            const uint32_t right = transposed(pair_of(out[tile][2], out[tile][3]));
            if (first + tile * 8 + row < end) {
                bf16 * const position = to + int64_t(tile) * 8 * d.value_heads * head;
                *reinterpret_cast<uint32_t *>(position) = left;
                *reinterpret_cast<uint32_t *>(position + 8) = right;
            }
        }
        // M
        const float decay = stage.plan.factors.decay;
#pragma unroll
        for (int tile = 0; tile < head / 8; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) state[tile][e] *= decay;
#pragma unroll
        for (int j = 0; j < blocks_across; j++) {
#pragma unroll
            for (int tile = 2 * j; tile < 2 * j + 2; tile++)
#pragma unroll
                for (int e = 0; e < 4; e++) news[tile][e] *= stage.plan.factors.at[tile * 8 + pair + e % 2].write;
            uint32_t parts[4], rests[4];
            split_operand(news[2 * j], news[2 * j + 1], parts, rests);
#pragma unroll
            for (int c = 0; c < head / 16; c++) {
                uint32_t keys[4]; // rows c.. of the state: positions j.., j + 8..; rows c + 8..: the same
                load_matrices_transposed(keys, stage.k + (j * 16 + lane % 16) * row_stride + c * 16 + lane / 16 * 8);
                multiply_add(state[2 * c], parts, keys[0], keys[1]);
                multiply_add(state[2 * c + 1], parts, keys[2], keys[3]);
                multiply_add(state[2 * c], rests, keys[0], keys[1]);
                multiply_add(state[2 * c + 1], rests, keys[2], keys[3]);
            }
        }
        __syncthreads(); // before the next chunk takes the place of this one
        if (stages == 1 && at + 1 < chunks) {
            load(at + 1);
            commit_copies();
        }
    }
    if (own)
#pragma unroll
        for (int tile = 0; tile < head / 8; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) own[state_at(tile, e)] = state[tile][e];
}

template <int warps>
Status walk(CudaContext & context, const Delta & d, const DeltaTensors & tensors, const int32_t * first_chunks,
            const LanePlan * plans) {
    int device = 0, available = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&available, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    const int stages = available >= int(2 * sizeof(Stage<warps>)) ? 2 : 1;
    const int bytes = stages * int(sizeof(Stage<warps>));
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(walk_kernel<warps>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail(Code::device, "gated_delta_net: ", cudaGetErrorString(error));
    const dim3 grid(head / Stage<warps>::columns, unsigned(d.value_heads), unsigned(d.segments));
    walk_kernel<warps><<<grid, warps * warp_size, bytes, context.stream>>>(d, tensors, first_chunks, plans, stages);
    return launched("gated_delta_net");
}

uint64_t first_chunks_bytes(const Delta & d) { return aligned((uint64_t(d.segments) + 1) * sizeof(int32_t)); }

// Of any segments that have so many positions together: each may leave its last chunk nearly empty, but has as many
// positions as it takes to have a chunk.
int64_t most_chunks(const Delta & d) {
    const int64_t by_segments = (d.tokens + int64_t(chunk - 1) * d.segments) / chunk;
    return std::min(by_segments, d.tokens / std::min(d.shortest_chunked, chunk / 2));
}

} // namespace

bool has_chunked_form(const Delta & d) { return d.key_head == head && d.value_head == head; }

uint64_t chunked_scratch_bytes(const Delta & d) {
    return first_chunks_bytes(d) +
           uint64_t(most_chunks(d)) * uint64_t(d.value_heads) * std::max(sizeof(LanePlan), sizeof(TilePlan));
}

Status run_chunked(CudaContext & context, const Delta & d, const DeltaTensors & tensors, void * scratch) {
    auto * const first_chunks = static_cast<int32_t *>(scratch);
    void * const memory = static_cast<uint8_t *>(scratch) + first_chunks_bytes(d);
    count_tiles(context.stream, tensors.segments, d.segments, d.shortest_chunked, chunk, first_chunks);
#ifdef GNV_HAVE_HOPPER
    if (context.hopper) {
        auto * const plans = static_cast<TilePlan *>(memory);
        GNV_TRY(prepare_chunks_hopper(context, d, tensors, first_chunks, plans));
        return walk_chunks_hopper(context, d, tensors, first_chunks, plans);
    }
#endif
    auto * const plans = static_cast<LanePlan *>(memory);
    GNV_TRY(prepare_chunks(context.stream, d, tensors, first_chunks, most_chunks(d), plans));
    // Fewer columns in a block if heads are too few for all processors; a column's bits do not depend on it.
    const int64_t heads = int64_t(d.segments) * d.value_heads;
    return heads * 4 <= context.processors   ? walk<2>(context, d, tensors, first_chunks, plans)
           : heads * 2 <= context.processors ? walk<4>(context, d, tensors, first_chunks, plans)
                                             : walk<8>(context, d, tensors, first_chunks, plans);
}

} // namespace gnv::cuda
