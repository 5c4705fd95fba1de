// NVFP4 operands of a BF16 product: value times block scale has at most six significant bits, so BF16 holds it exactly;
// the global scales go into the factor of the product.
#pragma once

#include "cuda/common.cuh"

#include <cuda_fp8.h>

namespace gnv::cuda {

// A block scale, twice.
__device__ inline __nv_bfloat162 scale_pair(uint8_t byte) {
    __nv_fp8_e4m3 scale;
    scale.__x = byte;
    return __float2bfloat162_rn(float(scale));
}

// Eight codes, the first in the lowest bits, as BF16 pairs of their values. The high and the low bytes of the eight magnitudes
// 0, 0.5, 1, 1.5, 2, 3, 4, 6 are looked up by the codes as byte selectors.
__device__ inline void code_pairs(uint32_t codes, uint32_t (&words)[4]) {
    const auto pairs = [](uint32_t four, uint32_t & first, uint32_t & second) {
        const uint32_t selector = four & 0x7777;
        const uint32_t high = __byte_perm(0x3f3f3f00, 0x40404040, selector);
        const uint32_t low = __byte_perm(0xc0800000, 0xc0804000, selector);
        first = __byte_perm(low, high, 0x5140) | (four & 0x8) << 12 | (four & 0x80) << 24;
        second = __byte_perm(low, high, 0x7362) | (four & 0x800) << 4 | (four & 0x8000) << 16;
    };
    pairs(codes & 0xffff, words[0], words[1]);
    pairs(codes >> 16, words[2], words[3]);
}

// Eight codes of one block as BF16: code value * block scale.
__device__ inline uint4 widened(uint32_t codes, __nv_bfloat162 scale) {
    const auto scaled = [&](uint32_t pair) {
        const __nv_bfloat162 product = __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&pair), scale);
        return *reinterpret_cast<const uint32_t *>(&product);
    };
    uint32_t words[4];
    code_pairs(codes, words);
    return {scaled(words[0]), scaled(words[1]), scaled(words[2]), scaled(words[3])};
}

// The same times 2^-8, in fewer steps: the bits of a code, moved to where BF16 has its exponent, are its value times 2^-126, which
// a scale times 2^118 brings back to where nothing is lost.
constexpr float small_factor = 256;
__device__ inline __nv_bfloat162 large_scale_pair(uint8_t byte) {
    __nv_fp8_e4m3 scale;
    scale.__x = byte;
    return __float2bfloat162_rn(float(scale) * 0x1p118f);
}
// The scales of two blocks, one after the other.
__device__ inline __nv_bfloat162 two_large_scales(uint16_t bytes) {
    __nv_fp8x2_e4m3 scales;
    scales.__x = bytes;
    const auto both = static_cast<float2>(scales);
    return __floats2bfloat162_rn(both.x * 0x1p118f, both.y * 0x1p118f);
}
__device__ inline uint4 widened_small(uint32_t codes, __nv_bfloat162 large_scale) {
    const auto scaled = [&](uint32_t pair) {
        const __nv_bfloat162 product = __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&pair), large_scale);
        return *reinterpret_cast<const uint32_t *>(&product);
    };
    // Codes i and i + 4, side by side.
    const auto apart = [&](uint32_t magnitudes, uint32_t signs) {
        return scaled((magnitudes & 0x01c001c0) | (signs & 0x80008000));
    };
    const uint32_t first = apart(codes << 6, codes << 12), second = apart(codes << 2, codes << 8),
                   third = apart(codes >> 2, codes << 4), fourth = apart(codes >> 6, codes);
    return {__byte_perm(first, second, 0x5410), __byte_perm(third, fourth, 0x5410), __byte_perm(first, second, 0x7632),
            __byte_perm(third, fourth, 0x7632)};
}

// The nearest E2M1 value of size / scale, ties to even codes, times the scale: an E4M3 number above 0; size is not negative. The
// quotient, rounded, is compared with the middle between two values. That and the scale have so few bits that size compared with
// their product gives the same answer, without a division: the floats next to the product are more than half a unit of the
// quotient away from it.
__device__ inline float nearest_value(float size, float scale) {
    if (size <= 0.25f * scale) return 0;
    if (size < 0.75f * scale) return 0.5f * scale;
    if (size <= 1.25f * scale) return scale;
    if (size < 1.75f * scale) return 1.5f * scale;
    if (size <= 2.5f * scale) return 2 * scale;
    if (size < 3.5f * scale) return 3 * scale;
    return size <= 5 * scale ? 4 * scale : 6 * scale;
}

// A block of 16 inputs of a W4A4 product (LinearParams in graph/ops.h) becomes code * block scale.
__device__ inline void quantize_block(float (&values)[2][8], float input_scale) {
    float largest = 0;
    for (const auto & half : values)
        for (const float value : half) largest = fmaxf(largest, fabsf(value));
    const __nv_fp8_e4m3 byte(__fdiv_rn(__fmul_rn(input_scale, largest), 6.0f)); // saturating, to nearest even
    const float scale = float(byte);
    for (auto & half : values)
        for (float & value : half) {
            const float size = scale > 0 ? nearest_value(fabsf(__fmul_rn(value, input_scale)), scale) : 0;
            value = copysignf(size, value);
        }
}

// 1 / (weight_scale * input_scale); a null scale counts as 1.
__device__ inline float factor_of(const float * weight_scale, const float * input_scale) {
    return 1.0f / ((weight_scale ? *weight_scale : 1.0f) * (input_scale ? *input_scale : 1.0f));
}

// weight [rows, columns] as value * block scale, row-major
Status widen_nvfp4(cudaStream_t stream, const uint8_t * codes, const uint8_t * block_scales, int64_t rows,
                   int64_t columns, bf16 * out);

// Inputs of a W4A4 product (LinearParams in graph/ops.h): row i of the result is row gather[i] / slots_per_row of x, or row i
// without `gather`, as code * block scale. With offsets [groups + 1] row i has the input scale of its group, and rows from
// offsets[groups] on are left as they are; without offsets all rows have input_scales[0]. Rows whose scale in `known_scales` is
// the same are left as they are, too: their reader has them already.
struct InputsToQuantize {
    const bf16 * x;
    const int32_t * gather;
    int64_t rows, columns;
    const float * input_scales;
    const int32_t * offsets;
    int groups;
    int64_t slots_per_row = 1;
    const float * known_scales = nullptr;
};
Status quantize_inputs(cudaStream_t stream, const InputsToQuantize & inputs, bf16 * out);

// out[0] = 1 / (weight_scale * input_scale), out[1] = 0; a null scale counts as 1
Status product_factor(cudaStream_t stream, const float * weight_scale, const float * input_scale, float * out);

} // namespace gnv::cuda
