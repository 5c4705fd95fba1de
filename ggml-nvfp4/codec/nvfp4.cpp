#include "codec/nvfp4.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace gnv::nvfp4 {

// --- Layout ----------------------------------------------------------------------------------------------------------

size_t code_bytes(Layout, int64_t rows, int64_t columns) { return size_t(rows) * size_t(columns / 2); }

size_t scale_bytes(Layout, int64_t rows, int64_t columns) { return size_t(rows) * size_t(columns / block_size); }

size_t code_offset(Layout, int64_t, int64_t columns, int64_t row, int64_t column, bool & high_nibble) {
    high_nibble = column % 2 != 0;
    return size_t(row) * size_t(columns / 2) + size_t(column / 2);
}

size_t scale_offset(Layout, int64_t, int64_t columns, int64_t row, int64_t block) {
    return size_t(row) * size_t(columns / block_size) + size_t(block);
}

// --- Elements --------------------------------------------------------------------------------------------------------

static constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
static constexpr float infinity = std::numeric_limits<float>::infinity();

float e2m1_value(uint8_t code) {
    static constexpr float magnitudes[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
    return code & 8 ? -magnitudes[code & 7] : magnitudes[code & 7];
}

// Rounds half to even on the grid of e2m1_value; the caller handles the sign.
static uint8_t e2m1_magnitude(float x) {
    return uint8_t((x > 0.25f) + (x >= 0.75f) + (x > 1.25f) + (x >= 1.75f) + (x > 2.5f) + (x >= 3.5f) + (x > 5.0f));
}

// A small float format: sign, exponent, `mantissa_bits` of mantissa, no bits for infinities in the range used here.
// The subnormals below 2^min_exponent have the spacing of the first binade.
static float small_float_value(int exponent_field, int mantissa, int mantissa_bits, int min_exponent) {
    const int implicit_one = exponent_field > 0 ? 1 << mantissa_bits : 0;
    return std::ldexp(float(implicit_one + mantissa), std::max(exponent_field, 1) - 1 + min_exponent - mantissa_bits);
}

// The exponent and mantissa fields, as one number, of a finite `magnitude` rounded half to even. A mantissa that rounds
// up to the next power of two carries into the exponent, as it should.
static int small_float_bits(float magnitude, int mantissa_bits, int min_exponent) {
    if (magnitude == 0.0f) return 0;
    const int exponent = std::max(std::ilogb(magnitude), min_exponent);
    const int steps = int(std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent)));
    return (exponent - min_exponent) * (1 << mantissa_bits) + steps;
}

float e4m3_value(uint8_t byte) {
    if ((byte & 0x7f) == 0x7f) return not_a_number;
    const float magnitude = small_float_value(byte >> 3 & 15, byte & 7, 3, -6);
    return byte & 0x80 ? -magnitude : magnitude;
}

uint8_t e4m3_from_float(float value) {
    if (std::isnan(value)) return 0x7f;
    const int sign = std::signbit(value) ? 0x80 : 0;
    return uint8_t(sign | small_float_bits(std::min(std::fabs(value), max_scale_value), 3, -6));
}

float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

