#include "cpu/nvfp4_compare.h"

#include "cpu/nvfp4_compare_variants.h"
#include "cpu/nvfp4_pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

namespace gnv::cpu {

static constexpr float infinity = std::numeric_limits<float>::infinity();
static constexpr int64_t converted_blocks = 4096; // of sources that are not BF16, at a time

void Nvfp4Comparison::add(const Nvfp4Comparison & other) {
    blocks += other.blocks;
    weight_squares += other.weight_squares, error_squares += other.error_squares;
    value_squares += other.value_squares, products += other.products;
    absolute_maximum = std::max(absolute_maximum, other.absolute_maximum);
    finite = finite && other.finite;
    clipped += other.clipped, zeroed += other.zeroed;
    nearest_codes += other.nearest_codes, nearest_scales += other.nearest_scales;
    poor_blocks += other.poor_blocks;
}

// Between neighbours the middle belongs to the even one. What lies below the range of the smallest is zero, which is
// stored as 0.125.
static ScaleRanges make_ranges() {
    ScaleRanges ranges;
    for (int byte = 0; byte < 256; byte++) {
        ranges.low[byte] = infinity, ranges.high[byte] = -infinity; // nothing rounds to zero, NaN or a negative scale
        if (byte == 0 || byte > 0x7e) continue;
        const auto middle = [](int lower) { return (e4m3_values.of[lower] + e4m3_values.of[lower + 1]) / 2; };
        const bool even = byte % 2 == 0;
        const float low = middle(byte - 1), high = byte == 0x7e ? infinity : middle(byte);
        ranges.low[byte] = even ? low : std::nextafter(low, infinity);
        ranges.high[byte] = even || byte == 0x7e ? high : std::nextafter(high, 0.0f);
    }
    return ranges;
}

using CompareBf16 = decltype(&portable::compare_bf16);
using CompareF32 = decltype(&portable::compare_f32);
struct Loops {
    CompareBf16 bf16;
    CompareF32 f32;
};

static Loops best_loops() {
#ifdef __x86_64__
    const std::string_view name = nvfp4_best().name;
    if (name == "avx512") return {avx512::compare_bf16, avx512::compare_f32};
    if (name == "avx2") return {avx2::compare_bf16, avx2::compare_f32};
#endif
    return {portable::compare_bf16, portable::compare_f32};
}

// Widens a source that is F16 or F32 (which need not be aligned) piece by piece; block scales follow the plain rule.
static void compare_wide(DType source, const void * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales,
                         float global, const ScaleRanges & ranges, CompareSums & sums) {
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
        best_loops().f32(wide.data(), count, codes + first * 8, scales + first, global, ranges, sums);
        for (int64_t b = 0; b < count; b++) {
            bool finite = true;
            const float amax = nvfp4::absolute_maximum_reference(DType::f32, wide.data() + b * nvfp4::block_size,
                                                                 nvfp4::block_size, finite);
            nearest_scales += finite && nvfp4::block_scale(source, amax, global) == scales[first + b];
        }
    }
    sums.nearest_scales = nearest_scales;
}

Nvfp4Comparison compare(DType source, const void * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales,
                        float global_scale) {
    static const ScaleRanges ranges = make_ranges();
    CompareSums sums = {};
    if (source == DType::bf16) {
        best_loops().bf16(static_cast<const uint16_t *>(weights), blocks, codes, scales, global_scale, ranges, sums);
    } else {
        compare_wide(source, weights, blocks, codes, scales, global_scale, ranges, sums);
    }
    Nvfp4Comparison out;
    out.blocks = uint64_t(blocks);
    out.weight_squares = sums.weight_squares, out.error_squares = sums.error_squares;
    out.value_squares = sums.value_squares, out.products = sums.products;
    memcpy(&out.absolute_maximum, &sums.largest_bits, sizeof(float));
    out.finite = sums.largest_bits < 0x7f800000;
    out.clipped = sums.clipped, out.zeroed = sums.zeroed;
    out.nearest_codes = sums.nearest_codes, out.nearest_scales = sums.nearest_scales;
    out.poor_blocks = sums.poor_blocks;
    return out;
}

} // namespace gnv::cpu
