// AVX2: eight blocks at a time.
#define GNV_PACK_VARIANT avx2
#define GNV_PACK_WIDTH   8
#include "codec/nvfp4_pack_loops.h"

#include <immintrin.h>

namespace gnv::nvfp4::avx2 {

namespace {

__m256i constant(int value) { return _mm256_set1_epi32(value); }

__m256i load(const uint16_t * weights) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights)); }

__m256 bf16_to_float(__m128i bits) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)); }

// The larger of neighbouring elements of `a` and of `b`, side by side: halves the elements of 128-bit lanes, in pieces
// of 64 and of 32 bits.
__m256i larger_halves(__m256i a, __m256i b) {
    return _mm256_max_epu16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

__m256i larger_quarters(__m256i a, __m256i b) {
    const __m256 even = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88);
    const __m256 odd = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xdd);
    return _mm256_max_epu16(_mm256_castps_si256(even), _mm256_castps_si256(odd));
}

// The largest magnitude of each of 8 blocks, as a float.
Floats block_maxima(const uint16_t * weights) {
    __m256i block[group];
    for (int i = 0; i < group; i++)
        block[i] = _mm256_and_si256(load(weights + i * block_size), _mm256_set1_epi16(0x7fff));
    const __m256i first = larger_quarters(larger_halves(block[0], block[1]), larger_halves(block[2], block[3]));
    const __m256i last = larger_quarters(larger_halves(block[4], block[5]), larger_halves(block[6], block[7]));
    const __m256i twos =
        _mm256_max_epu16(_mm256_permute2x128_si256(first, last, 0x20), _mm256_permute2x128_si256(first, last, 0x31));
    const __m256i maxima = _mm256_max_epu16(twos, _mm256_slli_epi32(twos, 16)); // in the upper halves
    return _mm256_castsi256_ps(_mm256_and_si256(maxima, constant(int(0xffff0000))));
}

void store_bytes(Ints values, uint8_t * out) {
    const auto all = __m256i(values);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(out), _mm_packus_epi16(words, words));
}

// The codes of 8 elements, one in each 32-bit lane.
__m256i element_codes(__m256 w, __m256 divisor) {
    const __m256 x = _mm256_div_ps(w, divisor);
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ); // not for -0
    const __m256 absolute = _mm256_and_ps(x, _mm256_castsi256_ps(constant(0x7fffffff)));
    const Floats magnitude = _mm256_min_ps(absolute, _mm256_set1_ps(6.0f));
    const Ints unsigned_codes = field_bits<1>(magnitude + rounder<1, 0>(magnitude)) & 7;
    return _mm256_or_si256(__m256i(unsigned_codes), _mm256_and_si256(_mm256_castps_si256(negative), constant(8)));
}

uint64_t block_codes(const uint16_t * weights, float block_divisor) {
    const __m256 divisor = _mm256_set1_ps(block_divisor);
    const __m256i block = load(weights);
    const __m256i first = element_codes(bf16_to_float(_mm256_castsi256_si128(block)), divisor);
    const __m256i last = element_codes(bf16_to_float(_mm256_extracti128_si256(block, 1)), divisor);
    // Lanes of 128 bits: code words [0-3 8-11 | 4-7 12-15], then byte pairs [01 23 89 AB | 45 67 CD EF].
    const __m256i words = _mm256_packs_epi32(first, last);
    const __m256i bytes = _mm256_madd_epi16(words, constant(1 | 16 << 16));
    const __m256i low_bytes = _mm256_shuffle_epi8(bytes, constant(0x0c080400));
    return uint64_t(_mm_cvtsi128_si64(
        _mm_unpacklo_epi16(_mm256_castsi256_si128(low_bytes), _mm256_extracti128_si256(low_bytes, 1))));
}

} // namespace

uint16_t absolute_maximum_bf16(const uint16_t * weights, int64_t count) {
    const __m256i mask = _mm256_set1_epi16(0x7fff);
    __m256i largest[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                          _mm256_setzero_si256()};
    int64_t i = 0;
    for (; i + 64 <= count; i += 64)
        for (int j = 0; j < 4; j++)
            largest[j] = _mm256_max_epu16(largest[j], _mm256_and_si256(mask, load(weights + i + j * 16)));
    if (i < count) {
        uint16_t rest[64] = {};
        memcpy(rest, weights + i, size_t(count - i) * sizeof *weights);
        for (int j = 0; j < 4; j++)
            largest[j] = _mm256_max_epu16(largest[j], _mm256_and_si256(mask, load(rest + j * 16)));
    }
    const __m256i all =
        _mm256_max_epu16(_mm256_max_epu16(largest[0], largest[1]), _mm256_max_epu16(largest[2], largest[3]));
    const __m128i half = _mm_max_epu16(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1))); // no instruction finds the largest
    return uint16_t(~_mm_cvtsi128_si32(least));
}

void dequantize(const uint8_t * codes, const uint8_t * scales, int64_t blocks, float global, float * out) {
    const __m256 code_values = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256 globals = _mm256_set1_ps(global);
    const __m256i sign_bit = constant(int(0x80000000));
    for (int64_t i = 0; i < blocks; i++) {
        // One division makes the table of the block's eight magnitudes.
        const __m256 scaled = _mm256_mul_ps(code_values, _mm256_set1_ps(e4m3_values.of[scales[i]]));
        const __m256 values = _mm256_div_ps(scaled, globals);
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes + i * 8));
        const __m128i nibbles = _mm_unpacklo_epi8(bytes, _mm_srli_epi16(bytes, 4)); // each code is in 4 low bits
        for (int half = 0; half < 2; half++) {
            const __m256i lanes = _mm256_cvtepu8_epi32(half == 0 ? nibbles : _mm_srli_si128(nibbles, 8));
            const __m256 magnitude = _mm256_permutevar8x32_ps(values, lanes); // reads 3 bits of each
            const __m256i sign = _mm256_and_si256(_mm256_slli_epi32(lanes, 28), sign_bit);
            _mm256_storeu_ps(out + i * block_size + half * 8, _mm256_xor_ps(magnitude, _mm256_castsi256_ps(sign)));
        }
    }
}

} // namespace gnv::nvfp4::avx2
