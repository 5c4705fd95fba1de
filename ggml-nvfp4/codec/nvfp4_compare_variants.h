// The loops of codec/nvfp4_compare.h, one namespace per instruction set. The rules of codec/nvfp4_variants.h hold.
#pragma once

#include "codec/nvfp4_variants.h"

#include <stdint.h>

namespace gnv::nvfp4 {

// Both elements of a byte of codes, low nibble first: the entries of the tables below for the magnitude, and the sign.
struct CodePair {
    float size[2], low[2], high[2];
    uint32_t sign[2];
};

struct CompareTables {
    // By code: the value, and the bounds (included) of the x nearest to it.
    float value[16], code_low[16], code_high[16];
    CodePair pairs[256];
};

const CompareTables & compare_tables();

struct CompareSums {
    double weight_squares[16], error_squares[16], value_squares[16]; // by place in the block, times unit * unit
    uint64_t clipped, zeroed, nearest_codes, nearest_scales, far_weights;
    uint32_t largest_bits; // of |w|, as F32
};

#define GNV_COMPARE_FUNCTIONS(variant)                                                                                 \
    namespace variant {                                                                                                \
    void compare_bf16(const uint16_t * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales,         \
                      float global, float unit, const CompareTables & tables, CompareSums & sums);                     \
    void compare_f32(const float * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales,             \
                     float global, float unit, const CompareTables & tables, CompareSums & sums);                      \
    }
GNV_COMPARE_FUNCTIONS(portable)
GNV_COMPARE_FUNCTIONS(avx2)
GNV_COMPARE_FUNCTIONS(avx512)
#undef GNV_COMPARE_FUNCTIONS

} // namespace gnv::nvfp4
