// Plain C++ with loops of fixed length, which compilers turn into vector code on any processor.
#include "codec/nvfp4.h"
#include "codec/nvfp4_variants.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace gnv::nvfp4 {

static constexpr E4m3Values make_e4m3_values() {
    E4m3Values values = {};
    for (uint32_t byte = 0; byte < 256; byte++) {
        const uint32_t exponent_field = byte >> 3 & 15, mantissa = byte & 7;
        const float magnitude = exponent_field == 0
                                    ? float(mantissa) * 0x1p-9f
                                    : std::bit_cast<float>((exponent_field + 120) << 23 | mantissa << 20);
        values.of[byte] = byte & 0x80 ? -magnitude : magnitude;
    }
    values.of[0x7f] = values.of[0xff] = std::numeric_limits<float>::quiet_NaN();
    return values;
}

constinit const E4m3Values e4m3_values = make_e4m3_values();

namespace portable {

namespace {

constexpr int block_size = int(nvfp4::block_size);

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

// BF16 elements, as signed numbers: baseline x86 compares no unsigned ones.
struct Block {
    int16_t bits[block_size] = {};

    Block() = default;
    Block(const uint16_t * weights, int64_t count) { memcpy(bits, weights, size_t(count) * sizeof *bits); }

    // Each element to the larger magnitude of its own and the other's.
    void raise_to(const Block & other) {
        for (int j = 0; j < block_size; j++) {
            const auto magnitude = int16_t(other.bits[j] & 0x7fff);
            bits[j] = bits[j] > magnitude ? bits[j] : magnitude;
        }
    }
    int16_t largest_magnitude() const {
        int16_t largest = 0;
        for (const int16_t element : bits) largest = std::max(largest, int16_t(element & 0x7fff));
        return largest;
    }
};

float bf16_to_float(int16_t bits) { return std::bit_cast<float>(uint32_t(uint16_t(bits)) << 16); }

// The E4M3 byte of a block. The last bit of the sum product + offset is worth one step of E4M3 at the product, so the
// processor rounds at the same place: the sum's last bits count steps, the offset's exponent gives the binade.
uint8_t block_scale(float amax, float global) {
    const float scale = nvfp4::bf16_to_float(nvfp4::bf16_from_float(amax / nvfp4::max_code_value));
    const float product = std::min(global * scale, nvfp4::max_scale_value);
    const uint32_t exponent = std::max(bits_of(product) >> 23, 127u - 6) + 20;
    const uint32_t steps = bits_of(product + std::bit_cast<float>(exponent << 23)) & 31;
    const uint32_t byte = (exponent - (127 - 6 + 20)) * 8 + steps;
    return uint8_t(byte != 0 ? byte : 0x20);
}

// Counts the boundaries that |x| passes; each belongs to the neighbour with the even code. Compares integers, which
// order magnitudes as floats do: a comparison of floats may trap, which prevents vector code.
uint32_t element_code(float weight, float divisor) {
    const uint32_t x = bits_of(weight / divisor);
    const auto magnitude = int32_t(x & 0x7fffffff);
    const auto above = [&](float boundary) { return magnitude > int32_t(bits_of(boundary)); };
    const auto from = [&](float boundary) { return magnitude >= int32_t(bits_of(boundary)); };
    const int code = above(0.25f) + from(0.75f) + above(1.25f) + from(1.75f) + above(2.5f) + from(3.5f) + above(5.0f);
    const uint32_t sign = uint32_t(magnitude != 0) << 3 & x >> 28; // -0 has none
    return uint32_t(code) | sign;
}

} // namespace

uint16_t absolute_maximum_bf16(const uint16_t * weights, int64_t count) {
    Block largest;
    const int64_t rest = count % block_size;
    for (int64_t i = 0; i < count - rest; i += block_size) largest.raise_to(Block(weights + i, block_size));
    if (rest > 0) largest.raise_to(Block(weights + count - rest, rest));
    return uint16_t(largest.largest_magnitude());
}

void quantize_bf16(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes, uint8_t * scales) {
    for (int64_t i = 0; i < blocks; i++) {
        const Block block(weights + i * block_size, block_size);
        scales[i] = block_scale(bf16_to_float(block.largest_magnitude()), global);
        const float divisor = e4m3_values.of[scales[i]] / global;
        uint32_t code[block_size];
        for (int j = 0; j < block_size; j++) code[j] = element_code(bf16_to_float(block.bits[j]), divisor);
        for (int j = 0; j < block_size; j += 2) *codes++ = uint8_t(code[j] | code[j + 1] << 4);
    }
}

void dequantize(const uint8_t * codes, const uint8_t * scales, int64_t blocks, float global, float * out) {
    constexpr float code_values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                       -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    for (int64_t i = 0; i < blocks; i++) {
        float values[16]; // of every code in this block
        for (int code = 0; code < 16; code++) values[code] = code_values[code] * e4m3_values.of[scales[i]] / global;
        for (int j = 0; j < block_size / 2; j++, codes++) {
            *out++ = values[*codes & 15];
            *out++ = values[*codes >> 4];
        }
    }
}

} // namespace portable

} // namespace gnv::nvfp4
