// The scales of an FP8 (E4M3) weight, as compressed-tensors stores it: X.weight holds codes, X.weight_scale the scales, and a
// weight's value is code * scale.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace gnv {

inline constexpr std::string_view fp8_scale_suffix = ".weight_scale";

// Of a weight [rows, columns]: one scale in all, one a row, or one for each block of a grid.
struct Fp8Scales {
    std::vector<float> values;
    int64_t rows_each = 1, columns_each = 1; // that one scale is for
    int64_t per_row = 1;                     // scales
    float at(int64_t row, int64_t column) const {
        return values[size_t(row / rows_each * per_row + column / columns_each)];
    }
};
// False when scales of this shape fit no such weight. `values` is left empty, for the caller to fill.
bool fit_fp8_scales(const std::vector<int64_t> & shape, int64_t rows, int64_t columns, Fp8Scales & out);

// The whole weight as F32; each product is rounded once. `codes` may be the last quarter of `out`: they are widened in place.
void unpack_fp8(const uint8_t * codes, const Fp8Scales & scales, int64_t rows, int64_t columns, float * out);

} // namespace gnv
