// A warp a row: lane l has the elements (32 r + l) * 8 ... + 7 for every r.
#include "cuda/rotate_hopper.cuh"

#include "cuda/expert_inputs.cuh"

#include <bit>

namespace gnv::cuda {

namespace {

constexpr int warps = 4;
using namespace screening;

template <int parts>
__device__ void rotate(float (&v)[parts][8], int bits) {
    const int lane = threadIdx.x % warp_size;
    const auto exchange = [](float & a, float & b) {
        const float sum = a + b;
        b = a - b;
        a = sum;
    };
#pragma unroll
    for (int bit = 0; bit < 3; bit++) {
        if (bit >= bits) return;
#pragma unroll
        for (int r = 0; r < parts; r++)
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (!(i >> bit & 1)) exchange(v[r][i], v[r][i + (1 << bit)]);
    }
#pragma unroll
    for (int bit = 0; bit < 5; bit++) {
        if (bit + 3 >= bits) return;
        const float sign = lane >> bit & 1 ? -1.0f : 1.0f;
#pragma unroll
        for (int r = 0; r < parts; r++)
#pragma unroll
            for (int i = 0; i < 8; i++) v[r][i] = fmaf(sign, v[r][i], __shfl_xor_sync(all_lanes, v[r][i], 1 << bit));
    }
#pragma unroll
    for (int bit = 0; (1 << bit) < parts; bit++) {
        if (bit + 8 >= bits) return;
#pragma unroll
        for (int r = 0; r < parts; r++)
            if (!(r >> bit & 1))
#pragma unroll
                for (int i = 0; i < 8; i++) exchange(v[r][i], v[r + (1 << bit)][i]);
    }
}

__device__ float largest_of_warp(float value) {
    for (int step = 16; step > 0; step /= 2) value = larger(value, __shfl_xor_sync(all_lanes, value, step));
    return value;
}

// `factor`: of the rotated row, a power of two; bits: of the size of a block that is rotated.
template <int parts, bool weights>
__global__ void __launch_bounds__(warps * warp_size) rotate_kernel(RotatedRows p, int bits, float factor) {
    const int64_t row = int64_t(blockIdx.x) * warps + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    if (row >= p.rows) return;
    float v[parts][8];
#pragma unroll
    for (int r = 0; r < parts; r++) {
        const int64_t at = (r * 32 + lane) * 8;
        if (at < p.k) {
            load_several<8>(p.from + row * p.k + at, v[r]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) v[r][i] = 0;
        }
    }
    rotate(v, bits);
    float most = 0, squares = 0;
#pragma unroll
    for (int r = 0; r < parts; r++)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[r][i] *= factor;
            most = larger(most, fabsf(v[r][i]));
            squares = fmaf(v[r][i], v[r][i], squares);
        }
    most = largest_of_warp(most);
    const float norm = sqrtf(warp_sum(squares)) * norm_margin;
    const bool bounded = norm >= least_norm && norm <= most_norm, zero = norm == 0 && most == 0;
    const float s = bounded ? most / 127 : 1, inverse = bounded ? 127 / most : 0;
    float errors = 0;
    int integers = 0; // sum of squares: at most 4096 * 127 * 127
#pragma unroll
    for (int r = 0; r < parts; r++) {
        union {
            int8_t bytes[8];
            uint2 words;
        } q;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int rounded_value = bounded ? max(-127, min(127, __float2int_rn(v[r][i] * inverse))) : 0;
            const float error = fmaf(-s, float(rounded_value), v[r][i]);
            errors = fmaf(error, error, errors);
            integers += rounded_value * rounded_value;
            q.bytes[i] = int8_t(rounded_value);
        }
        const int64_t at = (r * 32 + lane) * 8;
        if (at < p.k) *reinterpret_cast<uint2 *>(p.to + row * p.k + at) = q.words;
    }
    const float error = sqrtf(warp_sum(errors)) * norm_margin;
    for (int step = 16; step > 0; step /= 2) integers += __shfl_xor_sync(all_lanes, integers, step);
    if (lane > 0) return;
    float4 bounds = {};
    if constexpr (weights) {
        bounds =
            bounded ? float4{s, norm, fmaf(rotation_rounding, norm, error), 0} : float4{0, zero ? 0 : INFINITY, 0, 0};
    } else {
        const float of_norm = fmaf(float(p.k), product_rounding, rotation_rounding);
        bounds = bounded ? float4{fmaf(of_norm, norm, error) / s * norm_margin, sqrtf(float(integers)) * norm_margin,
                                  silu_floor / s, s * s}
                         : float4{zero ? 0 : INFINITY, 0, silu_floor, 1};
    }
    p.bounds[row] = bounds;
}

template <bool weights>
Status rotate_all(cudaStream_t stream, const RotatedRows & rows) {
    const int bits = std::countr_zero(uint64_t(rows.k));
    const float factor = weights ? 1.0f / float(int64_t(1) << bits) : 1.0f;
    const int64_t parts = (rows.k + 255) / 256;
    const auto launch = [&](auto kernel) {
        kernel<<<blocks_for(rows.rows, warps), warps * warp_size, 0, stream>>>(rows, bits, factor);
    };
    if (parts <= 1) {
        launch(rotate_kernel<1, weights>);
    } else if (parts <= 2) {
        launch(rotate_kernel<2, weights>);
    } else if (parts <= 4) {
        launch(rotate_kernel<4, weights>);
    } else if (parts <= 8) {
        launch(rotate_kernel<8, weights>);
    } else {
        launch(rotate_kernel<16, weights>);
    }
    return launched("expert_inputs");
}

} // namespace

bool can_rotate(int64_t k) { return k % 16 == 0 && k <= 4096; }
Status rotate_rows(cudaStream_t stream, const RotatedRows & x) { return rotate_all<false>(stream, x); }
Status rotate_columns(cudaStream_t stream, const RotatedRows & w) { return rotate_all<true>(stream, w); }

} // namespace gnv::cuda
