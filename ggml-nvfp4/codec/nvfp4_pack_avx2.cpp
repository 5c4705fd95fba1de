// AVX2: eight blocks at a time, so that the arithmetic on block scales fills whole registers.
#include "codec/nvfp4_variants.h"

#include <immintrin.h>
#include <string.h>

namespace gnv::nvfp4::avx2 {

namespace {

constexpr int group = 8; // blocks handled together
constexpr int block_size = 16;

__m256i constant(int value) { return _mm256_set1_epi32(value); }

__m256i load(const uint16_t * weights) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights)); }

__m256 bf16_to_float(__m128i bits) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)); }

// The nearest BF16 number, ties to even, as a float.
__m256 round_to_bf16(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), constant(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, constant(0x7fff)));
    return _mm256_castsi256_ps(_mm256_and_si256(rounded, constant(int(0xffff0000))));
}

// Rounding a magnitude x to a small format of `mantissa_bits` bits with subnormals below 2^min_exponent: in the sum
// x + rounder(x) the processor rounds where the small format does, because the sum's last bit is worth one step of the
// small format at x. So the sum's last bits count steps and its exponent tells the binade. The rounder's own last bits
// are set so that the two add up to the format's exponent and mantissa fields, modulo 256; they are even, so that ties
// go where they should.
template <int mantissa_bits, int min_exponent>
__m256 rounder(__m256 x) {
    constexpr int lift = 23 - mantissa_bits; // from the exponent of x to that of the sum
    constexpr int bias = (127 + min_exponent + lift) << mantissa_bits;
    const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(x), constant(0x7f800000));
    const __m256i bounded = _mm256_max_epi32(exponent, constant((127 + min_exponent) << 23));
    return _mm256_castsi256_ps(_mm256_add_epi32(bounded, constant((lift << 23) + (-bias & 255))));
}

template <int mantissa_bits>
__m256i field_bits(__m256 sum) {
    const __m256i bits = _mm256_castps_si256(sum);
    return _mm256_add_epi32(bits, _mm256_srli_epi32(bits, 23 - mantissa_bits));
}

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
__m256 block_maxima(const uint16_t * weights) {
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

// Writes the E4M3 bytes of 8 blocks; returns what the elements of each are divided by.
__m256 block_scales(__m256 maxima, __m256 global, uint8_t * scales) {
    const __m256 scale = round_to_bf16(_mm256_div_ps(maxima, _mm256_set1_ps(6.0f)));
    const __m256 product = _mm256_min_ps(_mm256_mul_ps(global, scale), _mm256_set1_ps(448.0f));
    const __m256 offset = rounder<3, -6>(product);
    const __m256 sum = _mm256_add_ps(product, offset);
    const __m256 rounded = _mm256_sub_ps(sum, offset);
    const __m256 zero = _mm256_cmp_ps(rounded, _mm256_setzero_ps(), _CMP_EQ_OQ);
    const __m256i fields = _mm256_and_si256(field_bits<3>(sum), constant(0x7f));
    const __m256i bytes = _mm256_blendv_epi8(fields, constant(0x20), _mm256_castps_si256(zero));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(scales), _mm_packus_epi16(words, words));
    return _mm256_div_ps(_mm256_blendv_ps(rounded, _mm256_set1_ps(0.125f), zero), global);
}

// The codes of 8 elements, one in each 32-bit lane.
__m256i element_codes(__m256 w, __m256 divisor) {
    const __m256 x = _mm256_div_ps(w, divisor);
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ); // not for -0
    const __m256 absolute = _mm256_and_ps(x, _mm256_castsi256_ps(constant(0x7fffffff)));
    const __m256 magnitude = _mm256_min_ps(absolute, _mm256_set1_ps(6.0f));
    const __m256i fields = field_bits<1>(_mm256_add_ps(magnitude, rounder<1, 0>(magnitude)));
    const __m256i unsigned_codes = _mm256_and_si256(fields, constant(7));
    return _mm256_or_si256(unsigned_codes, _mm256_and_si256(_mm256_castps_si256(negative), constant(8)));
}

// The 8 code bytes of one block.
__m128i block_codes(const uint16_t * weights, __m256 divisor) {
    const __m256i block = load(weights);
    const __m256i first = element_codes(bf16_to_float(_mm256_castsi256_si128(block)), divisor);
    const __m256i last = element_codes(bf16_to_float(_mm256_extracti128_si256(block, 1)), divisor);
    // Lanes of 128 bits: code words [0-3 8-11 | 4-7 12-15], then byte pairs [01 23 89 AB | 45 67 CD EF].
    const __m256i words = _mm256_packs_epi32(first, last);
    const __m256i bytes = _mm256_madd_epi16(words, constant(1 | 16 << 16));
    const __m256i low_bytes = _mm256_shuffle_epi8(bytes, constant(0x0c080400));
    return _mm_unpacklo_epi16(_mm256_castsi256_si128(low_bytes), _mm256_extracti128_si256(low_bytes, 1));
}

void quantize_group(const uint16_t * weights, __m256 global, uint8_t * codes, uint8_t * scales) {
    alignas(32) float divisors[group];
    _mm256_store_ps(divisors, block_scales(block_maxima(weights), global, scales));
    for (int i = 0; i < group; i++)
        _mm_storel_epi64(reinterpret_cast<__m128i *>(codes + i * 8),
                         block_codes(weights + i * block_size, _mm256_set1_ps(divisors[i])));
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
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1))); // there is none for the largest
    return uint16_t(~_mm_cvtsi128_si32(least));
}

void quantize_bf16(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes, uint8_t * scales) {
    const __m256 globals = _mm256_set1_ps(global);
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
