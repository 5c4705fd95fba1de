// AVX-512 (F, BW, DQ, VL): sixteen blocks at a time, so that the arithmetic on block scales fills whole registers.
#include "cpu/nvfp4_variants.h"

#include <immintrin.h>
#include <string.h>

namespace gnv::cpu::avx512 {

namespace {

constexpr int group = 16; // blocks handled together
constexpr int block_size = 16;

__m512i constant(int value) { return _mm512_set1_epi32(value); }

// The nearest BF16 number, ties to even, as a float.
__m512 round_to_bf16(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), constant(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, constant(0x7fff)));
    return _mm512_castsi512_ps(_mm512_and_si512(rounded, constant(int(0xffff0000))));
}

// The power of two that makes `x + power` round x to a mantissa of `mantissa_bits` bits, subnormals below
// 2^min_exponent included: the last bit of the sum is worth what the last bit of the small format is worth at x.
template <int mantissa_bits, int min_exponent>
__m512 rounding_power(__m512 x) {
    const __m512i exponent = _mm512_and_si512(_mm512_castps_si512(x), constant(0x7f800000));
    const __m512i bounded = _mm512_max_epi32(exponent, constant((127 + min_exponent) << 23));
    return _mm512_castsi512_ps(_mm512_add_epi32(bounded, constant((23 - mantissa_bits) << 23)));
}

// The small format's exponent and mantissa fields in the low bits of `sum` = x + rounding_power(x), garbage above. The
// low bits of the sum count the steps, its exponent tells the binade.
template <int mantissa_bits, int min_exponent>
__m512i field_bits(__m512 sum) {
    constexpr int bias = (127 + min_exponent + 23 - mantissa_bits) << mantissa_bits;
    const __m512i bits = _mm512_castps_si512(sum);
    const __m512i binade = _mm512_srli_epi32(bits, 23 - mantissa_bits);
    return _mm512_add_epi32(_mm512_sub_epi32(binade, constant(bias)), bits);
}

// The largest magnitude of each of 16 blocks, as a float.
__m512 block_maxima(const uint16_t * weights) {
    alignas(32) uint16_t maxima[group];
    for (int i = 0; i < group; i++) {
        const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights + i * block_size));
        const __m256i magnitudes = _mm256_and_si256(block, _mm256_set1_epi16(0x7fff));
        const __m128i half = _mm_max_epu16(_mm256_castsi256_si128(magnitudes), _mm256_extracti128_si256(magnitudes, 1));
        const __m128i least = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1)));
        maxima[i] = uint16_t(~_mm_cvtsi128_si32(least));
    }
    const __m256i packed = _mm256_load_si256(reinterpret_cast<const __m256i *>(maxima));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
}

// Writes the E4M3 bytes of 16 blocks; returns what the elements of each are divided by.
__m512 block_scales(__m512 maxima, __m512 global, uint8_t * scales) {
    const __m512 scale = round_to_bf16(_mm512_div_ps(maxima, _mm512_set1_ps(6.0f)));
    const __m512 product = _mm512_min_ps(_mm512_mul_ps(global, scale), _mm512_set1_ps(448.0f));
    const __m512 power = rounding_power<3, -6>(product);
    const __m512 sum = _mm512_add_ps(product, power);
    const __m512 rounded = _mm512_sub_ps(sum, power);
    const __mmask16 zero = _mm512_cmp_ps_mask(rounded, _mm512_setzero_ps(), _CMP_EQ_OQ);
    const __m512i bytes = _mm512_mask_mov_epi32(field_bits<3, -6>(sum), zero, constant(0x20));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(scales), _mm512_cvtepi32_epi8(bytes));
    return _mm512_div_ps(_mm512_mask_mov_ps(rounded, zero, _mm512_set1_ps(0.125f)), global);
}

