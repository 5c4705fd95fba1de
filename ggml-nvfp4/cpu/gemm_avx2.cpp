#include <cstdint>
#include <cstring>
#include <immintrin.h>

namespace gnv::cpu {

namespace {

constexpr int panel_rows = 6, panel_columns = 16; // 12 accumulators, 2 vectors of the weight, 1 of a
constexpr int direct_rows = 6;
constexpr int lanes = 8;

using Words = __m256i;
using Floats = __m256;

inline Words zero() { return _mm256_setzero_si256(); }
inline Words load(const void * from) { return _mm256_loadu_si256(static_cast<const __m256i *>(from)); }
inline int64_t part_of(int64_t bytes) { return bytes; }
inline Words load_part(const void * from, int64_t bytes) {
    if (bytes == 32) return load(from);
    uint8_t padded[32] = {};
    memcpy(padded, from, size_t(bytes));
    return load(padded);
}
inline void store(float * to, Words value) { _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), value); }
inline Words shift_left(Words pairs) { return _mm256_slli_epi32(pairs, 16); }
inline Words high_halves(Words pairs) { return _mm256_and_si256(pairs, _mm256_set1_epi32(int(0xffff0000))); }
inline Floats load_floats(const float * from) { return _mm256_loadu_ps(from); }
inline void store_floats(float * to, Floats value) { _mm256_storeu_ps(to, value); }
inline Floats broadcast(float value) { return _mm256_set1_ps(value); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline void expect_store(const float *) {}
inline Words next_codes(Words codes) { return _mm256_srli_epi32(codes, 4); }
inline Floats nvfp4_values(Words codes, Floats scale) {
    const __m256 magnitudes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256i sign = _mm256_and_si256(_mm256_slli_epi32(codes, 28), _mm256_set1_epi32(int(0x80000000)));
    const __m256 magnitude = _mm256_permutevar8x32_ps(magnitudes, codes); // reads 3 bits of each
    return _mm256_mul_ps(_mm256_or_ps(magnitude, _mm256_castsi256_ps(sign)), scale);
}
inline void transpose(Words (&rows)[8]) {
    Words quads[8]; // [4 * group + j]: columns j and 4 + j of rows 4 * group .. + 3
#pragma GCC unroll 16
    for (int group = 0; group < 8; group += 4) {
        const Words low01 = _mm256_unpacklo_epi32(rows[group], rows[group + 1]);
        const Words high01 = _mm256_unpackhi_epi32(rows[group], rows[group + 1]);
        const Words low23 = _mm256_unpacklo_epi32(rows[group + 2], rows[group + 3]);
        const Words high23 = _mm256_unpackhi_epi32(rows[group + 2], rows[group + 3]);
        quads[group] = _mm256_unpacklo_epi64(low01, low23);
        quads[group + 1] = _mm256_unpackhi_epi64(low01, low23);
        quads[group + 2] = _mm256_unpacklo_epi64(high01, high23);
        quads[group + 3] = _mm256_unpackhi_epi64(high01, high23);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        rows[j] = _mm256_permute2x128_si256(quads[j], quads[4 + j], 0x20);
        rows[4 + j] = _mm256_permute2x128_si256(quads[j], quads[4 + j], 0x31);
    }
}

} // namespace

} // namespace gnv::cpu

#include "cpu/compact_bf16_loops.h"
#include "cpu/gemm_loops.h"
#include "cpu/gemm_vectors.h"

namespace gnv::cpu {

namespace {

void multiply(const float * a, int64_t a_stride, int rows, const float * b, int64_t panel_stride, int64_t panels,
              int64_t k, bool first, float * c, int64_t c_stride) {
    static constexpr Multiply one_panel[panel_rows] = {multiply_vectors<1, 2>, multiply_vectors<2, 2>,
                                                       multiply_vectors<3, 2>, multiply_vectors<4, 2>,
                                                       multiply_vectors<5, 2>, multiply_vectors<6, 2>};
    int64_t panel = 0;
    if (rows == 1) // one row makes too few chains to hide the latency of a multiply-add
        for (; panel + 4 <= panels; panel += 4)
            multiply_vectors<1, 8>(a, a_stride, b + panel * panel_stride, panel_stride, k, first,
                                   c + panel * panel_columns, c_stride);
    for (; panel < panels; panel++)
        one_panel[rows - 1](a, a_stride, b + panel * panel_stride, panel_stride, k, first, c + panel * panel_columns,
                            c_stride);
}

void multiply_direct(const float * const * a, int rows, const float * b, int64_t k, bool first, float * c,
                     int64_t c_stride) {
    static constexpr MultiplyApart by_rows[direct_rows] = {multiply_apart<1>, multiply_apart<2>, multiply_apart<3>,
                                                           multiply_apart<4>, multiply_apart<5>, multiply_apart<6>};
    by_rows[rows - 1](a, b, k, first, c, c_stride);
}

} // namespace

const GemmKernels gemm_avx2 = {"avx2",          panel_rows,  panel_columns,     pack_bf16, pack_f32,
                               pack_nvfp4,      pack_rows,   quantize_row_loop, multiply,  direct_rows,
                               multiply_direct, finish_loop, unpack_compact};

} // namespace gnv::cpu