static inline uint16_t rounded_bf16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t quiet = bits >> 16 | 0x40; // of a NaN, which rounding could turn into an infinity
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return uint16_t((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

uint16_t bf16_from_float(float value) { return rounded_bf16(value); }

void bf16_from_floats(std::span<const float> values, uint16_t * out) {
    for (size_t i = 0; i < values.size(); i++) out[i] = rounded_bf16(values[i]);
}

float f16_to_float(uint16_t bits) {
    const int exponent_field = bits >> 10 & 31, mantissa = bits & 1023;
    const float magnitude = exponent_field < 31 ? small_float_value(exponent_field, mantissa, 10, -14)
                            : mantissa == 0     ? infinity
                                                : not_a_number;
    return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t f16_from_float(float value) {
    if (std::isnan(value)) return 0x7e00;
    const int sign = std::signbit(value) ? 0x8000 : 0;
    const float magnitude =
        std::min(std::fabs(value), 65536.0f); // one step beyond the largest number: its bits are Inf's
    return uint16_t(sign | small_float_bits(magnitude, 10, -14));
}

// --- Source dtypes ---------------------------------------------------------------------------------------------------

float load_element(DType source, const void * elements, int64_t index) {
    const auto * bytes = static_cast<const unsigned char *>(elements) + index * dtype_traits(source).bits / 8;
    if (source == DType::f32) {
        float value;
        memcpy(&value, bytes, sizeof value); // tensors in a file need not be aligned
        return value;
    }
    uint16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return source == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

float round_to(DType source, float value) {
    GNV_CHECK(source == DType::bf16 || source == DType::f16 || source == DType::f32);
    if (source == DType::bf16) return bf16_to_float(bf16_from_float(value));
    if (source == DType::f16) return f16_to_float(f16_from_float(value));
    return value;
}

static float smallest_normal(DType source) { return source == DType::f16 ? 0x1p-14f : 0x1p-126f; }

// --- Scales ----------------------------------------------------------------------------------------------------------

float absolute_maximum_reference(DType dtype, const void * weights, int64_t count, bool & finite) {
    float largest = 0.0f;
    finite = true;
    for (int64_t i = 0; i < count; i++) {
        const float magnitude = std::fabs(load_element(dtype, weights, i));
        if (!(magnitude < infinity)) finite = false;
        largest = std::max(largest, magnitude);
    }
    return largest;
}

float global_scale(DType source, float amax) {
    const float bounded = std::max(amax, smallest_normal(source));
    const float reciprocal = round_to(source, 1.0f / bounded);
    const float global = round_to(source, max_scale_value * max_code_value * reciprocal);
    return std::isfinite(global) ? global : 1.0f;
}

uint8_t block_scale(DType source, float block_amax, float global) {
    const float scale = round_to(source, block_amax / max_code_value);
    const uint8_t byte = e4m3_from_float(global * scale);
    return byte != 0 ? byte : 0x20; // 0.125
}

// --- Whole weights ---------------------------------------------------------------------------------------------------

static uint8_t quantize_element(float weight, float divisor) {
    const float x = weight / divisor;
    return uint8_t(e2m1_magnitude(std::fabs(x)) | (x < 0.0f ? 8 : 0)); // -0 is not below zero
}

void quantize_reference(DType source, const void * weights, const Weight & out) {
    std::fill(out.codes.begin(), out.codes.end(), uint8_t(0));
    for (int64_t row = 0; row < out.rows; row++) {
        for (int64_t block = 0; block < out.columns / block_size; block++) {
            const int64_t first = block * block_size;
            float amax = 0.0f;
            for (int64_t column = first; column < first + block_size; column++)
                amax = std::max(amax, std::fabs(load_element(source, weights, row * out.columns + column)));
            const uint8_t scale = block_scale(source, amax, out.global_scale);
            const float divisor = e4m3_value(scale) / out.global_scale;
            out.scales[scale_offset(out.layout, out.rows, out.columns, row, block)] = scale;
            for (int64_t column = first; column < first + block_size; column++) {
                bool high_nibble;
                const size_t offset = code_offset(out.layout, out.rows, out.columns, row, column, high_nibble);
                const uint8_t code =
                    quantize_element(load_element(source, weights, row * out.columns + column), divisor);
                out.codes[offset] = uint8_t(out.codes[offset] | code << (high_nibble ? 4 : 0));
            }
        }
    }
}

void dequantize_reference(const ConstWeight & weight, float * out) {
    for (int64_t row = 0; row < weight.rows; row++) {
        for (int64_t column = 0; column < weight.columns; column++) {
            bool high_nibble;
            const size_t offset = code_offset(weight.layout, weight.rows, weight.columns, row, column, high_nibble);
            const size_t block = scale_offset(weight.layout, weight.rows, weight.columns, row, column / block_size);
            const auto code = uint8_t(weight.codes[offset] >> (high_nibble ? 4 : 0) & 15);
            *out++ = e2m1_value(code) * e4m3_value(weight.scales[block]) / weight.global_scale;
        }
    }
}

} // namespace gnv::nvfp4
