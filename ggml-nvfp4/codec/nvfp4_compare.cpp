#include "codec/nvfp4_compare.h"

#include "codec/nvfp4_compare_variants.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace gnv::nvfp4 {

static constexpr float infinity = std::numeric_limits<float>::infinity();
static constexpr int64_t converted_blocks = 4096; // of sources that are not BF16, at a time

void Comparison::add(const Comparison & other) {
    blocks += other.blocks;
    weight_squares += other.weight_squares, error_squares += other.error_squares;
    value_squares += other.value_squares;
    absolute_maximum = std::max(absolute_maximum, other.absolute_maximum);
    finite = finite && other.finite;
    clipped += other.clipped, zeroed += other.zeroed;
    nearest_codes += other.nearest_codes, nearest_scales += other.nearest_scales;
    far_weights += other.far_weights;
}

// The bounds of the numbers that round to `value`: the middles to its neighbours, which belong to the even code.
static void set_range(bool even, float below, float value, float above, float & low, float & high) {
    const float lower = (below + value) / 2, upper = (value + above) / 2;
    low = even ? lower : std::nextafter(lower, infinity);
    high = even ? upper : std::nextafter(upper, -infinity);
}

static CompareTables make_tables() {
    CompareTables tables;
    for (int code = 0; code < 8; code++) {
        const float below = code == 0 ? -nvfp4::e2m1_value(1) : nvfp4::e2m1_value(uint8_t(code - 1));
        const float above = code == 7 ? infinity : nvfp4::e2m1_value(uint8_t(code + 1));
        tables.value[code] = nvfp4::e2m1_value(uint8_t(code));
        set_range(code % 2 == 0, below, tables.value[code], above, tables.code_low[code], tables.code_high[code]);
        tables.value[8 + code] = -tables.value[code];
        tables.code_low[8 + code] = -tables.code_high[code], tables.code_high[8 + code] = -tables.code_low[code];
    }
    for (int byte = 0; byte < 256; byte++) {
        for (int i = 0; i < 2; i++) {
            const int code = byte >> 4 * i & 15;
            CodePair & pair = tables.pairs[byte];
            pair.size[i] = tables.value[code & 7];
            pair.low[i] = tables.code_low[code & 7], pair.high[i] = tables.code_high[code & 7];
            pair.sign[i] = code & 8 ? 0x80000000u : 0;
        }
    }
    return tables;
}

const CompareTables & compare_tables() {
    static const CompareTables tables = make_tables();
    return tables;
}

using CompareBf16 = decltype(&portable::compare_bf16);
using CompareF32 = decltype(&portable::compare_f32);
struct Loops {
    CompareBf16 bf16;
    CompareF32 f32;
};

static Loops loops_for(InstructionSet set) {
#ifdef __x86_64__
    if (set == InstructionSet::avx512) return {avx512::compare_bf16, avx512::compare_f32};
    if (set == InstructionSet::avx2) return {avx2::compare_bf16, avx2::compare_f32};
#endif
    (void)set;
    return {portable::compare_bf16, portable::compare_f32};
}

// Widens an F16 or F32 source (at any alignment) piece by piece; block scales follow the plain rule.
static void compare_wide(InstructionSet set, DType source, const void * weights, int64_t blocks, const uint8_t * codes,
                         const uint8_t * scales, float global, float unit, const CompareTables & tables,
                         CompareSums & sums) {
    std::vector<float> wide(size_t(converted_blocks * nvfp4::block_size));
    const auto * bytes = static_cast<const uint8_t *>(weights);
    const size_t element = size_t(dtype_traits(source).bits) / 8;
    uint64_t nearest_scales = 0;
    for (int64_t first = 0; first < blocks; first += converted_blocks) {
        const int64_t count = std::min(converted_blocks, blocks - first), elements = count * nvfp4::block_size;
        for (int64_t i = 0; i < elements; i++) {
            const uint8_t * at = bytes + size_t(first * nvfp4::block_size + i) * element;
            uint16_t half;
            memcpy(&half, at, sizeof half);
            if (source == DType::f32) {
                memcpy(&wide[size_t(i)], at, sizeof(float));
            } else {
                wide[size_t(i)] = nvfp4::f16_to_float(half);
            }
        }
        loops_for(set).f32(wide.data(), count, codes + first * 8, scales + first, global, unit, tables, sums);
        for (int64_t b = 0; b < count; b++) {
            bool finite = true;
            const float amax = nvfp4::absolute_maximum_reference(DType::f32, wide.data() + b * nvfp4::block_size,
                                                                 nvfp4::block_size, finite);
            nearest_scales += finite && nvfp4::block_scale(source, amax, global) == scales[first + b];
        }
    }
    sums.nearest_scales = nearest_scales;
}

// A power of two that brings weights with this global scale near one, so that no square leaves the range of F32.
static float unit_for(float global) {
    if (!std::isfinite(global) || global <= 0) return 1;
    return std::ldexp(1.0f, std::clamp(std::ilogb(global) - 11, -120, 120));
}

// In a fixed tree.
static double sum_of_lanes(const double * lanes) {
    double sums[8];
    for (int i = 0; i < 8; i++) sums[i] = lanes[i] + lanes[i + 8];
    for (int i = 0; i < 4; i++) sums[i] += sums[i + 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

Comparison compare(InstructionSet set, DType source, const void * weights, int64_t blocks, const uint8_t * codes,
                   const uint8_t * scales, float global_scale) {
    const CompareTables & tables = compare_tables();
    const float unit = unit_for(global_scale);
    CompareSums sums = {};
    if (source == DType::bf16) {
        loops_for(set).bf16(static_cast<const uint16_t *>(weights), blocks, codes, scales, global_scale, unit, tables,
                            sums);
    } else {
        compare_wide(set, source, weights, blocks, codes, scales, global_scale, unit, tables, sums);
    }
    const double square = 1 / (double(unit) * double(unit));
    Comparison out;
    out.blocks = uint64_t(blocks);
    out.weight_squares = square * sum_of_lanes(sums.weight_squares);
    out.error_squares = square * sum_of_lanes(sums.error_squares);
    out.value_squares = square * sum_of_lanes(sums.value_squares);
    memcpy(&out.absolute_maximum, &sums.largest_bits, sizeof(float));
    out.finite = sums.largest_bits < 0x7f800000;
    out.clipped = sums.clipped, out.zeroed = sums.zeroed;
    out.nearest_codes = sums.nearest_codes, out.nearest_scales = sums.nearest_scales;
    out.far_weights = sums.far_weights;
    return out;
}

} // namespace gnv::nvfp4
