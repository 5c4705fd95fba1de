// The definition of NVFP4, and the plain, slow reference of its codec. The vectorised variants (codec/nvfp4_pack*.cpp,
// cuda/nvfp4_pack.cu) must agree with it bit for bit.
//
// A weight W [N, K] (K divisible by 16) becomes
//   codes   one E2M1 code (4 bits) per element,
//   scales  one E4M3 byte per block of 16 consecutive elements of a row,
//   global  one F32 scale G, a divisor:    W[n, k] ~ value(code[n, k]) * e4m3(scale[n, k / 16]) / G
//
// The arithmetic follows llm-compressor: every step in the dtype of the source weight (BF16 for a BF16 model), rounded
// to nearest even, as documented at each function.
#pragma once

#include "core/dtype.h"
#include "core/status.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace gnv::nvfp4 {

inline constexpr int64_t block_size = 16;        // elements that share a block scale
inline constexpr float max_code_value = 6.0f;    // largest E2M1 magnitude
inline constexpr float max_scale_value = 448.0f; // largest E4M3 magnitude

// The order of codes and scales in memory. Code takes sizes and offsets from the functions below and assumes neither
// row-major scales nor a byte stride for a nibble.
enum class Layout : uint8_t {
    row_major, // as compressed-tensors stores it: byte j of a row = code[2j] | code[2j + 1] << 4; scales [N, K / 16]
};

size_t code_bytes(Layout layout, int64_t rows, int64_t columns);
size_t scale_bytes(Layout layout, int64_t rows, int64_t columns);
// The place of the code of (row, column): its byte, and whether it is the high nibble.
size_t code_offset(Layout layout, int64_t rows, int64_t columns, int64_t row, int64_t column, bool & high_nibble);
size_t scale_offset(Layout layout, int64_t rows, int64_t columns, int64_t row, int64_t block);

// A quantized weight, or a range of its rows: borrowed memory of exactly code_bytes and scale_bytes.
template <class Byte>
struct BasicWeight {
    int64_t rows = 0;    // N
    int64_t columns = 0; // K, divisible by block_size
    Layout layout = Layout::row_major;
    std::span<Byte> codes;
    std::span<Byte> scales;
    float global_scale = 1.0f; // G, a divisor
};
using Weight = BasicWeight<uint8_t>;
using ConstWeight = BasicWeight<const uint8_t>;

// --- Elements ---------------------------------------------------------------------------------------------------------

float e2m1_value(uint8_t code);       // codes 0..7: 0 0.5 1 1.5 2 3 4 6; bit 3 is the sign
float e4m3_value(uint8_t byte);       // 0x7f and 0xff are NaN
uint8_t e4m3_from_float(float value); // round to nearest even, saturating at +-448, subnormals kept; NaN gives 0x7f
float bf16_to_float(uint16_t bits);
uint16_t bf16_from_float(float value); // round to nearest even
void bf16_from_floats(std::span<const float> values, uint16_t * out);
float f16_to_float(uint16_t bits);
uint16_t f16_from_float(float value); // round to nearest even, overflow to infinity

// Element `index` of a BF16, F16 or F32 array at any address; and the F32 result of one operation, rounded to that of
// the same operation in `source` gives.
float load_element(DType source, const void * elements, int64_t index);
float round_to(DType source, float value);

// --- Scales -----------------------------------------------------------------------------------------------------------

// The largest magnitude of `count` elements of a BF16, F16 or F32 array, exact. A NaN or Inf makes `finite` false; the
// value is then meaningless.
float absolute_maximum_reference(DType dtype, const void * weights, int64_t count, bool & finite);

// G from the largest magnitude of a weight or of a fused group of weights. In the source dtype's arithmetic:
//   a = max(amax, smallest normal), r = round(1 / a), g = round(2688 * r), G = g if finite, else 1.
float global_scale(DType source, float amax);

// The E4M3 byte of one block: s = round(amax / 6) in the source dtype, p = G * s in F32, saturating round to E4M3, and
// 0.125 (0x20) in place of zero.
uint8_t block_scale(DType source, float block_amax, float global);

// --- Whole weights, plain reference --------------------------------------------------------------------------------------

// Quantizes rows x columns elements of `source` dtype (row-major, finite) with `out.global_scale`. Per element d =
// scale / G, x = w / d (two F32 divisions), round half to even on the E2M1 grid, saturating at 6; a non-zero negative
// that rounds to zero keeps its sign (code 8), a zero of either sign becomes code 0.
void quantize_reference(DType source, const void * weights, const Weight & out);

// value(code) * e4m3(scale) / G in F32: one product (exact), one division. `out` holds rows x columns floats.
void dequantize_reference(const ConstWeight & weight, float * out);

} // namespace gnv::nvfp4
