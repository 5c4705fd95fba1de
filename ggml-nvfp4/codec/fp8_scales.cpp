#include "codec/fp8_scales.h"

#include "codec/nvfp4.h"

#include <cstring>

namespace gnv {

bool fit_fp8_scales(const std::vector<int64_t> & shape, int64_t rows, int64_t columns, Fp8Scales & out) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    out = {};
    if (count == 1) {
        out.rows_each = rows, out.columns_each = columns;
        return true;
    }
    if (count == rows && (shape.size() == 1 || (shape.size() == 2 && shape[1] == 1))) {
        out.columns_each = columns;
        return true;
    }
    if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > rows || shape[1] > columns) return false;
    constexpr int64_t usual_block = 128;
    const auto block = [&](int64_t extent, int64_t scales) {
        return (extent + usual_block - 1) / usual_block == scales ? usual_block : (extent + scales - 1) / scales;
    };
    out.rows_each = block(rows, shape[0]), out.columns_each = block(columns, shape[1]), out.per_row = shape[1];
    return true;
}

void unpack_fp8(const uint8_t * codes, const Fp8Scales & scales, int64_t rows, int64_t columns, float * out) {
    auto * const to = reinterpret_cast<uint8_t *>(out);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            const int64_t at = row * columns + column;
            const uint8_t code = codes[at];
            const float magnitude = nvfp4::e4m3_value(code & 0x7f);
            const float value = (code & 0x80 ? -magnitude : magnitude) * scales.at(row, column);
            memcpy(to + at * 4, &value, sizeof value);
        }
}

} // namespace gnv
