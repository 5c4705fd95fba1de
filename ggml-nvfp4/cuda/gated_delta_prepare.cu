// Plans of the chunks of gated_delta_net: what gated_delta_net_chunked.cu calls T, P and factors. One block for a chunk of a key
// head makes the plans of all value heads that share it.
#include "cuda/gated_delta_prepare.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

constexpr int head = delta_head, chunk = delta_chunk, blocks_across = delta_blocks;
constexpr int row_stride = head + 8;     // rows start in different banks
constexpr int square_stride = chunk + 4; // of F32
constexpr int threads = blocks_across * warp_size;

// Rows of a head; those from `count` on become zeros.
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int count) {
    constexpr int pieces = head / 8;
    for (int i = threadIdx.x; i < chunk * pieces; i += threads) {
        const int row = i / pieces, piece = i % pieces;
        copy_16_bytes(to + row * row_stride + piece * 8, from + (row < count ? row : 0) * stride + piece * 8,
                      row < count);
    }
}

// The inverse of a 16 x 16 block on the diagonal of I + A takes the block's place: a lane solves for one column, and the second
// half of the lanes does as the first.
__device__ void invert_block(float (*a)[square_stride], int first) {
    const int lane = threadIdx.x % warp_size, column = lane % 16;
    float t[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        float sums[2] = {i == column ? 1.0f : 0.0f, 0};
#pragma unroll
        for (int j = 0; j < i; j++) sums[j % 2] = fmaf(-a[first + i][first + j], t[j], sums[j % 2]);
        t[i] = sums[0] + sums[1];
    }
    __syncwarp();
    if (lane < 16)
#pragma unroll
        for (int i = 0; i < 16; i++) a[first + i][first + column] = t[i];
}

// sum += x b^T for 16 x 16 blocks of F32 numbers, x in the layout of a sum: [half of the columns][..]. Both are taken
// as two parts of 11 bits: what is left out is below the precision of F32. Columns of x are multiplied in another order.
__device__ void add_block(float (&sum)[2][4], const float (&x)[2][4], const float (*b)[square_stride], int row,
                          int column) {
    const int lane = threadIdx.x % warp_size;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t high[4], low[4];
#pragma unroll
        for (int i = 0; i < 4; i++) high[i] = split_short(x[half][i % 2 * 2 + i / 2], low[i]);
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float2 two =
                *reinterpret_cast<const float2 *>(&b[row + n * 8 + lane / 4][column + half * 8 + lane % 4 * 2]);
            uint32_t rests[2];
            const uint32_t parts[2] = {split_short(two.x, rests[0]), split_short(two.y, rests[1])};
            multiply_add_short(sum[n], low, parts[0], parts[1]);
            multiply_add_short(sum[n], high, rests[0], rests[1]);
            multiply_add_short(sum[n], high, parts[0], parts[1]);
        }
    }
}

// Columns [16 * j, 16 * j + 16) of (I + A)^-1 by one warp; the blocks on the diagonal are inverted already. All is transposed:
// blocks [j, i] of the result, so that a sum is the left operand of the next product.
__device__ void invert_columns(const float (*a)[square_stride], int j, LowerMatrix & out) {
    const int lane = threadIdx.x % warp_size;
    float t[blocks_across][2][4];
#pragma unroll
    for (int i = 0; i < blocks_across; i++) {
        if (i < j) continue;
        if (i == j) {
#pragma unroll
            for (int e = 0; e < 8; e++)
                t[i][e / 4][e % 4] = a[16 * i + e / 4 * 8 + lane % 4 * 2 + e % 2][16 * j + lane / 4 + e / 2 % 2 * 8];
        } else {
            float sum[2][4] = {};
#pragma unroll
            for (int m = 0; m < i; m++)
                if (m >= j) add_block(sum, t[m], a, 16 * i, 16 * m);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                sum[e / 4][e % 4] *= -1;
                t[i][e / 4][e % 4] = 0;
            }
            add_block(t[i], sum, a, 16 * i, 16 * i);
        }
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int other = 0; other < 2; other++) {
                uint32_t low;
                const uint32_t high = split(t[i][half][2 * other], t[i][half][2 * other + 1], low);
                out.put(0, i, j, half, other, lane, transposed(high));
                out.put(1, i, j, half, other, lane, transposed(low));
            }
    }
}

