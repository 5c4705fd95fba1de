// AVX-512 (F, BW, DQ, VL): sixteen blocks at a time, so that the arithmetic on block scales fills whole registers.
#include "codec/nvfp4_variants.h"

#include <immintrin.h>
#include <string.h>

namespace gnv::nvfp4::avx512 {

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

// Rounding a magnitude x to a small format of `mantissa_bits` bits with subnormals below 2^min_exponent: in the sum
// x + rounder(x) the processor rounds where the small format does, because the sum's last bit is worth one step of the
// small format at x. So the sum's last bits count steps and its exponent tells the binade. The rounder's own last bits
// are set so that the two add up to the format's exponent and mantissa fields, modulo 256; they are even, so that ties
// go where they should.
template <int mantissa_bits, int min_exponent>
__m512 rounder(__m512 x) {
    constexpr int lift = 23 - mantissa_bits; // from the exponent of x to that of the sum
    constexpr int bias = (127 + min_exponent + lift) << mantissa_bits;
    const __m512i exponent = _mm512_and_si512(_mm512_castps_si512(x), constant(0x7f800000));
    const __m512i bounded = _mm512_max_epi32(exponent, constant((127 + min_exponent) << 23));
    return _mm512_castsi512_ps(_mm512_add_epi32(bounded, constant((lift << 23) + (-bias & 255))));
}

template <int mantissa_bits>
__m512i field_bits(__m512 sum) {
    const __m512i bits = _mm512_castps_si512(sum);
    return _mm512_add_epi32(bits, _mm512_srli_epi32(bits, 23 - mantissa_bits));
}

// The larger of neighbouring elements of `a` and of `b`, side by side: halves the elements of 128-bit lanes, in pieces
// of 64 and of 32 bits.
__m512i larger_halves(__m512i a, __m512i b) {
    return _mm512_max_epu16(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

__m512i larger_quarters(__m512i a, __m512i b) {
    const __m512 even = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
    const __m512 odd = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd);
    return _mm512_max_epu16(_mm512_castps_si512(even), _mm512_castps_si512(odd));
}

// The largest magnitude of each of 16 blocks, as a float.
__m512 block_maxima(const uint16_t * weights) {
    __m512i pairs[8]; // two blocks each
    for (int i = 0; i < 8; i++)
        pairs[i] = _mm512_and_si512(_mm512_loadu_si512(weights + i * 2 * block_size), _mm512_set1_epi16(0x7fff));
    const __m512i first = larger_quarters(larger_halves(pairs[0], pairs[1]), larger_halves(pairs[2], pairs[3]));
    const __m512i last = larger_quarters(larger_halves(pairs[4], pairs[5]), larger_halves(pairs[6], pairs[7]));
    const __m512i twos =
        _mm512_max_epu16(_mm512_shuffle_i32x4(first, last, 0x88), _mm512_shuffle_i32x4(first, last, 0xdd));
    const __m512i maxima = _mm512_max_epu16(twos, _mm512_slli_epi32(twos, 16)); // in the upper halves
    const __m512i floats = _mm512_and_si512(maxima, constant(int(0xffff0000)));
    // Lanes hold the blocks 0 2 4 6 | 1 3 5 7 | 8 10 12 14 | 9 11 13 15.
    const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi32(order, floats));
}

// Writes the E4M3 bytes of 16 blocks; returns what the elements of each are divided by.
__m512 block_scales(__m512 maxima, __m512 global, uint8_t * scales) {
    const __m512 scale = round_to_bf16(_mm512_div_ps(maxima, _mm512_set1_ps(6.0f)));
    const __m512 product = _mm512_min_ps(_mm512_mul_ps(global, scale), _mm512_set1_ps(448.0f));
    const __m512 offset = rounder<3, -6>(product);
    const __m512 sum = _mm512_add_ps(product, offset);
    const __m512 rounded = _mm512_sub_ps(sum, offset);
    const __mmask16 zero = _mm512_cmp_ps_mask(rounded, _mm512_setzero_ps(), _CMP_EQ_OQ);
    const __m512i bytes = _mm512_mask_mov_epi32(field_bits<3>(sum), zero, constant(0x20));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(scales), _mm512_cvtepi32_epi8(bytes));
    return _mm512_div_ps(_mm512_mask_mov_ps(rounded, zero, _mm512_set1_ps(0.125f)), global);
}

// The 8 code bytes of one block.
__m128i block_codes(const uint16_t * weights, __m512 divisor) {
    const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights));
    const __m512 w = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(block), 16));
    const __m512 x = _mm512_div_ps(w, divisor);
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ); // not for -0
    constexpr int smaller_magnitude = 0b1010;
    const __m512 magnitude = _mm512_range_ps(x, _mm512_set1_ps(6.0f), smaller_magnitude);
    const __m512i unsigned_codes = field_bits<1>(_mm512_add_ps(magnitude, rounder<1, 0>(magnitude)));
    const __m512i codes = _mm512_mask_or_epi32(unsigned_codes, negative, unsigned_codes, constant(8));
    // Low nibble from the even lane, high nibble from the odd one; what lies above them is cut off.
    constexpr int first_where_third = 0xe4;
    const __m512i odd = _mm512_srli_epi64(codes, 28);
    return _mm512_cvtepi64_epi8(_mm512_ternarylogic_epi64(codes, odd, _mm512_set1_epi64(15), first_where_third));
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

} // namespace gnv::nvfp4::avx512
