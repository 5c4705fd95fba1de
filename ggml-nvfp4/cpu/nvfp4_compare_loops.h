// The loops behind cpu/nvfp4_compare.h, in a form that compilers turn into vector code: 16 elements side by side, sums in
// a fixed tree. Included by files that are compiled for different processors and must not share inline functions: each
// names the namespace it wants in GNV_COMPARE_VARIANT. All variants give the same bits.
#include "cpu/nvfp4_compare_variants.h"

#include <string.h>

namespace gnv::cpu::GNV_COMPARE_VARIANT {

namespace {

inline float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float sum_of_16(const float * v) {
    float a[8], b[4];
    for (int i = 0; i < 8; i++) a[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; i++) b[i] = a[i] + a[i + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

struct Block {
    uint32_t bits[16]; // of the weights, as F32
};

inline Block load(const uint16_t * weights, int64_t block) {
    uint16_t narrow[16];
    memcpy(narrow, reinterpret_cast<const char *>(weights) + block * 32, sizeof narrow);
    Block out;
    for (int i = 0; i < 16; i++) out.bits[i] = uint32_t(narrow[i]) << 16;
    return out;
}

inline Block load(const float * weights, int64_t block) {
    Block out;
    memcpy(&out, reinterpret_cast<const char *>(weights) + block * 64, sizeof out);
    return out;
}

// Twice the value of E2M1 codes 0 to 7: 0 1 2 3 4 6 8 12.
inline int32_t doubled_value(int32_t code) {
    const int32_t above = code - 4;
    return code + (above > 0 ? above : 0) + (code == 7 ? 2 : 0);
}

template <class Weight>
void compare_blocks(const Weight * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                    const ScaleRanges & ranges, CompareSums & sums) {
    for (int64_t b = 0; b < blocks; b++) {
        const Block block = load(weights, b);
        uint32_t largest = 0;
        for (int i = 0; i < 16; i++) {
            const uint32_t magnitude = block.bits[i] & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        const float amax = float_from_bits(largest);
        sums.largest_bits = largest > sums.largest_bits ? largest : sums.largest_bits;

        // A block scale of zero makes every value zero; anything serves as the unit then.
        const float step = e4m3_values.of[scales[b]] / global;
        const float divisor = step != 0.0f ? step : 1.0f, half = step != 0.0f ? 0.5f : 0.0f;
        uint32_t words[2]; // codes 0..7 and 8..15, lowest nibble first
        memcpy(words, codes + b * 8, sizeof words);
        float ww[16], ee[16], wq[16], qq[16];
        int32_t clipped = 0, zeroed = 0, nearest = 0;
        for (int i = 0; i < 16; i++) {
            const auto code = int32_t(words[i / 8] >> (4 * (i % 8)) & 15);
            const int32_t magnitude = code & 7;
            const float value = float(doubled_value(magnitude)) * (code & 8 ? -half : half);
            const float w = float_from_bits(block.bits[i]), x = w / divisor;
            const float ax = float_from_bits(bits_from_float(x) & 0x7fffffffu);
            const int32_t rounded = (ax > 0.25f) + (ax >= 0.75f) + (ax > 1.25f) + (ax >= 1.75f) + (ax > 2.5f) +
                                    (ax >= 3.5f) + (ax > 5.0f);
            const int32_t same_sign = (x < 0.0f) == (code >= 8);
            nearest += (rounded == magnitude) & (same_sign | (magnitude == 0));
            clipped += ax > 6.0f;
            zeroed += (magnitude == 0) & (w != 0.0f);
            const float error = x - value;
            ww[i] = x * x, ee[i] = error * error, wq[i] = x * value, qq[i] = value * value;
        }
        const float block_ww = sum_of_16(ww), block_ee = sum_of_16(ee);
        const double square = double(divisor) * double(divisor);
        sums.weight_squares += square * double(block_ww);
        sums.error_squares += square * double(block_ee);
        sums.products += square * double(sum_of_16(wq));
        sums.value_squares += square * double(sum_of_16(qq));
        sums.clipped += uint64_t(clipped), sums.zeroed += uint64_t(zeroed), sums.nearest_codes += uint64_t(nearest);

        // amax / 6 in BF16, as nvfp4::block_scale has it; the product is exact.
        const uint32_t sixth = bits_from_float(amax / 6.0f);
        const float scale = float_from_bits((sixth + 0x7fffu + (sixth >> 16 & 1)) & 0xffff0000u), product = scale * global;
        sums.nearest_scales += (product >= ranges.low[scales[b]] && product <= ranges.high[scales[b]]) ||
                               (product < ranges.low[1] && scales[b] == 0x20);
        // Rounding costs at most 4 % of a block's energy, a subnormal block scale a little more.
        sums.poor_blocks += product >= 0x1p-7f && !(block_ee <= 0.25f * block_ww);
    }
}

} // namespace

void compare_bf16(const uint16_t * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                  const ScaleRanges & ranges, CompareSums & sums) {
    compare_blocks(weights, blocks, codes, scales, global, ranges, sums);
}

void compare_f32(const float * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                 const ScaleRanges & ranges, CompareSums & sums) {
    compare_blocks(weights, blocks, codes, scales, global, ranges, sums);
}

} // namespace gnv::cpu::GNV_COMPARE_VARIANT