// A warp's rows of A, into shared memory, and of P, from those of k k^T and q k^T.
__device__ void make_rows(const DeltaGates & gates, const float (&norms)[2][chunk], const DeltaPowers & powers,
                          const float (&kk)[2 * blocks_across][4], const float (&qk)[2 * blocks_across][4], int warp,
                          float (*a)[square_stride], LowerMatrix & weights) {
    const int lane = threadIdx.x % warp_size, row = lane / 4, pair = lane % 4 * 2;
    const int first = warp * 16 + row;
    const float of_keys[2] = {powers.of_keys[first], powers.of_keys[first + 8]};
    const float of_queries[2] = {powers.of_queries[first], powers.of_queries[first + 8]};
#pragma unroll
    for (int block = 0; block < blocks_across; block++) {
        if (block > warp) continue;
        float p[2][4];
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const int column = block * 16 + n * 8 + pair;
            float x[4];
            if (block < warp) {
                const float2 two = *reinterpret_cast<const float2 *>(&powers.of_column[warp - 1][column]);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const float of_column = e % 2 ? two.y : two.x;
                    x[e] = kk[2 * block + n][e] * (of_keys[e / 2] * of_column);
                    p[n][e] = qk[2 * block + n][e] * (of_queries[e / 2] * of_column);
                }
            } else {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int i = first + e / 2 * 8, j = column + e % 2;
                    const float decay = expf(j <= i ? gates.between(i, j) : 0.0f) * norms[0][j];
                    x[e] = j < i ? kk[2 * block + n][e] * (gates.beta[i] * norms[0][i] * decay) : 0.0f;
                    p[n][e] = j <= i ? qk[2 * block + n][e] * (norms[1][i] * decay) : 0.0f;
                }
            }
#pragma unroll
            for (int half = 0; half < 2; half++)
                *reinterpret_cast<float2 *>(&a[first + half * 8][column]) = {x[2 * half], x[2 * half + 1]};
        }
        uint32_t parts[2][4];
        split_operand(p[0], p[1], parts[0], parts[1]);
        for (int part = 0; part < 2; part++)
#pragma unroll
            for (int i = 0; i < 4; i++) weights.put(part, warp, block, i % 2, i / 2, lane, parts[part][i]);
    }
}

__global__ void __launch_bounds__(threads, 4)
    prepare_kernel(Delta d, DeltaTensors tensors, const int32_t * first_chunks, LanePlan * plans) {
    union Shared {
        struct {
            bf16 k[chunk * row_stride], q[chunk * row_stride];
        } rows;
        struct {
            float a[chunk][square_stride];
            LanePlan plan;
        } squares;
    };
    __shared__ __align__(16) unsigned char memory[sizeof(Shared)];
    __shared__ DeltaGates gates[2];   // of two value heads at a time
    __shared__ float norms[2][chunk]; // factors that make k and q of length one
    __shared__ __align__(16) DeltaPowers powers;
    Shared & shared = *reinterpret_cast<Shared *>(memory);

    const int index = blockIdx.x, key_head = blockIdx.y, sharing = d.value_heads / d.key_heads;
    if (index >= first_chunks[d.segments]) return;
    const int segment = stretch_of(first_chunks, d.segments, index);
    const int64_t first = tensors.segments[segment] + int64_t(index - first_chunks[segment]) * chunk;
    const int rows = int(min(int64_t(chunk), tensors.segments[segment + 1] - first));
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;

    const bf16 * const q = tensors.qkv + first * d.width() + key_head * head;
    copy_rows(shared.rows.k, q + d.key_heads * head, d.width(), rows);
    copy_rows(shared.rows.q, q, d.width(), rows);
    commit_copies();
    const auto sum_two = [&](int from) {
        if (warp >= 2 || from + warp >= sharing) return;
        float2 gates_of_two[2];
        for (int i = 0; i < 2; i++) {
            const int row = 2 * lane + i, value_head = key_head * sharing + from + warp;
            gates_of_two[i] =
                row < rows ? delta_gates(d, tensors, (first + row) * d.value_heads + value_head) : float2{0, 0};
        }
        sum_gates(gates_of_two, gates[warp]);
    };
    sum_two(0);
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
    LanePlan & plan = shared.squares.plan;
    for (int at = 0; at < sharing; at++) {
        if (at > 0 && at % 2 == 0) {
            __syncthreads(); // gates before are no longer read
            sum_two(at);
        }
        __syncthreads(); // the matrices take the place of the rows; the plan before is written
        make_powers(gates[at % 2], norms, int(threadIdx.x), powers, plan.factors);
        __syncthreads();
        make_rows(gates[at % 2], norms, powers, kk, qk, warp, shared.squares.a, plan.weights);
        __syncwarp();
        invert_block(shared.squares.a, 16 * warp);
        __syncthreads();
        invert_columns(shared.squares.a, warp, plan.inverse);
        __syncthreads();
        const auto * const from = reinterpret_cast<const uint4 *>(&plan);
        auto * const to = reinterpret_cast<uint4 *>(plans + int64_t(index) * d.value_heads + key_head * sharing + at);
        for (int i = threadIdx.x; i < int(sizeof plan / 16); i += threads) to[i] = from[i];
    }
}

} // namespace

Status prepare_chunks(cudaStream_t stream, const Delta & d, const DeltaTensors & tensors, const int32_t * first_chunks,
                      int64_t most_chunks, LanePlan * plans) {
    const dim3 grid(unsigned(most_chunks), unsigned(d.key_heads));
    prepare_kernel<<<grid, threads, 0, stream>>>(d, tensors, first_chunks, plans);
    return launched("gated_delta_net");
}

} // namespace gnv::cuda
