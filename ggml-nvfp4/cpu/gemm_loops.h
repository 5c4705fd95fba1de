// Loops that the variants of cpu/gemm_kernels.h have in common, compiled for each of them: all functions are static, so
// that no copy of one is shared between files of different instruction sets.
#pragma once

#include <cstdint>
#include <cstring>

namespace gnv::cpu {

static inline float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// The E4M3 number nearest to a magnitude, ties to even, saturating at 448. NaN stays NaN.
static inline float round_to_e4m3(float magnitude) {
    if (magnitude > 448.0f) return 448.0f;
    if (magnitude < 0x1p-6f) return magnitude + 0x1.8p14f - 0x1.8p14f; // subnormals: multiples of 2^-9
    const uint32_t bits = bits_of_float(magnitude);
    if (bits > 0x7f800000) return magnitude;
    return float_of_bits((bits + 0x7ffff + (bits >> 20 & 1)) & 0xfff00000); // three bits of mantissa
}

static inline void quantize_row_loop(const float * x, int64_t k, float input_scale, float * out) {
    for (int64_t block = 0; block < k; block += 16) {
        uint32_t largest = 0; // of the magnitudes' bits, whose order is that of the magnitudes; NaN is above all
        for (int i = 0; i < 16; i++) {
            const uint32_t bits = bits_of_float(x[block + i]) & 0x7fffffff;
            largest = bits > largest ? bits : largest;
        }
        const float scale = round_to_e4m3(input_scale * float_of_bits(largest) / 6.0f);
        if (scale == 0.0f) {
            for (int i = 0; i < 16; i++) out[block + i] = 0.0f;
            continue;
        }
        for (int i = 0; i < 16; i++) {
            const float scaled = x[block + i] * input_scale / scale;
            const uint32_t sign = bits_of_float(scaled) & 0x80000000;
            const float m = float_of_bits(bits_of_float(scaled) ^ sign);
            // Steps of the E2M1 grid 0 0.5 1 1.5 2 3 4 6 that m passes; a tie goes to the even code.
            const float value = ((m > 0.25f ? 0.5f : 0.0f) + (m >= 0.75f ? 0.5f : 0.0f)) +
                                ((m > 1.25f ? 0.5f : 0.0f) + (m >= 1.75f ? 0.5f : 0.0f)) +
                                ((m > 2.5f ? 1.0f : 0.0f) + (m >= 3.5f ? 1.0f : 0.0f)) + (m > 5.0f ? 2.0f : 0.0f);
            out[block + i] = float_of_bits(bits_of_float(value * scale) ^ sign);
        }
    }
}

static inline void finish_loop(float * c, int64_t count, float divisor, bool round_to_bf16) {
    if (divisor != 1.0f)
        for (int64_t i = 0; i < count; i++) c[i] /= divisor;
    if (!round_to_bf16) return;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of_float(c[i]);
        const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
        const uint32_t quiet = bits | 0x400000; // rounding could turn a NaN into an infinity
        c[i] = float_of_bits(((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded) & 0xffff0000);
    }
}

} // namespace gnv::cpu
