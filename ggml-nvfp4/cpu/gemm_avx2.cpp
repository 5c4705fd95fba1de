#include "cpu/gemm_kernels.h"

#include "codec/nvfp4_variants.h"
#include "cpu/gemm_loops.h"

#include <immintrin.h>

namespace gnv::cpu {

namespace {

constexpr int panel_rows = 6, panel_columns = 16; // 12 accumulators, 2 vectors of the weight, 1 of `a`
constexpr int lanes = 8;

// Element j of vector i becomes element i of vector j.
inline void transpose(__m256i (&rows)[8]) {
    __m256i quads[8]; // [4 * group + j]: columns j and 4 + j of rows 4 * group .. + 3
#pragma GCC unroll 16
    for (int group = 0; group < 8; group += 4) {
        const __m256i low01 = _mm256_unpacklo_epi32(rows[group], rows[group + 1]);
        const __m256i high01 = _mm256_unpackhi_epi32(rows[group], rows[group + 1]);
        const __m256i low23 = _mm256_unpacklo_epi32(rows[group + 2], rows[group + 3]);
        const __m256i high23 = _mm256_unpackhi_epi32(rows[group + 2], rows[group + 3]);
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

inline __m256i load(const void * from) { return _mm256_loadu_si256(static_cast<const __m256i *>(from)); }

inline void store(float * to, __m256i value) { _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), value); }

// The first `bytes` <= 32 bytes of a vector, then zeros.
inline __m256i load_part(const void * from, int64_t bytes) {
    if (bytes == 32) return load(from);
    uint8_t padded[32] = {};
    memcpy(padded, from, size_t(bytes));
    return load(padded);
}

// `bytes` <= 32 of each of 8 rows as 8 vectors, transposed; rows from `count` on and bytes beyond are zeros.
inline void load_transposed(const uint8_t * first, int64_t stride_bytes, int count, int64_t bytes,
                            __m256i (&vectors)[8]) {
    if (count >= lanes && bytes == 32) {
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++) vectors[row] = load(first + row * stride_bytes);
    } else {
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++)
            vectors[row] = row < count ? load_part(first + row * stride_bytes, bytes) : _mm256_setzero_si256();
    }
    transpose(vectors);
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

void pack_bf16(const uint16_t * weight, int64_t stride, int rows, int64_t k, float * panel) {
    const __m256i high_half = _mm256_set1_epi32(int(0xffff0000));
    for (int64_t i = 0; i < k; i += 16) {
        const int64_t columns = smaller(16, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            float * out = panel + i * panel_columns + first;
            __m256i pairs[8]; // two columns in each lane
            load_transposed(reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 2, stride * 2,
                            rows - first, columns * 2, pairs);
            if (columns == 16) {
#pragma GCC unroll 16
                for (int j = 0; j < 8; j++, out += 2 * panel_columns) {
                    store(out, _mm256_slli_epi32(pairs[j], 16));
                    store(out + panel_columns, _mm256_and_si256(pairs[j], high_half));
                }
                continue;
            }
            for (int j = 0; j < columns; j++, out += panel_columns)
                store(out, j % 2 ? _mm256_and_si256(pairs[j / 2], high_half) : _mm256_slli_epi32(pairs[j / 2], 16));
        }
    }
}

void pack_f32(const float * weight, int64_t stride, int rows, int64_t k, float * panel) {
    for (int64_t i = 0; i < k; i += 8) {
        const int64_t columns = smaller(8, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            __m256i values[8];
            load_transposed(reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 4, stride * 4,
                            rows - first, columns * 4, values);
            for (int j = 0; j < columns; j++) store(panel + (i + j) * panel_columns + first, values[j]);
        }
    }
}

void pack_nvfp4(const Nvfp4Rows & weight, int rows, int64_t k, float * panel) {
    const __m256 magnitudes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256i sign_bit = _mm256_set1_epi32(int(0x80000000));
    for (int first = 0; first < panel_columns; first += lanes) {
        const int count = int(smaller(lanes, rows - first));
        float scales[gemm_depth / 16][lanes] = {}, divisors[lanes] = {1, 1, 1, 1, 1, 1, 1, 1};
        for (int row = 0; row < count; row++) {
            const uint8_t * bytes = weight.scales + (first + row) * weight.scale_stride;
            for (int64_t block = 0; block < k / 16; block++) scales[block][row] = nvfp4::e4m3_values.of[bytes[block]];
            divisors[row] = weight.divisors[first + row];
        }
        const __m256 divisor = _mm256_loadu_ps(divisors);
        for (int64_t i = 0; i < k; i += 64) {
            const int64_t columns = smaller(64, k - i);
            __m256i codes[8]; // eight columns in each lane
            load_transposed(weight.codes + first * weight.code_stride + i / 2, weight.code_stride, count, columns / 2,
                            codes);
            float * out = panel + i * panel_columns + first;
            for (int64_t block = 0; block < columns / 16; block++) {
                const __m256 scale = _mm256_div_ps(_mm256_loadu_ps(scales[i / 16 + block]), divisor);
                for (int half = 0; half < 2; half++) {
                    __m256i eight = codes[2 * block + half];
#pragma GCC unroll 16
                    for (int j = 0; j < 8; j++, out += panel_columns, eight = _mm256_srli_epi32(eight, 4)) {
                        const __m256i sign = _mm256_and_si256(_mm256_slli_epi32(eight, 28), sign_bit);
                        const __m256 magnitude = _mm256_permutevar8x32_ps(magnitudes, eight); // by three bits
                        _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_or_ps(magnitude, _mm256_castsi256_ps(sign)), scale));
                    }
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
    for (int64_t i = 0; i < k; i += 8) {
        const int64_t columns = smaller(8, k - i);
        __m256i values[8];
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++)
            values[row] = row < count ? load_part(rows[row] + i, columns * 4) : _mm256_setzero_si256();
        transpose(values);
        // Each store is as wide as a vector; the next one overwrites the excess.
        for (int j = 0; j < columns; j++) store(panel + (i + j) * count, values[j]);
    }
}

// `vectors` vectors of columns: those of one panel, or of several.
template <int rows, int vectors>
void multiply_vectors(const float * a, const float * b, int64_t panel_stride, int64_t k, bool first, float * c,
                      int64_t c_stride) {
    __m256 sum[rows][vectors];
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[row][v] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(c + row * c_stride + v * lanes);
    for (int64_t i = 0; i < k; i++, a += rows, b += panel_columns) {
        __m256 weight[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) weight[v] = _mm256_loadu_ps(b + v / 2 * panel_stride + v % 2 * lanes);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            const __m256 value = _mm256_set1_ps(a[row]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[row][v] = _mm256_fmadd_ps(value, weight[v], sum[row][v]);
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) _mm256_storeu_ps(c + row * c_stride + v * lanes, sum[row][v]);
}

void multiply(const float * a, int rows, const float * b, int64_t panel_stride, int64_t panels, int64_t k, bool first,
              float * c, int64_t c_stride) {
    static constexpr decltype(&multiply_vectors<1, 2>) one_panel[panel_rows] = {
        multiply_vectors<1, 2>, multiply_vectors<2, 2>, multiply_vectors<3, 2>,
        multiply_vectors<4, 2>, multiply_vectors<5, 2>, multiply_vectors<6, 2>};
    int64_t panel = 0;
    if (rows == 1) // one row makes too few chains to hide the latency of a multiply-add
        for (; panel + 4 <= panels; panel += 4)
            multiply_vectors<1, 8>(a, b + panel * panel_stride, panel_stride, k, first, c + panel * panel_columns,
                                   c_stride);
    for (; panel < panels; panel++)
        one_panel[rows - 1](a, b + panel * panel_stride, panel_stride, k, first, c + panel * panel_columns, c_stride);
}

} // namespace

const GemmKernels gemm_avx2 = {"avx2",     panel_rows, panel_columns,     pack_bf16, pack_f32,
                               pack_nvfp4, pack_rows,  quantize_row_loop, multiply,  finish_loop};

} // namespace gnv::cpu
