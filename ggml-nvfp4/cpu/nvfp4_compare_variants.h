// The loops of cpu/nvfp4_compare.h, one namespace per instruction set. The rules of cpu/nvfp4_variants.h hold.
#pragma once

#include "cpu/nvfp4_variants.h"

#include <stdint.h>

namespace gnv::cpu {

// Which products of global scale and block maximum / 6 round to a block scale, bounds included.
struct ScaleRanges {
    float low[256], high[256];
};

struct CompareSums {
    double weight_squares, error_squares, value_squares, products;
    uint64_t clipped, zeroed, nearest_codes, nearest_scales, poor_blocks;
    uint32_t largest_bits; // of |w|, as F32
};

#define GNV_COMPARE_FUNCTIONS(variant)                                                                                 \
    namespace variant {                                                                                                \
    void compare_bf16(const uint16_t * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales,         \
                      float global, const ScaleRanges & ranges, CompareSums & sums);                                   \
    void compare_f32(const float * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales,             \
                     float global, const ScaleRanges & ranges, CompareSums & sums);                                    \
    }
GNV_COMPARE_FUNCTIONS(portable)
GNV_COMPARE_FUNCTIONS(avx2)
GNV_COMPARE_FUNCTIONS(avx512)
#undef GNV_COMPARE_FUNCTIONS

} // namespace gnv::cpu
