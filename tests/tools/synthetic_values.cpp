#include "tools/synthetic_values.h"

#include <algorithm>
#include <cstring>

namespace gnv::test {

static constexpr int table_bits = 12; // 8 KiB of BF16: stays in the first-level cache
static constexpr size_t table_size = size_t(1) << table_bits;

// Scrambles 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
static constexpr uint64_t counter_step = 0x9e3779b97f4a7c15u;

uint64_t value_key(uint64_t seed, std::string_view name) {
    uint64_t hash = mix(seed + counter_step);
    for (const char c : name) hash = mix(hash ^ static_cast<unsigned char>(c));
    return hash;
}

static uint16_t to_bf16(double value) {
    const auto single = float(value);
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Multiplies a normal BF16 number by 2^exponent.
static uint16_t scale_bf16(uint16_t bits, int exponent) {
    const int field = (bits >> 7 & 0xff) + exponent;
    return (bits & 0x7f80) == 0 || field <= 0 || field >= 255 ? bits : uint16_t((bits & 0x807f) | field << 7);
}

// The quantile w(p) of the normal distribution and its density f(w(p)) obey w' = 1/f and f' = -w: Runge-Kutta from the
// middle outwards needs nothing but arithmetic.
ValueMaker::ValueMaker() : normal_(table_size) {
    constexpr int steps = 16;
    const double h = 1.0 / double(2 * table_size * steps);
    double w = 0, f = 0.39894228040143267794; // 1 / sqrt(2 pi)
    const auto advance = [&] {
        for (int i = 0; i < steps; i++) {
            const double w1 = 1 / f, f1 = -w;
            const double w2 = 1 / (f + h / 2 * f1), f2 = -(w + h / 2 * w1);
            const double w3 = 1 / (f + h / 2 * f2), f3 = -(w + h / 2 * w2);
            const double w4 = 1 / (f + h * f3), f4 = -(w + h * w3);
            w += h / 6 * (w1 + 2 * w2 + 2 * w3 + w4);
            f += h / 6 * (f1 + 2 * f2 + 2 * f3 + f4);
        }
    };
    for (size_t i = 0; i < table_size / 2; i++) {
        advance(); // half a table step to the middle of the first cell, then whole ones
        if (i > 0) advance();
        normal_[table_size / 2 + i] = w;
        normal_[table_size / 2 - 1 - i] = -w;
    }
}

// Columns that stand out, the same for every row: one of each 256.
static std::vector<int64_t> outlier_columns(uint64_t key, int64_t columns) {
    std::vector<int64_t> out;
    for (int64_t first = 0; first < columns; first += 256) {
        const auto choice = uint64_t(std::min<int64_t>(columns - first, 256));
        out.push_back(first + int64_t(mix(~key + uint64_t(first) * counter_step) % choice));
    }
    return out;
}

static int row_exponent(uint64_t key, int64_t row) {
    const uint64_t draw = mix((key ^ counter_step) + uint64_t(row) * counter_step) % 16;
    return draw == 0 ? -7 : int(draw % 3) - 1;
}

void ValueMaker::fill(uint64_t key, const Spread & spread, int64_t columns, int64_t first_row, int64_t rows,
                      uint16_t * out) const {
    uint16_t table[table_size];
    for (size_t i = 0; i < table_size; i++) {
        const double unit = spread.uniform ? (double(2 * i + 1) / double(table_size) - 1) : normal_[i];
        table[i] = to_bf16(spread.center + spread.width * unit);
    }
    // Four positions share one hash.
    const auto begin = uint64_t(first_row * columns), end = begin + uint64_t(rows * columns);
    uint64_t at = begin;
    const auto one = [&] {
        out[at - begin] = table[mix(key + at / 4 * counter_step) >> (at % 4 * 16 + 16 - table_bits) & (table_size - 1)];
        at++;
    };
    while (at < end && at % 4) one();
    for (; at + 4 <= end; at += 4) {
        const uint64_t bits = mix(key + at / 4 * counter_step);
        uint16_t * const four = out + (at - begin);
        for (int i = 0; i < 4; i++) four[i] = table[bits >> (i * 16 + 16 - table_bits) & (table_size - 1)];
    }
    while (at < end) one();

    const std::vector<int64_t> outliers =
        spread.outlier_columns ? outlier_columns(key, columns) : std::vector<int64_t>();
    for (int64_t row = 0; row < rows; row++) {
        uint16_t * const values = out + row * columns;
        for (const int64_t column : outliers) values[column] = scale_bf16(values[column], 2);
        if (!spread.skewed_rows) continue;
        const int exponent = row_exponent(key, first_row + row);
        for (int64_t column = 0; column < columns; column++) values[column] = scale_bf16(values[column], exponent);
    }
}

} // namespace gnv::test
