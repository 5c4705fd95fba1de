#include "verify/plain_values.h"

#include "codec/nvfp4.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace gnv::verify {

// --- NaN and Inf --------------------------------------------------------------------------------------------------------------

// The exponent bits are all set.
template <class Word>
static NonFinite find_in(const uint8_t * bytes, uint64_t size, Word exponent, uint64_t first_element) {
    NonFinite found;
    const uint64_t elements = size / sizeof(Word);
    for (uint64_t i = 0; i < elements; i++) {
        Word word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        found.count += (word & exponent) == exponent;
    }
    for (uint64_t i = 0; i < elements && found.count > 0; i++) {
        Word word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        if ((word & exponent) != exponent) continue;
        found.first = first_element + i;
        break;
    }
    return found;
}

NonFinite find_non_finite(DType dtype, const uint8_t * bytes, uint64_t size, uint64_t first_element) {
    switch (dtype) {
    case DType::bf16: return find_in<uint16_t>(bytes, size, 0x7f80, first_element);
    case DType::f16: return find_in<uint16_t>(bytes, size, 0x7c00, first_element);
    case DType::f32: return find_in<uint32_t>(bytes, size, 0x7f800000, first_element);
    default: return {};
    }
}

// --- FP8 ----------------------------------------------------------------------------------------------------------------------

void Fp8Values::add(const Fp8Values & other) {
    compared = compared || other.compared;
    elements += other.elements, nan += other.nan, zero += other.zero;
    error_squares += other.error_squares, weight_squares += other.weight_squares;
}

double Fp8Values::relative_error() const {
    if (error_squares == 0) return 0;
    const double ratio = error_squares / weight_squares;
    return std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
}

Fp8Values measure_fp8(const uint8_t * codes, const Fp8Scales & scales, int64_t first_row, int64_t rows, int64_t columns,
                      const uint8_t * source, DType source_dtype) {
    Fp8Values values;
    values.elements = uint64_t(rows * columns);
    values.compared = source != nullptr;
    for (int64_t row = 0; row < rows; row++) {
        double errors = 0, squares = 0;
        for (int64_t column = 0; column < columns; column++) {
            const int64_t at = row * columns + column;
            const uint8_t code = codes[at], magnitude = code & 0x7f;
            values.nan += magnitude == 0x7f;
            values.zero += magnitude == 0;
            if (!source) continue;
            const float sign = code & 0x80 ? -1.0f : 1.0f;
            const double ours =
                double(sign * nvfp4::e4m3_value(magnitude)) * double(scales.at(first_row + row, column));
            const double theirs = double(nvfp4::load_element(source_dtype, source, at));
            errors += (ours - theirs) * (ours - theirs);
            squares += theirs * theirs;
        }
        values.error_squares += errors, values.weight_squares += squares;
    }
    return values;
}

} // namespace gnv::verify
