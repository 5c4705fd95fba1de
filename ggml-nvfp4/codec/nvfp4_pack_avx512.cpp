// AVX-512 (F, BW, DQ, VL): sixteen blocks at a time.
#define GNV_PACK_VARIANT avx512
#define GNV_PACK_WIDTH   16
#include "codec/nvfp4_pack_loops.h"

#include <immintrin.h>

namespace gnv::nvfp4::avx512 {

namespace {

__m512i constant(int value) { return _mm512_set1_epi32(value); }

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
Floats block_maxima(const uint16_t * weights) {
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

void store_bytes(Ints values, uint8_t * out) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(out), _mm512_cvtepi32_epi8(__m512i(values)));
}

uint64_t block_codes(const uint16_t * weights, float divisor) {
    const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights));
    const __m512 w = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(block), 16));
    const __m512 x = _mm512_div_ps(w, _mm512_set1_ps(divisor));
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ); // not for -0
    constexpr int smaller_magnitude = 0b1010;
    const Floats magnitude = _mm512_range_ps(x, _mm512_set1_ps(6.0f), smaller_magnitude);
    const auto unsigned_codes = __m512i(field_bits<1>(magnitude + rounder<1, 0>(magnitude)));
    const __m512i codes = _mm512_mask_or_epi32(unsigned_codes, negative, unsigned_codes, constant(8));
    // Low nibble from the even lane, high nibble from the odd one; the bits above are cut off.
    constexpr int first_where_third = 0xe4;
    const __m512i odd = _mm512_srli_epi64(codes, 28);
    const __m512i pairs = _mm512_ternarylogic_epi64(codes, odd, _mm512_set1_epi64(15), first_where_third);
    return uint64_t(_mm_cvtsi128_si64(_mm512_cvtepi64_epi8(pairs)));
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
