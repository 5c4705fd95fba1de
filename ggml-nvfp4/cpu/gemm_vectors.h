// The parts that the vector variants of cpu/gemm_kernels.h share. Each variant first defines, in an unnamed namespace
// of gnv::cpu:
//   panel_rows, panel_columns, lanes (elements of a vector)
//   Words, Floats                      a vector of 32-bit words, of floats
//   zero, load, load_part, store       for Words; load_part: the first bytes of a vector, as part_of() selects them, then zeros
//   transpose                          element j of vector i becomes element i of vector j, lanes x lanes
//   shift_left, high_halves            of each word: its low 16 bits moved up, its high 16 bits alone
//   load_floats, store_floats, broadcast, fused (a * b + c)
//   nvfp4_values, next_codes           values of the codes in the low 4 bits of each word, times a scale; shifts to the next codes
//   expect_store                       a hint that the vector at an address is written soon
#pragma once

#include "codec/nvfp4_variants.h"
#include "cpu/gemm_kernels.h"
#include "cpu/load_transposed.h"

#include <cstdint>
#include <cstring>

namespace gnv::cpu {

namespace {

void pack_bf16(const uint16_t * weight, int64_t stride, int rows, int64_t k, float * panel) {
    for (int64_t i = 0; i < k; i += 2 * lanes) {
        const int64_t columns = smaller(2 * lanes, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            float * out = panel + i * panel_columns + first;
            Words pairs[lanes]; // two columns in each lane
            load_transposed(reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 2, stride * 2,
                            rows - first, columns * 2, pairs);
            if (columns == 2 * lanes) {
#pragma GCC unroll 16
                for (int j = 0; j < lanes; j++, out += 2 * panel_columns) {
                    store(out, shift_left(pairs[j]));
                    store(out + panel_columns, high_halves(pairs[j]));
                }
                continue;
            }
            for (int j = 0; j < columns; j++, out += panel_columns)
                store(out, j % 2 ? high_halves(pairs[j / 2]) : shift_left(pairs[j / 2]));
        }
    }
}

void pack_f32(const float * weight, int64_t stride, int rows, int64_t k, float * panel) {
    for (int64_t i = 0; i < k; i += lanes) {
        const int64_t columns = smaller(lanes, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            Words values[lanes];
            load_transposed(reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 4, stride * 4,
                            rows - first, columns * 4, values);
            for (int j = 0; j < columns; j++) store(panel + (i + j) * panel_columns + first, values[j]);
        }
    }
}

void pack_nvfp4(const Nvfp4Rows & weight, int rows, int64_t k, float * panel) {
    for (int first = 0; first < panel_columns; first += lanes) {
        const int count = int(smaller(lanes, rows - first));
        float scales[gemm_depth / 16][lanes] = {};
        for (int row = 0; row < count; row++) {
            const uint8_t * bytes = weight.scales + (first + row) * weight.scale_stride;
            for (int64_t block = 0; block < k / 16; block++) scales[block][row] = nvfp4::e4m3_values.of[bytes[block]];
        }
        for (int64_t i = 0; i < k; i += 8 * lanes) {
            const int64_t columns = smaller(8 * lanes, k - i);
            Words codes[lanes]; // eight columns in each lane
            load_transposed(weight.codes + first * weight.code_stride + i / 2, weight.code_stride, count, columns / 2,
                            codes);
            float * out = panel + i * panel_columns + first;
            for (int64_t block = 0; block < columns / 16; block++) {
                const Floats scale = load_floats(scales[i / 16 + block]);
                for (int half = 0; half < 2; half++) {
                    Words eight = codes[2 * block + half];
#pragma GCC unroll 16
                    for (int j = 0; j < 8; j++, out += panel_columns, eight = next_codes(eight))
                        store_floats(out, nvfp4_values(eight, scale));
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
    for (int64_t i = 0; i < k; i += lanes) {
        const int64_t columns = smaller(lanes, k - i);
        const auto part = part_of(columns * 4);
        Words values[lanes];
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++) values[row] = row < count ? load_part(rows[row] + i, part) : zero();
        transpose(values);
        // Each store is as wide as a vector; the next one overwrites the excess.
        for (int j = 0; j < columns; j++) store(panel + (i + j) * count, values[j]);
    }
}

template <int times>
struct Times {
    static constexpr int value = times;
};

// `vectors` vectors of columns: those of one panel, or of several.
template <int rows, int vectors>
void multiply_vectors(const float * a, int64_t a_stride, const float * b, int64_t panel_stride, int64_t k, bool first,
                      float * c, int64_t c_stride) {
    Floats sum[rows][vectors];
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[row][v] = first ? broadcast(0.0f) : load_floats(c + row * c_stride + v * lanes);
            // The next call most likely continues below these rows.
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) expect_store(c + (rows + row) * c_stride + v * lanes);
    for (int64_t i = 0; i < k; i++, a += a_stride, b += panel_columns) {
        Floats weight[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) weight[v] = load_floats(b + v / 2 * panel_stride + v % 2 * lanes);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            const Floats value = broadcast(a[row]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[row][v] = fused(value, weight[v], sum[row][v]);
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) store_floats(c + row * c_stride + v * lanes, sum[row][v]);
}

using Multiply = decltype(&multiply_vectors<1, 2>);

// One panel, with rows of `a` apart. Two steps of k at a time: rows that have no register of their own are looked up half as often.
template <int rows>
void multiply_apart(const float * const * a, const float * b, int64_t k, bool first, float * c, int64_t c_stride) {
    constexpr int vectors = 2, steps = rows <= 6 ? 1 : 2;
    Floats sum[rows][vectors];
    const float * from[rows];
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
        from[row] = a[row];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[row][v] = first ? broadcast(0.0f) : load_floats(c + row * c_stride + v * lanes);
    }
    const auto step = [&](int64_t i, auto count) {
        constexpr int times = decltype(count)::value;
        Floats weight[times][vectors];
#pragma GCC unroll 2
        for (int s = 0; s < times; s++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) weight[s][v] = load_floats(b + (i + s) * panel_columns + v * lanes);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
            for (int s = 0; s < times; s++) {
                const Floats value = broadcast(from[row][i + s]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) sum[row][v] = fused(value, weight[s][v], sum[row][v]);
            }
    };
    int64_t i = 0;
    for (; i + steps <= k; i += steps) step(i, Times<steps>());
    for (; i < k; i++) step(i, Times<1>());
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store_floats(c + row * c_stride + v * lanes, sum[row][v]);
}

using MultiplyApart = decltype(&multiply_apart<1>);

} // namespace

} // namespace gnv::cpu
