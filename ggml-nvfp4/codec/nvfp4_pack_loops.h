// The parts that the vector variants of codec/nvfp4_pack.h share, in vectors (an extension of GCC and Clang) with an
// element for each block of a group. Included by files that are compiled for different processors and must not share
// inline functions. Each first defines
//   GNV_PACK_VARIANT   its namespace
//   GNV_PACK_WIDTH     elements of a vector
// and after the inclusion the functions that are only declared here.
#include "codec/nvfp4_variants.h"

#include <stdint.h>
#include <string.h>

namespace gnv::nvfp4::GNV_PACK_VARIANT {

namespace {

constexpr int group = GNV_PACK_WIDTH; // blocks handled together: the arithmetic on block scales fills whole registers
constexpr int block_size = 16;

typedef float Floats __attribute__((vector_size(4 * GNV_PACK_WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * GNV_PACK_WIDTH)));

Floats block_maxima(const uint16_t * weights); // the largest magnitude of each block
void store_bytes(Ints values, uint8_t * out);  // the low byte of each
uint64_t block_codes(const uint16_t * weights, float divisor);

// The nearest BF16 number, ties to even, as a float.
Floats round_to_bf16(Floats x) {
    const Ints bits = Ints(x);
    return Floats((bits + ((bits >> 16 & 1) + 0x7fff)) & int32_t(0xffff0000));
}

// Rounds a magnitude x to a small format of `mantissa_bits` bits with subnormals below 2^min_exponent. The last bit of
// the sum x + rounder(x) is worth one step of the small format at x, so the processor rounds at the same place: the
// sum's last bits count steps and its exponent gives the binade. The rounder's own last bits make both add up to the
// format's exponent and mantissa fields, modulo 256; they are even, so that ties round correctly.
template <int mantissa_bits, int min_exponent>
Floats rounder(Floats x) {
    constexpr int lift = 23 - mantissa_bits; // from the exponent of x to that of the sum
    constexpr int bias = (127 + min_exponent + lift) << mantissa_bits;
    const Ints exponent = Ints(x) & 0x7f800000, least = Ints{} + ((127 + min_exponent) << 23);
    return Floats((exponent > least ? exponent : least) + ((lift << 23) + (-bias & 255)));
}

template <int mantissa_bits>
Ints field_bits(Floats sum) {
    return Ints(sum) + (Ints(sum) >> (23 - mantissa_bits));
}

// Writes the E4M3 bytes of a group; returns the divisor of the elements of each block.
Floats block_scales(Floats maxima, float global, uint8_t * scales) {
    const Floats product = round_to_bf16(maxima / 6.0f) * global, largest = Floats{} + 448.0f;
    const Floats bounded = product < largest ? product : largest;
    const Floats offset = rounder<3, -6>(bounded);
    const Floats sum = bounded + offset, rounded = sum - offset;
    const Ints zero = rounded == 0.0f;
    store_bytes(zero ? Ints{} + 0x20 : field_bits<3>(sum) & 0x7f, scales);
    return (zero ? Floats{} + 0.125f : rounded) / global;
}

void quantize_group(const uint16_t * weights, float global, uint8_t * codes, uint8_t * scales) {
    const Floats divisors = block_scales(block_maxima(weights), global, scales);
    for (int i = 0; i < group; i++) {
        const uint64_t block = block_codes(weights + i * block_size, divisors[i]);
        memcpy(codes + i * 8, &block, sizeof block);
    }
}

} // namespace

void quantize_bf16(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes, uint8_t * scales) {
    int64_t i = 0;
    for (; i + group <= blocks; i += group) quantize_group(weights + i * block_size, global, codes + i * 8, scales + i);
    if (i == blocks) return;
    const auto rest = size_t(blocks - i);
    uint16_t rest_weights[group * block_size] = {};
    uint8_t rest_codes[group * 8], rest_scales[group];
    memcpy(rest_weights, weights + i * block_size, rest * block_size * sizeof *weights);
    quantize_group(rest_weights, global, rest_codes, rest_scales);
    memcpy(codes + i * 8, rest_codes, rest * 8);
    memcpy(scales + i, rest_scales, rest);
}

} // namespace gnv::nvfp4::GNV_PACK_VARIANT
