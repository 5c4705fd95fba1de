// The codec's inner loops, one namespace per instruction set, behind codec/nvfp4_pack.h.
//
// In Layout::row_major a weight is one run of blocks, whatever its shape: `blocks` = rows * columns / 16, with 16
// source elements, 8 code bytes and 1 scale byte each. Pointers need no alignment.
//
// The files behind the vector variants are compiled for processors that the rest of the library does not ask for. They
// include nothing but this header, C headers and intrinsics: an inline function or template shared with other files
// could be emitted there with those instructions, and the linker might keep that copy for everybody.
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
