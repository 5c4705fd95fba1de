// The chunked form for heads of 128: 64 positions at once on tensor cores. With decays and n as in cpu/delta_loops.h,
// of a chunk with the state M from before it
//   R = beta (v - e M^T k)          the new values, as if M were the only state
//   N = T R                         T = (I + A)^-1, A[i, j] = beta[i] (k[i] . k[j]) d[i, j] for j < i
//   o = e M^T q + P N               P[i, j] = (q[i] . k[j]) d[i, j] for j <= i
//   M <- e[last] M + sum over j of k[j] (d[last, j] N[j])^T
// T and P do not depend on M: one kernel makes them for all chunks at once, another walks through each segment's
// chunks. In that one a warp holds 16 columns of M and shares nothing with others: all it computes is transposed, [16
// columns, ..], so that the result of a product is the left operand of the next one without leaving the registers.
//
// Precision: q, k and v go in as they are, in BF16, and are made to length one by factors behind the products. M, R, N,
// T and P are F32 numbers in two BF16 parts. T is solved for in F32. Only differences of sums of gates go through exp;
// the sums are F64, kept as two F32 numbers, so that a gate of -1000 costs those after it nothing.
#include "cuda/gated_delta_net.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

constexpr int head = 128, chunk = 64;
constexpr int padding = 8; // elements behind each row in shared memory: rows start in different banks
constexpr int row_stride = head + padding;
constexpr int square_stride = chunk + 4; // of F32
constexpr int blocks_across = chunk / 16, blocks_below = blocks_across * (blocks_across + 1) / 2;
constexpr int prepare_threads = blocks_across * warp_size;

__host__ __device__ constexpr int block_at(int i, int j) { return i * (i + 1) / 2 + j; }

// A lower triangular matrix [i, j] in 16 x 16 blocks, those above the diagonal left out: for each lane its part of the
// right operand [j, i] of a product, the BF16 part and the rest.
struct LowerMatrix {
    uint4 blocks[blocks_below][2][warp_size];
};

struct PositionFactors {
    float beta;  // of v in R
    float known; // of M^T k in R, k as it came: beta e / |k|
    float query; // of M^T q, q as it came: e / |q| / sqrt(128)
    float write; // of N in the state: d[last] / |k|
};

// The data of a chunk of one value head that do not depend on the state.
struct ChunkPlan {
    LowerMatrix inverse, weights; // T, P
    PositionFactors factors[chunk];
    float decay; // e[last]
    float unused[3];
};
static_assert(sizeof(ChunkPlan) % 16 == 0);

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

// --- Before the state is known --------------------------------------------------------------------------------------

// Sums of gates up to each position; high + low is the sum.
struct Gates {
    float high[chunk], low[chunk], beta[chunk];

    __device__ float between(int i, int j) const { return (high[i] - high[j]) + (low[i] - low[j]); }
};

// By one warp, two positions a lane. A gate below -1000 leaves nothing, as one of -1000.
__device__ void sum_gates(const Delta & d, const DeltaTensors & tensors, int64_t first, int rows, int value_head,
                          Gates & out) {
    const int lane = threadIdx.x % warp_size;
    float2 gates[2];
    for (int i = 0; i < 2; i++) {
        const int row = 2 * lane + i;
        gates[i] = row < rows ? delta_gates(d, tensors, (first + row) * d.value_heads + value_head) : float2{0, 0};
        if (gates[i].x < -1000) gates[i].x = -1000;
        out.beta[row] = gates[i].y;
    }
    double sum = double(gates[0].x) + double(gates[1].x);
    for (int step = 1; step < warp_size; step *= 2) {
        const double before = __shfl_up_sync(all_lanes, sum, step);
        if (lane >= step) sum += before;
    }
    const double previous = __shfl_up_sync(all_lanes, sum, 1);
    const double sums[2] = {(lane > 0 ? previous : 0.0) + double(gates[0].x), sum};
    for (int i = 0; i < 2; i++) {
        const float high = float(sums[i]);
        out.high[2 * lane + i] = high;
        out.low[2 * lane + i] = float(sums[i] - double(high));
    }
}

