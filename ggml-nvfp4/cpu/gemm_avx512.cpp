#include "cpu/gemm_kernels.h"

#include "codec/nvfp4_variants.h"
#include "cpu/gemm_loops.h"

#include <immintrin.h>

namespace gnv::cpu {

namespace {

constexpr int panel_rows = 14, panel_columns = 32; // 28 accumulators, 2 vectors of the weight, 1 of `a`
constexpr int lanes = 16;

// Element j of vector i becomes element i of vector j.
inline void transpose(__m512i (&rows)[16]) {
    __m512i quads[16]; // [4 * group + j]: columns j, 4 + j, 8 + j, 12 + j of rows 4 * group .. + 3
#pragma GCC unroll 16
    for (int group = 0; group < 16; group += 4) {
        const __m512i low01 = _mm512_unpacklo_epi32(rows[group], rows[group + 1]);
        const __m512i high01 = _mm512_unpackhi_epi32(rows[group], rows[group + 1]);
        const __m512i low23 = _mm512_unpacklo_epi32(rows[group + 2], rows[group + 3]);
        const __m512i high23 = _mm512_unpackhi_epi32(rows[group + 2], rows[group + 3]);
        quads[group] = _mm512_unpacklo_epi64(low01, low23);
        quads[group + 1] = _mm512_unpackhi_epi64(low01, low23);
        quads[group + 2] = _mm512_unpacklo_epi64(high01, high23);
        quads[group + 3] = _mm512_unpackhi_epi64(high01, high23);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        const __m512i even_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x88);
        const __m512i odd_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xdd);
        const __m512i even_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x88);
        const __m512i odd_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xdd);
        rows[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        rows[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        rows[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        rows[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

// `bytes` <= 64 of each of 16 rows as 16 vectors, transposed; rows from `count` on and bytes beyond are zeros.
inline void load_transposed(const uint8_t * first, int64_t stride_bytes, int count, int64_t bytes,
                            __m512i (&vectors)[16]) {
    if (count >= lanes && bytes == 64) {
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++) vectors[row] = _mm512_loadu_si512(first + row * stride_bytes);
    } else {
        const __mmask64 mask = bytes >= 64 ? ~uint64_t(0) : (uint64_t(1) << bytes) - 1;
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++)
            vectors[row] =
                row < count ? _mm512_maskz_loadu_epi8(mask, first + row * stride_bytes) : _mm512_setzero_si512();
    }
    transpose(vectors);
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

void pack_bf16(const uint16_t * weight, int64_t stride, int rows, int64_t k, float * panel) {
    const __m512i high_half = _mm512_set1_epi32(int(0xffff0000));
    for (int64_t i = 0; i < k; i += 32) {
        const int64_t columns = smaller(32, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            float * out = panel + i * panel_columns + first;
            __m512i pairs[16]; // two columns in each lane
            load_transposed(reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 2, stride * 2,
                            rows - first, columns * 2, pairs);
            if (columns == 32) {
#pragma GCC unroll 16
                for (int j = 0; j < 16; j++, out += 2 * panel_columns) {
                    _mm512_storeu_si512(out, _mm512_slli_epi32(pairs[j], 16));
                    _mm512_storeu_si512(out + panel_columns, _mm512_and_si512(pairs[j], high_half));
                }
                continue;
            }
            for (int j = 0; j < columns; j++, out += panel_columns)
                _mm512_storeu_si512(out, j % 2 ? _mm512_and_si512(pairs[j / 2], high_half)
                                               : _mm512_slli_epi32(pairs[j / 2], 16));
        }
    }
}

void pack_f32(const float * weight, int64_t stride, int rows, int64_t k, float * panel) {
    for (int64_t i = 0; i < k; i += 16) {
        const int64_t columns = smaller(16, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            __m512i values[16];
            load_transposed(reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 4, stride * 4,
                            rows - first, columns * 4, values);
            for (int j = 0; j < columns; j++) _mm512_storeu_si512(panel + (i + j) * panel_columns + first, values[j]);
        }
    }
}

void pack_nvfp4(const Nvfp4Rows & weight, int rows, int64_t k, float * panel) {
    const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f,
                                         -2.0f, -3.0f, -4.0f, -6.0f);
    for (int first = 0; first < panel_columns; first += lanes) {
        const int count = int(smaller(lanes, rows - first));
        float scales[gemm_depth / 16][lanes] = {};
        for (int row = 0; row < count; row++) {
            const uint8_t * bytes = weight.scales + (first + row) * weight.scale_stride;
            for (int64_t block = 0; block < k / 16; block++) scales[block][row] = nvfp4::e4m3_values.of[bytes[block]];
        }
        __m512 divisor = _mm512_set1_ps(1.0f);
        if (count > 0) divisor = _mm512_mask_loadu_ps(divisor, __mmask16((1u << count) - 1), weight.divisors + first);
        for (int64_t i = 0; i < k; i += 128) {
            const int64_t columns = smaller(128, k - i);
            __m512i codes[16]; // eight columns in each lane
            load_transposed(weight.codes + first * weight.code_stride + i / 2, weight.code_stride, count, columns / 2,
                            codes);
            float * out = panel + i * panel_columns + first;
            for (int64_t block = 0; block < columns / 16; block++) {
                const __m512 scale = _mm512_div_ps(_mm512_loadu_ps(scales[i / 16 + block]), divisor);
                for (int half = 0; half < 2; half++) {
                    __m512i eight = codes[2 * block + half];
#pragma GCC unroll 16
                    for (int j = 0; j < 8; j++, out += panel_columns, eight = _mm512_srli_epi32(eight, 4))
                        _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_permutexvar_ps(eight, values), scale));
                }
            }
        }
    }
}

