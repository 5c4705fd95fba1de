// Products that cuBLASLt and the tensor cores do not take: weights in F32, or rows that 8 does not divide. Each sum
// runs in F32 in the order of the index, as the contract says, so that a result has the bits of the CPU's.
#pragma once

#include "cuda/tiles.cuh"
#include "cuda/widen.cuh"

namespace gnv::cuda {

// out[i, j] = factor * sum over k of a[row(i), k] * w[j, k], i < m. w [n, k]: all rows have one factor, 1 /
// input_scales[0]. w [groups, n, k]: rows offsets[g] <= i < offsets[g + 1] are the product with w[g], their factor is 1
// / input_scales[g]. row(i) is rows[i], or i without rows. Without input scales the factor is 1.
struct PlainProduct {
    int64_t m = 0;
    const bf16 * a = nullptr;
    bf16 * out = nullptr;
    const float * input_scales = nullptr;
    const int32_t *rows = nullptr, *offsets = nullptr;
    int32_t * first_tiles = nullptr; // scratch memory with offsets: [groups + 1]
};

namespace plain {

constexpr int side = 64, part = 4; // of a block's tile of the result; numbers of a thread: part x part
constexpr int threads_a_side = side / part;
constexpr int depth = 16;

template <class Weight>
__global__ void __launch_bounds__(threads_a_side * threads_a_side)
    product_kernel(PlainProduct p, const Weight * w, int groups, int64_t n, int64_t k) {
    __shared__ float left[depth][side + 1], right[depth][side + 1];
    int group = 0;
    int64_t first_row = int64_t(blockIdx.y) * side, end = p.m;
    if (p.offsets) {
        const int index = int(blockIdx.y);
        if (index >= p.first_tiles[groups]) return;
        group = stretch_of(p.first_tiles, groups, index);
        first_row = p.offsets[group] + int64_t(index - p.first_tiles[group]) * side;
        end = p.offsets[group + 1];
    }
    w += group * n * k;
    const int64_t first_column = int64_t(blockIdx.x) * side;
    const int thread = threadIdx.x, di = thread / threads_a_side, dj = thread % threads_a_side;
    float sums[part][part] = {};
    for (int64_t base = 0; base < k; base += depth) {
        const int count = int(min(int64_t(depth), k - base));
        __syncthreads();
        for (int i = thread; i < side * depth; i += threads_a_side * threads_a_side) {
            const int row = i / depth, at = i % depth;
            const bool real = at < count, real_row = real && first_row + row < end;
            const int64_t source = real_row && p.rows ? p.rows[first_row + row] : first_row + row;
            left[at][row] = real_row ? __bfloat162float(p.a[source * k + base + at]) : 0.0f;
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
    const float factor = p.input_scales ? factor_of(nullptr, p.input_scales + group) : 1.0f;
    for (int i = 0; i < part; i++)
        for (int j = 0; j < part; j++) {
            const int64_t row = first_row + i * threads_a_side + di, column = first_column + j * threads_a_side + dj;
            if (row < end && column < n) p.out[row * n + column] = __float2bfloat16_rn(sums[i][j] * factor);
        }
}

} // namespace plain

// `w`: BF16 or F32, [n, k] or, with offsets, [groups, n, k].
inline Status plain_product(cudaStream_t stream, const Tensor & w, const PlainProduct & p) {
    const int64_t k = w.shape.last(), n = w.shape[w.shape.rank - 2], groups = p.offsets ? w.shape[0] : 1;
    if (p.m == 0 || n == 0) return {};
    // A tile more for each group than full ones can be needed, but none for a group without rows.
    const int64_t tiles = p.offsets ? p.m / plain::side + std::min(groups, p.m) : blocks_for(p.m, plain::side);
    if (p.offsets) count_tiles(stream, p.offsets, int(groups), 1, plain::side, p.first_tiles);
    const dim3 grid(blocks_for(n, plain::side), unsigned(tiles));
    constexpr int threads = plain::threads_a_side * plain::threads_a_side;
    if (w.dtype == DType::f32) {
        plain::product_kernel<<<grid, threads, 0, stream>>>(p, w.as<const float>(), int(groups), n, k);
    } else {
        plain::product_kernel<<<grid, threads, 0, stream>>>(p, w.as<const bf16>(), int(groups), n, k);
    }
    return launched("a product in F32");
}

// Whether a weight [.., N, K] needs it.
inline bool is_plain(const Tensor & w) { return w.dtype == DType::f32 || w.shape.last() % 8 != 0; }

} // namespace gnv::cuda
