// The codec's inner loops, one namespace per instruction set, behind codec/nvfp4_pack.h.
//
// In Layout::row_major a weight of any shape is one run of blocks: `blocks` = rows * columns / 16, with 16
// source elements, 8 code bytes and 1 scale byte each. Pointers need no alignment.
//
// The files of the vector variants are compiled for processors that the rest of the library does not require. They
// include only this header, C headers and intrinsics: the linker may keep one copy of an inline function or template
// that files share, and that copy could hold instructions that other processors lack.
#pragma once

#include <cstdint>

namespace gnv::nvfp4 {

struct E4m3Values {
    float of[256]; // nvfp4::e4m3_value of every byte
};
extern const E4m3Values e4m3_values;

#define GNV_NVFP4_VARIANT(variant)                                                                                     \
    namespace variant {                                                                                                \
    uint16_t absolute_maximum_bf16(const uint16_t * weights, int64_t count);                                           \
    void quantize_bf16(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes, uint8_t * scales);     \
    void dequantize(const uint8_t * codes, const uint8_t * scales, int64_t blocks, float global, float * out);         \
    }
GNV_NVFP4_VARIANT(portable)
GNV_NVFP4_VARIANT(avx2)
GNV_NVFP4_VARIANT(avx512)
#undef GNV_NVFP4_VARIANT

} // namespace gnv::nvfp4
