// Operands of matrix products with made-up values, for tests: `a`, a weight of any dtype that the linears take, and the
// weight's values in double, computed from the definition of the dtype and nothing of the library.
#pragma once

#include "core/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace gnv::test {

inline double e2m1(int code) {
    constexpr double grid[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -grid[code & 7] : grid[code & 7];
}

inline double e4m3(int byte) {
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    return byte & 0x80 ? -magnitude : magnitude;
}

struct WeightData {
    DType dtype;
    int64_t rows, columns, global_scale_rows;
    std::vector<uint8_t> bytes, scales;
    std::vector<float> globals;

    WeightData(DType type, int64_t row_count, int64_t column_count, int64_t rows_per_scale, uint32_t seed)
        : dtype(type), rows(row_count), columns(column_count), global_scale_rows(rows_per_scale) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        bytes.resize(size_t(tensor_bytes(dtype, {rows, columns})));
        if (dtype == DType::f4) {
            for (uint8_t & byte : bytes) byte = uint8_t(random());
            scales.resize(size_t(rows * columns / 16));
            for (uint8_t & scale : scales) scale = uint8_t(0x20 + random() % 0x5f); // 0.125 .. 448
            for (int64_t row = 0; row < rows; row += global_scale_rows) globals.push_back(float(300 + random() % 3000));
            return;
        }
        for (int64_t i = 0; i < rows * columns; i++) {
            const float value = normal(random);
            const auto bits = std::bit_cast<uint32_t>(value);
            const auto upper = uint16_t(bits >> 16);
            if (dtype == DType::f32) memcpy(&bytes[size_t(i) * 4], &value, 4);
            if (dtype == DType::bf16) memcpy(&bytes[size_t(i) * 2], &upper, 2);
        }
    }

    Tensor tensor(Shape shape) {
        Tensor result;
        result.dtype = dtype;
        result.shape = shape;
        result.data = bytes.empty() ? static_cast<void *>(&empty) : bytes.data();
        if (dtype != DType::f4) return result;
        result.block_scales = scales.data();
        result.global_scales = globals.data();
        result.global_scale_rows = global_scale_rows;
        return result;
    }
    Tensor tensor() { return tensor({rows, columns}); }

    double global(int64_t row) const {
        return dtype == DType::f4 ? double(globals[size_t(row / global_scale_rows)]) : 1;
    }

    // Without the global scale.
    double value(int64_t row, int64_t column) const {
        const auto element = size_t(row * columns + column);
        if (dtype == DType::f4) return e2m1(bytes[element / 2] >> (element % 2 * 4) & 15) * e4m3(scales[element / 16]);
        uint32_t bits = 0;
        if (dtype == DType::f32) memcpy(&bits, &bytes[element * 4], 4);
        if (dtype == DType::bf16) bits = uint32_t(bytes[element * 2] | bytes[element * 2 + 1] << 8) << 16;
        return double(std::bit_cast<float>(bits));
    }

    uint8_t empty = 0;
};

// Normally distributed numbers with as many bits as BF16 has, now and then large or zero.
inline std::vector<float> made_up_rows(int64_t rows, int64_t columns, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(size_t(rows * columns));
    for (float & value : values) {
        const float scale = random() % 50 == 0 ? 30.0f : random() % 50 == 0 ? 0.0f : 1.0f;
        value = std::bit_cast<float>(std::bit_cast<uint32_t>(normal(random) * scale) & 0xffff0000);
    }
    return values;
}

// Of a sorted list of non-negative numbers (the order of codes) the nearest, the one with the even code of two.
inline double nearest_of(const std::vector<double> & grid, double magnitude) {
    if (magnitude >= grid.back()) return grid.back(); // far beyond, differences are all alike
    size_t best = 0;
    for (size_t code = 1; code < grid.size(); code++) {
        const double below = std::fabs(magnitude - grid[best]), above = std::fabs(grid[code] - magnitude);
        if (above < below || (above == below && code % 2 == 0)) best = code;
    }
    return grid[best];
}

// The W4A4 activations of one row: code * scale in double.
inline std::vector<double> w4a4_row(const float * x, int64_t columns, double input_scale) {
    std::vector<double> scale_grid, code_grid, out(static_cast<size_t>(columns));
    for (int byte = 0; byte < 0x7f; byte++) scale_grid.push_back(e4m3(byte));
    for (int code = 0; code < 8; code++) code_grid.push_back(e2m1(code));
    for (int64_t block = 0; block < columns; block += 16) {
        double largest = 0;
        for (int64_t i = block; i < block + 16; i++) largest = std::max(largest, std::fabs(double(x[i])));
        const double scale = nearest_of(scale_grid, input_scale * largest / 6);
        for (int64_t i = block; i < block + 16; i++)
            out[size_t(i)] =
                scale == 0 ? 0
                           : std::copysign(nearest_of(code_grid, std::fabs(x[i]) * input_scale / scale) * scale, x[i]);
    }
    return out;
}

} // namespace gnv::test