// Columns and rows of (I + A)^-1 from `begin` on: a thread solves for one column, in F32.
template <int begin>
__device__ void invert_columns(const float (*a)[square_stride], int column, LowerMatrix & out) {
    auto * const words = reinterpret_cast<uint32_t *>(&out);
    float t[chunk];
#pragma unroll
    for (int i = begin; i < chunk; i++) {
        float sums[4] = {i == column ? 1.0f : 0.0f, 0, 0, 0};
#pragma unroll
        for (int j = begin; j < i; j += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(&a[i][j]);
            sums[0] = fmaf(-four.x, t[j], sums[0]);
            if (j + 1 < i) sums[1] = fmaf(-four.y, t[j + 1], sums[1]);
            if (j + 2 < i) sums[2] = fmaf(-four.z, t[j + 2], sums[2]);
            if (j + 3 < i) sums[3] = fmaf(-four.w, t[j + 3], sums[3]);
        }
        t[i] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        // Neighbours make pairs: the even column stores the BF16 parts, the odd one the rests.
        const bf16 high = __float2bfloat16_rn(t[i]), low = __float2bfloat16_rn(t[i] - __bfloat162float(high));
        const uint32_t bits[2] = {__bfloat16_as_ushort(high), __bfloat16_as_ushort(low)};
        const int part = column % 2;
        const uint32_t theirs = __shfl_xor_sync(all_lanes, part ? bits[0] : bits[1], 1);
        const uint32_t pair = part ? theirs | bits[1] << 16 : bits[0] | theirs << 16;
        const int block = block_at(i / 16, column / 16), lane = i % 8 * 4 + column % 8 / 2;
        if (column / 16 <= i / 16)
            words[((block * 2 + part) * warp_size + lane) * 4 + i / 8 % 2 * 2 + column / 8 % 2] = pair;
    }
}

__global__ void __launch_bounds__(prepare_threads)
    prepare_kernel(Delta d, DeltaTensors tensors, const int32_t * first_chunks, ChunkPlan * plans) {
    union Shared {
        struct {
            bf16 k[chunk * row_stride], q[chunk * row_stride];
        } rows;
        struct {
            float a[chunk][square_stride];
            LowerMatrix inverse;
        } squares;
    };
    __shared__ __align__(16) unsigned char memory[sizeof(Shared)];
    __shared__ Gates gates;
    __shared__ float norms[2][chunk]; // factors that make k and q of length one
    Shared & shared = *reinterpret_cast<Shared *>(memory);

    const int index = blockIdx.x, value_head = blockIdx.y;
    if (index >= first_chunks[d.segments]) return;
    const int segment = stretch_of(first_chunks, d.segments, index);
    const int64_t first = tensors.segments[segment] + int64_t(index - first_chunks[segment]) * chunk;
    const int rows = int(min(int64_t(chunk), tensors.segments[segment + 1] - first));
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, row = lane / 4, pair = lane % 4 * 2;

    const bf16 * const q = tensors.qkv + first * d.width() + value_head / (d.value_heads / d.key_heads) * head;
    copy_rows<head, prepare_threads>(shared.rows.k, q + d.key_heads * head, d.width(), rows);
    copy_rows<head, prepare_threads>(shared.rows.q, q, d.width(), rows);
    commit_copies();
    if (warp == 0) sum_gates(d, tensors, first, rows, value_head, gates);
    wait_for_copies<0>();
    __syncthreads();

    { // The first half of the threads a row of k each, the second half one of q.
        const int of_queries = threadIdx.x / chunk, i = threadIdx.x % chunk;
        const bf16 * const from = (of_queries ? shared.rows.q : shared.rows.k) + i * row_stride;
        float sum = 0, x[8];
        for (int c = 0; c < head; c += 8) {
            load_several<8>(from + c, x);
            for (int j = 0; j < 8; j++) sum = fmaf(x[j], x[j], sum);
        }
        const float norm = 1.0f / sqrtf(sum + 1e-6f);
        norms[of_queries][i] = of_queries ? norm / sqrtf(float(head)) : norm;
    }
    // A warp has 16 rows of k k^T and q k^T, as far as the diagonal.
    float kk[2 * blocks_across][4] = {}, qk[2 * blocks_across][4] = {};
#pragma unroll
    for (int c = 0; c < head; c += 16) {
        uint32_t keys[4], queries[4];
        const int at = (warp * 16 + lane % 16) * row_stride + c + lane / 16 * 8;
        load_matrices(keys, shared.rows.k + at);
        load_matrices(queries, shared.rows.q + at);
#pragma unroll
        for (int j = 0; j < blocks_across; j++) {
            if (j > warp) continue;
            uint32_t b[4];
            load_matrices(b, shared.rows.k + (j * 16 + lane % 8 + lane / 16 * 8) * row_stride + c + lane / 8 % 2 * 8);
            multiply_add(kk[2 * j], keys, b[0], b[1]);
            multiply_add(kk[2 * j + 1], keys, b[2], b[3]);
            multiply_add(qk[2 * j], queries, b[0], b[1]);
            multiply_add(qk[2 * j + 1], queries, b[2], b[3]);
        }
    }
    __syncthreads(); // the matrices take the place of the rows

    ChunkPlan & plan = plans[int64_t(index) * d.value_heads + value_head];
#pragma unroll
    for (int block = 0; block < blocks_across; block++) {
        if (block > warp) continue;
#pragma unroll
        for (int tile = 2 * block; tile < 2 * block + 2; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = warp * 16 + row + e / 2 * 8, j = tile * 8 + pair + e % 2;
                const float decay = expf(j <= i ? gates.between(i, j) : 0.0f);
                shared.squares.a[i][j] =
                    j < i ? gates.beta[i] * (kk[tile][e] * (norms[0][i] * norms[0][j])) * decay : 0.0f;
                qk[tile][e] = j <= i ? qk[tile][e] * (norms[1][i] * norms[0][j]) * decay : 0.0f;
            }
        // Transposed, this left operand is the right one: its middle two registers change places.
        uint32_t parts[2][4];
        split_operand(qk[2 * block], qk[2 * block + 1], parts[0], parts[1]);
        for (int part = 0; part < 2; part++)
            plan.weights.blocks[block_at(warp, block)][part][lane] =
                make_uint4(parts[part][0], parts[part][2], parts[part][1], parts[part][3]);
    }
    if (threadIdx.x < chunk) {
        const int i = threadIdx.x;
        const float entry = expf(gates.high[i] + gates.low[i]);
        plan.factors[i] = {gates.beta[i], gates.beta[i] * entry * norms[0][i], entry * norms[1][i],
                           expf(gates.between(chunk - 1, i)) * norms[0][i]};
        if (i == chunk - 1) plan.decay = entry; // rows behind the last have gates of 0
    }
    __syncthreads();
    if (warp == 0) invert_columns<0>(shared.squares.a, threadIdx.x, shared.squares.inverse);
    if (warp == 1) invert_columns<warp_size>(shared.squares.a, threadIdx.x, shared.squares.inverse);
    __syncthreads();
    const auto * const from = reinterpret_cast<const uint4 *>(&shared.squares.inverse);
    auto * const to = reinterpret_cast<uint4 *>(&plan.inverse);
    for (int i = threadIdx.x; i < int(sizeof(LowerMatrix) / 16); i += prepare_threads) to[i] = from[i];
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
        const uint4 part = m.blocks[block_at(i, j)][0][lane], rest = m.blocks[block_at(i, j)][1][lane];
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
    ChunkPlan plan;
};