void pack_rows(const float * const * rows, int count, int64_t k, float * panel) {
    if (count == 1) {
        memcpy(panel, rows[0], size_t(k) * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < k; i += 16) {
        const int64_t columns = smaller(16, k - i);
        const auto mask = __mmask16((1u << columns) - 1);
        __m512i values[16];
#pragma GCC unroll 16
        for (int row = 0; row < 16; row++)
            values[row] = row < count ? _mm512_maskz_loadu_epi32(mask, rows[row] + i) : _mm512_setzero_si512();
        transpose(values);
        // Each store is as wide as a vector; the next one overwrites the excess.
        for (int j = 0; j < columns; j++) _mm512_storeu_si512(panel + (i + j) * count, values[j]);
    }
}

// `vectors` vectors of columns: those of one panel, or of several.
template <int rows, int vectors>
void multiply_vectors(const float * a, const float * b, int64_t panel_stride, int64_t k, bool first, float * c,
                      int64_t c_stride) {
    __m512 sum[rows][vectors];
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[row][v] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + row * c_stride + v * lanes);
            // The next call most likely continues below these rows.
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) _mm_prefetch(c + (rows + row) * c_stride + v * lanes, _MM_HINT_T0);
    for (int64_t i = 0; i < k; i++, a += rows, b += panel_columns) {
        __m512 weight[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) weight[v] = _mm512_loadu_ps(b + v / 2 * panel_stride + v % 2 * lanes);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            const __m512 value = _mm512_set1_ps(a[row]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[row][v] = _mm512_fmadd_ps(value, weight[v], sum[row][v]);
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(c + row * c_stride + v * lanes, sum[row][v]);
}

using Multiply = decltype(&multiply_vectors<1, 2>);

void multiply(const float * a, int rows, const float * b, int64_t panel_stride, int64_t panels, int64_t k, bool first,
              float * c, int64_t c_stride) {
    static constexpr Multiply one_panel[panel_rows] = {
        multiply_vectors<1, 2>,  multiply_vectors<2, 2>,  multiply_vectors<3, 2>,  multiply_vectors<4, 2>,
        multiply_vectors<5, 2>,  multiply_vectors<6, 2>,  multiply_vectors<7, 2>,  multiply_vectors<8, 2>,
        multiply_vectors<9, 2>,  multiply_vectors<10, 2>, multiply_vectors<11, 2>, multiply_vectors<12, 2>,
        multiply_vectors<13, 2>, multiply_vectors<14, 2>};
    // Few rows make few chains: too few to hide the latency of a multiply-add.
    static constexpr Multiply two_panels[] = {multiply_vectors<1, 4>, multiply_vectors<2, 4>};
    int64_t panel = 0;
    if (rows <= 2)
        for (; panel + 2 <= panels; panel += 2)
            two_panels[rows - 1](a, b + panel * panel_stride, panel_stride, k, first, c + panel * panel_columns,
                                 c_stride);
    for (; panel < panels; panel++)
        one_panel[rows - 1](a, b + panel * panel_stride, panel_stride, k, first, c + panel * panel_columns, c_stride);
}

} // namespace

const GemmKernels gemm_avx512 = {"avx512",   panel_rows, panel_columns,     pack_bf16, pack_f32,
                                 pack_nvfp4, pack_rows,  quantize_row_loop, multiply,  finish_loop};

} // namespace gnv::cpu