// The 8 code bytes of one block.
__m128i block_codes(const uint16_t * weights, __m512 divisor) {
    const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights));
    const __m512 w = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(block), 16));
    const __m512 x = _mm512_div_ps(w, divisor);
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ); // not for -0
    const __m512 magnitude = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(6.0f));
    const __m512 sum = _mm512_add_ps(magnitude, rounding_power<1, 0>(magnitude));
    const __m512i unsigned_codes = _mm512_and_si512(field_bits<1, 0>(sum), constant(7));
    const __m512i codes = _mm512_mask_or_epi32(unsigned_codes, negative, unsigned_codes, constant(8));
    return _mm512_cvtepi64_epi8(_mm512_or_si512(codes, _mm512_srli_epi64(codes, 28))); // odd codes into high nibbles
}

void quantize_group(const uint16_t * weights, __m512 global, uint8_t * codes, uint8_t * scales) {
    alignas(64) float divisors[group];
    _mm512_store_ps(divisors, block_scales(block_maxima(weights), global, scales));
    for (int i = 0; i < group; i++)
        _mm_storel_epi64(reinterpret_cast<__m128i *>(codes + i * 8),
                         block_codes(weights + i * block_size, _mm512_set1_ps(divisors[i])));
}

} // namespace

uint16_t absolute_maximum_bf16(const uint16_t * weights, int64_t count) {
    const __m512i mask = _mm512_set1_epi16(0x7fff);
    __m512i largest[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                          _mm512_setzero_si512()};
    int64_t i = 0;
    for (; i + 128 <= count; i += 128)
        for (int j = 0; j < 4; j++)
            largest[j] = _mm512_max_epu16(largest[j], _mm512_and_si512(mask, _mm512_loadu_si512(weights + i + j * 32)));
    for (; i < count; i += 32) {
        const __mmask32 present = count - i >= 32 ? 0xffffffffu : (1u << (count - i)) - 1;
        const __m512i rest = _mm512_maskz_loadu_epi16(present, weights + i);
        largest[0] = _mm512_max_epu16(largest[0], _mm512_and_si512(mask, rest));
    }
    const __m512i all =
        _mm512_max_epu16(_mm512_max_epu16(largest[0], largest[1]), _mm512_max_epu16(largest[2], largest[3]));
    const __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    const __m128i quarter = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return uint16_t(~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(quarter, _mm_set1_epi16(-1)))));
}

void quantize_bf16(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes, uint8_t * scales) {
    const __m512 globals = _mm512_set1_ps(global);
    int64_t i = 0;
    for (; i + group <= blocks; i += group)
        quantize_group(weights + i * block_size, globals, codes + i * 8, scales + i);
    if (i == blocks) return;
    const auto rest = size_t(blocks - i);
    uint16_t rest_weights[group * block_size] = {};
    uint8_t rest_codes[group * 8], rest_scales[group];
    memcpy(rest_weights, weights + i * block_size, rest * block_size * sizeof *weights);
    quantize_group(rest_weights, globals, rest_codes, rest_scales);
    memcpy(codes + i * 8, rest_codes, rest * 8);
    memcpy(scales + i, rest_scales, rest);
}

void dequantize(const uint8_t * codes, const uint8_t * scales, int64_t blocks, float global, float * out) {
    const __m512 code_values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, //
                                              -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
    const __m512 globals = _mm512_set1_ps(global);
    for (int64_t i = 0; i < blocks; i++) {
        // Sixteen codes, sixteen elements: one division makes the table of the block's values.
        const __m512 scaled = _mm512_mul_ps(code_values, _mm512_set1_ps(e4m3_values.of[scales[i]]));
        const __m512 values = _mm512_div_ps(scaled, globals);
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes + i * 8));
        const __m512i pairs = _mm512_cvtepu8_epi64(bytes);
        const __m512i indices =
            _mm512_or_si512(pairs, _mm512_slli_epi64(pairs, 28)); // permutexvar reads 4 bits of each
        _mm512_storeu_ps(out + i * block_size, _mm512_permutexvar_ps(indices, values));
    }
}

} // namespace gnv::cpu::avx512