// A block has one value head of one segment, or some columns of it. With two stages the next chunk comes
// in while one is computed.
template <int warps>
__global__ void __launch_bounds__(warps * warp_size, 1)
    walk_kernel(Delta d, DeltaTensors tensors, const int32_t * first_chunks, const ChunkPlan * plans, int stages) {
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
        const ChunkPlan & plan = plans[int64_t(first_chunk + at) * d.value_heads + value_head];
        for (int i = threadIdx.x; i < int(sizeof(ChunkPlan) / 16); i += threads)
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
                    const PositionFactors & factors = stage.plan.factors[tile * 8 + pair + e % 2];
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
        const float decay = stage.plan.decay;
#pragma unroll
        for (int tile = 0; tile < head / 8; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) state[tile][e] *= decay;
#pragma unroll
        for (int j = 0; j < blocks_across; j++) {
#pragma unroll
            for (int tile = 2 * j; tile < 2 * j + 2; tile++)
#pragma unroll
                for (int e = 0; e < 4; e++) news[tile][e] *= stage.plan.factors[tile * 8 + pair + e % 2].write;
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
            const ChunkPlan * plans) {
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
    return first_chunks_bytes(d) + uint64_t(most_chunks(d)) * uint64_t(d.value_heads) * sizeof(ChunkPlan);
}

Status run_chunked(CudaContext & context, const Delta & d, const DeltaTensors & tensors, void * scratch) {
    auto * const first_chunks = static_cast<int32_t *>(scratch);
    auto * const plans = reinterpret_cast<ChunkPlan *>(static_cast<uint8_t *>(scratch) + first_chunks_bytes(d));
    count_tiles(context.stream, tensors.segments, d.segments, d.shortest_chunked, chunk, first_chunks);
    const dim3 grid(unsigned(most_chunks(d)), unsigned(d.value_heads));
    prepare_kernel<<<grid, prepare_threads, 0, context.stream>>>(d, tensors, first_chunks, plans);
    GNV_TRY(launched("gated_delta_net"));
    // Fewer columns in a block if heads are too few for all processors; a column's bits do not depend on it.
    const int64_t heads = int64_t(d.segments) * d.value_heads;
    return heads * 4 <= context.processors   ? walk<2>(context, d, tensors, first_chunks, plans)
           : heads * 2 <= context.processors ? walk<4>(context, d, tensors, first_chunks, plans)
                                             : walk<8>(context, d, tensors, first_chunks, plans);
}

} // namespace gnv::cuda
