// Rows of attention's cache: new ones go in, as they are or as E4M3 codes (graph/ops.h: AttentionParams), and codes come out.
#pragma once

#include "cuda/attention.cuh"
#include "cuda/chain.cuh"
#include "cuda/tiles.cuh"

#include <cuda_fp8.h>

namespace gnv::cuda {

// What a scale means.
__device__ inline float scale_of_byte(uint8_t byte) {
    return byte == 255 ? __int_as_float(0x7fc00000) : __int_as_float(int(byte) << 23);
}

// Four codes, the first in the lowest bits, as two pairs of BF16. Exact; codes that are NaN have no scale but NaN.
__device__ inline uint2 widened_codes(uint32_t codes) {
    const __nv_bfloat162 factor = __float2bfloat162_rn(0x1p120f); // exponents of E4M3 where those of BF16 are
    const auto pair = [&](unsigned selector) {
        const uint32_t high = __byte_perm(codes, 0, selector); // a code in the upper byte of each half
        const uint32_t bits = (high & 0x80008000) | (high >> 4 & 0x07f007f0);
        const __nv_bfloat162 value = __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&bits), factor);
        return *reinterpret_cast<const uint32_t *>(&value);
    };
    return {pair(0x1404), pair(0x3424)};
}

// The new rows of each segment go into its cache; a row a block. The kernel behind it may count on it that all earlier kernels have
// ended when it starts: it lets it start after its wait.
static __global__ void store_kernel(const bf16 * k, const bf16 * v, const int32_t * segments, int segment_count,
                                    AttentionCache cache, int64_t width) {
    wait_for_earlier();
    let_later_start();
    const int64_t t = blockIdx.x;
    const int segment = stretch_of(segments, segment_count, t);
    const int64_t row = cache.row(segment, cache.past[segment] + (t - segments[segment]));
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        cache.k[row * width + i] = k[t * width + i];
        cache.v[row * width + i] = v[t * width + i];
    }
}

// A head of a row as codes, by one warp: `x` are this lane's numbers, neighbours.
template <int head>
__device__ void pack_head(const bf16 * x, uint8_t * codes, uint8_t * scale_place) {
    constexpr int each = head / warp_size; // numbers of a lane
    const int lane = threadIdx.x % warp_size;
    float numbers[each];
    load_several<each>(x, numbers);
    uint32_t largest = 0; // magnitudes as integers: NaN is above all
#pragma unroll
    for (const float number : numbers) largest = max(largest, __float_as_uint(number) & 0x7fffffff);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) largest = max(largest, __shfl_xor_sync(all_lanes, largest, step));
    int scale = 255;
    float inverse = __int_as_float(0x7fc00000);
    if (largest < 0x7f800000) {
        scale = max(int(largest >> 23) - 8 + ((largest & 0x7fffff) > 0x600000 ? 1 : 0), 27); // 448 is 1.75 * 2^8
        inverse = __int_as_float((254 - scale) << 23);
    }
#pragma unroll
    for (int i = 0; i < each; i += 2) {
        const __nv_fp8x2_e4m3 pair(make_float2(numbers[i] * inverse, numbers[i + 1] * inverse)); // to nearest even
        *reinterpret_cast<uint16_t *>(codes + lane * each + i) = pair.__x;
    }
    if (lane == 0) *scale_place = uint8_t(scale);
}

// The same as codes: a row a block, a head a warp.
template <int head>
__global__ void pack_kernel(const bf16 * k, const bf16 * v, const int32_t * segments, int segment_count,
                            CodedCache cache, int heads) {
    wait_for_earlier();
    let_later_start();
    const int64_t t = blockIdx.x;
    const int segment = stretch_of(segments, segment_count, t);
    const int64_t row = cache.row(segment, cache.past[segment] + (t - segments[segment]));
    const int lane = threadIdx.x % warp_size, warps = blockDim.x / warp_size;
    for (int item = threadIdx.x / warp_size; item < 2 * heads; item += warps) {
        const bool is_value = item >= heads;
        const int64_t h = is_value ? item - heads : item, at = row * heads + h;
        pack_head<head>((is_value ? v : k) + (t * heads + h) * head + lane * (head / warp_size),
                        (is_value ? cache.v : cache.k) + at * head, (is_value ? cache.v_scales : cache.k_scales) + at);
    }
}

// Where the rows of segments with more than one position lie as codes, `wide` receives them as BF16. Blocks: rows, segments.
static __global__ void widen_kernel(const int32_t * segments, CodedCache cache, int heads, int head, bf16 * wide_k,
                                    bf16 * wide_v) {
    const int segment = blockIdx.y, added = segments[segment + 1] - segments[segment];
    if (added <= 1) return;
    const int64_t count = int64_t(cache.past[segment]) + added;
    const int pieces = heads * head / 8; // of 8 codes, in a row
    for (int64_t r = blockIdx.x; r < count; r += gridDim.x) {
        const int64_t row = cache.row(segment, r);
        for (int i = int(threadIdx.x); i < 2 * pieces; i += blockDim.x) {
            const bool is_value = i >= pieces;
            const int piece = is_value ? i - pieces : i;
            const int64_t at = row * pieces + piece;
            const uint2 codes = reinterpret_cast<const uint2 *>(is_value ? cache.v : cache.k)[at];
            const uint8_t scale = (is_value ? cache.v_scales : cache.k_scales)[row * heads + piece * 8 / head];
            const __nv_bfloat162 factor = __float2bfloat162_rn(scale_of_byte(scale));
            const auto scaled = [&](uint32_t pair) {
                const __nv_bfloat162 value = __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&pair), factor);
                return *reinterpret_cast<const uint32_t *>(&value);
            };
            const uint2 low = widened_codes(codes.x), high = widened_codes(codes.y);
            reinterpret_cast<uint4 *>(is_value ? wide_v : wide_k)[at] =
                make_uint4(scaled(low.x), scaled(low.y), scaled(high.x), scaled(high.y));
        }
    }
}

} // namespace gnv::cuda
