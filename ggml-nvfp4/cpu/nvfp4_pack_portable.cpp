// Plain C++ with loops of fixed length, which compilers turn into vector code on any processor.
#include "cpu/nvfp4_variants.h"
#include "formats/nvfp4.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace gnv::cpu {

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

namespace {

constexpr int block_size = int(nvfp4::block_size);

struct Block {
    uint16_t bits[block_size];
};

Block load_block(const uint16_t * weights, int64_t block) {
    Block loaded;
    memcpy(&loaded, reinterpret_cast<const char *>(weights) + block * int64_t(sizeof loaded), sizeof loaded);
    return loaded;
}

uint16_t block_maximum(const Block & block) {
    uint16_t largest = 0;
    for (const uint16_t bits : block.bits) largest = std::max(largest, uint16_t(bits & 0x7fff));
    return largest;
}

// Counts the boundaries that |x| passes; each boundary belongs to the neighbour with the even code.
uint32_t e2m1_code(float x) {
    const float magnitude = x < 0.0f ? -x : x;
    const uint32_t code = uint32_t(magnitude > 0.25f) + uint32_t(magnitude >= 0.75f) + uint32_t(magnitude > 1.25f) +
                          uint32_t(magnitude >= 1.75f) + uint32_t(magnitude > 2.5f) + uint32_t(magnitude >= 3.5f) +
                          uint32_t(magnitude > 5.0f);
    return code | uint32_t(x < 0.0f) << 3;
}

} // namespace

namespace portable {

uint16_t absolute_maximum_bf16(const uint16_t * weights, int64_t count) {
    uint16_t largest = 0;
    const int64_t blocks = count / block_size;
    for (int64_t i = 0; i < blocks; i++) largest = std::max(largest, block_maximum(load_block(weights, i)));
    Block rest = {};
    memcpy(&rest, reinterpret_cast<const char *>(weights) + blocks * int64_t(sizeof rest),
           size_t(count % block_size) * sizeof *weights);
    return std::max(largest, block_maximum(rest));
}

void quantize_bf16(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes, uint8_t * scales) {
    for (int64_t i = 0; i < blocks; i++) {
        const Block block = load_block(weights, i);
        const float amax = nvfp4::bf16_to_float(block_maximum(block));
        const uint8_t scale = nvfp4::block_scale(DType::bf16, amax, global);
        const float divisor = e4m3_values.of[scale] / global;
        scales[i] = scale;
        uint32_t code[block_size];
        for (int j = 0; j < block_size; j++)
            code[j] = e2m1_code(std::bit_cast<float>(uint32_t(block.bits[j]) << 16) / divisor);
        for (int j = 0; j < block_size; j += 2) *codes++ = uint8_t(code[j] | code[j + 1] << 4);
    }
}

void dequantize(const uint8_t * codes, const uint8_t * scales, int64_t blocks, float global, float * out) {
    for (int64_t i = 0; i < blocks; i++) {
        float values[16]; // of every code in this block
        for (int code = 0; code < 16; code++)
            values[code] = nvfp4::e2m1_value(uint8_t(code)) * e4m3_values.of[scales[i]] / global;
        for (int j = 0; j < block_size / 2; j++, codes++) {
            *out++ = values[*codes & 15];
            *out++ = values[*codes >> 4];
        }
    }
}

} // namespace portable

} // namespace gnv::cpu
