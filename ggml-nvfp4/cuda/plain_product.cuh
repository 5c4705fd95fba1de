// Products that the library for BF16 matrices does not take: weights in F32, or rows that 8 does not divide. The contract as it
// stands: each sum runs in the order of the index in F32, so that a result has the bits of the CPU's.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

namespace plain {

constexpr int side = 64, part = 4; // of a block's tile of the result; numbers of a thread: part x part
constexpr int threads_a_side = side / part;
constexpr int depth = 16;

template <class Weight>
__global__ void __launch_bounds__(threads_a_side * threads_a_side)
    product_kernel(int64_t m, int64_t n, int64_t k, const bf16 * a, const Weight * w, bf16 * out, int64_t out_stride,
                   const float * factor) {
    __shared__ float left[depth][side + 1], right[depth][side + 1];
    const int64_t first_row = int64_t(blockIdx.y) * side, first_column = int64_t(blockIdx.x) * side;
    const int thread = threadIdx.x, di = thread / threads_a_side, dj = thread % threads_a_side;
    float sums[part][part] = {};
    for (int64_t base = 0; base < k; base += depth) {
        const int count = int(min(int64_t(depth), k - base));
        __syncthreads();
        for (int i = thread; i < side * depth; i += threads_a_side * threads_a_side) {
            const int row = i / depth, at = i % depth;
            const bool real = at < count;
            left[at][row] = real && first_row + row < m ? __bfloat162float(a[(first_row + row) * k + base + at]) : 0.0f;
            right[at][row] = real && first_column + row < n ? float(w[(first_column + row) * k + base + at]) : 0.0f;
        }
        __syncthreads();
        for (int at = 0; at < count; at++) {
            float u[part], v[part];
#pragma unroll
            for (int i = 0; i < part; i++) {
                u[i] = left[at][i * threads_a_side + di];
                v[i] = right[at][i * threads_a_side + dj];
            }
#pragma unroll
            for (int i = 0; i < part; i++)
#pragma unroll
                for (int j = 0; j < part; j++) sums[i][j] = fmaf(u[i], v[j], sums[i][j]);
        }
    }
    for (int i = 0; i < part; i++)
        for (int j = 0; j < part; j++) {
            const int64_t row = first_row + i * threads_a_side + di, column = first_column + j * threads_a_side + dj;
            if (row >= m || column >= n) continue;
            out[row * out_stride + column] = __float2bfloat16_rn(factor ? sums[i][j] * *factor : sums[i][j]);
        }
}

} // namespace plain

// out[i, j] = factor * sum over k of a[i, k] * w[j, k]; a is dense, a null factor counts as 1.
template <class Weight>
Status plain_product(cudaStream_t stream, int64_t m, int64_t n, int64_t k, const bf16 * a, const Weight * w, bf16 * out,
                     int64_t out_stride, const float * factor) {
    if (m == 0 || n == 0) return {};
    const dim3 grid(blocks_for(n, plain::side), blocks_for(m, plain::side));
    plain::product_kernel<<<grid, plain::threads_a_side * plain::threads_a_side, 0, stream>>>(m, n, k, a, w, out,
                                                                                              out_stride, factor);
    return launched("a product in F32");
}

// Whether a weight [.., N, K] needs it.
inline bool is_plain(const Tensor & w) { return w.dtype == DType::f32 || w.shape.last() % 8 != 0; }

} // namespace gnv::cuda
