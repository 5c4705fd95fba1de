// Vectors of AVX-512, as cpu/gemm_vectors.h wants them. Only for files of cpu/gemm_avx512*.cpp.
#pragma once

#include <cstdint>
#include <immintrin.h>

namespace gnv::cpu {

namespace {

constexpr int panel_columns = 32;
constexpr int lanes = 16;

using Words = __m512i;
using Floats = __m512;

inline Words zero() { return _mm512_setzero_si512(); }
inline Words load(const void * from) { return _mm512_loadu_si512(from); }
inline __mmask64 part_of(int64_t bytes) { return bytes >= 64 ? ~uint64_t(0) : (uint64_t(1) << bytes) - 1; }
inline Words load_part(const void * from, __mmask64 part) { return _mm512_maskz_loadu_epi8(part, from); }
inline void store(float * to, Words value) { _mm512_storeu_si512(to, value); }
inline Words shift_left(Words pairs) { return _mm512_slli_epi32(pairs, 16); }
inline Words high_halves(Words pairs) { return _mm512_and_si512(pairs, _mm512_set1_epi32(int(0xffff0000))); }
inline Floats load_floats(const float * from) { return _mm512_loadu_ps(from); }
inline void store_floats(float * to, Floats value) { _mm512_storeu_ps(to, value); }
inline Floats broadcast(float value) { return _mm512_set1_ps(value); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline void expect_store(const float * to) { _mm_prefetch(to, _MM_HINT_T0); }
inline Words next_codes(Words codes) { return _mm512_srli_epi32(codes, 4); }
inline Floats nvfp4_values(Words codes, Floats scale) {
    const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f,
                                         -2.0f, -3.0f, -4.0f, -6.0f);
    return _mm512_mul_ps(_mm512_permutexvar_ps(codes, values), scale);
}
inline void transpose(Words (&rows)[16]) {
    Words quads[16]; // [4 * group + j]: columns j, 4 + j, 8 + j, 12 + j of rows 4 * group .. + 3
#pragma GCC unroll 16
    for (int group = 0; group < 16; group += 4) {
        const Words low01 = _mm512_unpacklo_epi32(rows[group], rows[group + 1]);
        const Words high01 = _mm512_unpackhi_epi32(rows[group], rows[group + 1]);
        const Words low23 = _mm512_unpacklo_epi32(rows[group + 2], rows[group + 3]);
        const Words high23 = _mm512_unpackhi_epi32(rows[group + 2], rows[group + 3]);
        quads[group] = _mm512_unpacklo_epi64(low01, low23);
        quads[group + 1] = _mm512_unpackhi_epi64(low01, low23);
        quads[group + 2] = _mm512_unpacklo_epi64(high01, high23);
        quads[group + 3] = _mm512_unpackhi_epi64(high01, high23);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        const Words even_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x88);
        const Words odd_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xdd);
        const Words even_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x88);
        const Words odd_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xdd);
        rows[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        rows[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        rows[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        rows[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

} // namespace

} // namespace gnv::cpu
