// A warp a row: lane l reads the elements (32 r + l) * 8 ... + 7 for every r, so that it has what differs in the three lowest bits of
// an element's place and in those of r. What differs in the bits of l comes together by way of shared memory if all lanes have
// elements, else by exchanges. Codes stay in the order in which lanes then have them: it is the same for all rows of one length, and
// their products do not depend on it.
#include "cuda/rotate_hopper.cuh"

#include "cuda/expert_inputs.cuh"

#include <bit>

namespace gnv::cuda {

namespace {

constexpr int warps = 4;
using namespace screening;

__device__ void exchange(float & a, float & b) {
    const float sum = a + b;
    b = a - b;
    a = sum;
}
template <int count>
__device__ void rotate_bit(float (&v)[count], int bit) {
#pragma unroll
    for (int i = 0; i < count; i++)
        if (!(i >> bit & 1)) exchange(v[i], v[i + (1 << bit)]);
}

// A row of each lane; it begins four banks behind the one before.
constexpr int most_columns = 64;
using WarpMemory = float[warp_size][most_columns + 4];

// v[c] of lane l becomes v[c / 32 * 32 + l] of lane c % 32.
template <int count>
__device__ void transpose(float (&v)[count], WarpMemory & memory) {
    const int lane = threadIdx.x % warp_size;
    constexpr int columns = count < most_columns ? count : most_columns;
#pragma unroll
    for (int first = 0; first < count; first += columns) {
#pragma unroll
        for (int c = 0; c < columns; c += 4)
            *reinterpret_cast<float4 *>(&memory[lane][c]) = {v[first + c], v[first + c + 1], v[first + c + 2],
                                                             v[first + c + 3]};
        __syncwarp();
#pragma unroll
        for (int c = 0; c < columns; c += warp_size)
#pragma unroll
            for (int l = 0; l < warp_size; l++) v[first + c + l] = memory[l][c + lane];
        __syncwarp();
    }
}

// bits: of the size of a block that is rotated; whole: all there are.
template <int parts, bool whole>
__device__ void rotate(float (&v)[parts * 8], int bits, WarpMemory & memory) {
#pragma unroll
    for (int bit = 0; bit < 3; bit++)
        if (whole || bit < bits) rotate_bit(v, bit);
#pragma unroll
    for (int bit = 0; (1 << bit) < parts; bit++)
        if (whole || bit + 8 < bits) rotate_bit(v, bit + 3);
    if constexpr (whole) {
        transpose(v, memory);
#pragma unroll
        for (int bit = 0; bit < 5; bit++) rotate_bit(v, bit);
    } else {
        const int lane = threadIdx.x % warp_size;
#pragma unroll
        for (int bit = 0; bit < 5; bit++) {
            if (bit + 3 >= bits) return;
            const float sign = lane >> bit & 1 ? -1.0f : 1.0f;
#pragma unroll
            for (int i = 0; i < parts * 8; i++) v[i] = fmaf(sign, v[i], __shfl_xor_sync(all_lanes, v[i], 1 << bit));
        }
    }
}

__device__ float largest_of_warp(float value) {
    for (int step = 16; step > 0; step /= 2) value = larger(value, __shfl_xor_sync(all_lanes, value, step));
    return value;
}

// A number plus this is rounded to a whole number of up to 22 bits, which is in the lowest bits then.
constexpr float to_whole = 0x1.8p23f;

// The lowest bytes of four words.
__device__ uint32_t bytes_of(const float * words) {
    const auto bits = [&](int i) { return __float_as_uint(words[i]); };
    return __byte_perm(__byte_perm(bits(0), bits(1), 0x0040), __byte_perm(bits(2), bits(3), 0x0040), 0x5410);
}

// `factor`: of the rotated row, a power of two. whole: rows have parts * 256 elements.
template <int parts, bool weights, bool whole>
__global__ void __launch_bounds__(warps * warp_size) rotate_kernel(RotatedRows p, int bits, float factor) {
    __shared__ WarpMemory memory[whole ? warps : 1];
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    const int64_t row = int64_t(blockIdx.x) * warps + warp;
    if (row >= p.rows) return;
    float v[parts * 8];
#pragma unroll
    for (int r = 0; r < parts; r++) {
        const int at = (r * 32 + lane) * 8;
        float eight[8] = {};
        if (whole || at < p.k) unpack(*reinterpret_cast<const uint4 *>(p.from + row * p.k + at), eight);
#pragma unroll
        for (int i = 0; i < 8; i++) v[r * 8 + i] = eight[i];
    }
    rotate<parts, whole>(v, bits, memory[whole ? warp : 0]);
    float most = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < parts * 8; i++) {
        most = larger(most, fabsf(v[i]));
        squares = fmaf(v[i], v[i], squares);
    }
    most = largest_of_warp(most);
    const float norm = sqrtf(warp_sum(squares)) * norm_margin * factor;
    const bool bounded = norm >= least_norm && norm <= most_norm, zero = norm == 0 && most == 0;
    const float unit = bounded ? most / 127 : 1, inverse = bounded ? 127 / most : 0;
    float errors = 0, codes = 0; // sums of squares
#pragma unroll
    for (int i = 0; i < parts * 8; i++) {
        const float rounded_value = fmaf(v[i], inverse, to_whole), code = rounded_value - to_whole;
        const float error = fmaf(-unit, code, v[i]);
        errors = fmaf(error, error, errors);
        codes = fmaf(code, code, codes);
        v[i] = rounded_value;
    }
    int8_t * const to = p.to + row * p.k;
    if constexpr (whole) {
#pragma unroll
        for (int i = 0; i < parts * 8; i += 16)
            *reinterpret_cast<uint4 *>(to + i * warp_size + lane * 16) = {bytes_of(v + i), bytes_of(v + i + 4),
                                                                          bytes_of(v + i + 8), bytes_of(v + i + 12)};
    } else {
#pragma unroll
        for (int r = 0; r < parts; r++) {
            const int at = (r * 32 + lane) * 8;
            if (at < p.k) *reinterpret_cast<uint2 *>(to + at) = {bytes_of(v + r * 8), bytes_of(v + r * 8 + 4)};
        }
    }
    const float error = sqrtf(warp_sum(errors)) * norm_margin * factor, s = unit * factor;
    float4 bounds = {};
    if constexpr (weights) {
        bounds =
            bounded ? float4{s, norm, fmaf(rotation_rounding, norm, error), 0} : float4{1, zero ? 0 : INFINITY, 0, 0};
    } else {
        const float of_norm = fmaf(float(p.k), product_rounding, rotation_rounding);
        bounds = bounded ? float4{fmaf(of_norm, norm, error) / s * norm_margin, sqrtf(warp_sum(codes)) * norm_margin,
                                  silu_floor / s, s * s}
                         : float4{zero ? 0 : INFINITY, 0, silu_floor, 1};
    }
    if (lane == 0) p.bounds[row] = bounds;
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
        launch(rotate_kernel<1, weights, false>);
    } else if (parts <= 2) {
        launch(rotate_kernel<2, weights, false>);
    } else if (parts <= 4) {
        launch(rows.k == 1024 ? rotate_kernel<4, weights, true> : rotate_kernel<4, weights, false>);
    } else if (parts <= 8) {
        launch(rows.k == 2048 ? rotate_kernel<8, weights, true> : rotate_kernel<8, weights, false>);
    } else {
        launch(rows.k == 4096 ? rotate_kernel<16, weights, true> : rotate_kernel<16, weights, false>);
    }
    return launched("expert_inputs");
}

} // namespace

bool can_rotate(int64_t k) { return k % 16 == 0 && k <= 4096; }
Status rotate_rows(cudaStream_t stream, const RotatedRows & x) { return rotate_all<false>(stream, x); }
Status rotate_columns(cudaStream_t stream, const RotatedRows & w) { return rotate_all<true>(stream, w); }

} // namespace gnv::cuda
