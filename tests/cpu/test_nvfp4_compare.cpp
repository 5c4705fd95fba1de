// Error figures against a plain computation in double, and every variant against the portable one, bit for bit.
#include "codec/nvfp4_compare.h"
#include "codec/nvfp4_compare_variants.h"
#include "codec/nvfp4_pack.h"
#include "nvfp4_golden.h"

#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#ifdef __x86_64__
#include <immintrin.h>
#endif

using namespace gnv;
using namespace gnv::nvfp4;

namespace {

struct Packed {
    std::vector<uint16_t> weights;
    std::vector<uint8_t> codes, scales;
    float global = 1;

    explicit Packed(std::vector<uint16_t> source) : weights(std::move(source)) {
        codes.resize(weights.size() / 2), scales.resize(weights.size() / 16);
        bool finite;
        global = global_scale(DType::bf16,
                              absolute_maximum_reference(DType::bf16, weights.data(), int64_t(weights.size()), finite));
        quantize_reference(DType::bf16, weights.data(),
                           {1, int64_t(weights.size()), Layout::row_major, codes, scales, global});
    }
    int64_t blocks() const { return int64_t(scales.size()); }
    nvfp4::Comparison compare() const {
        return nvfp4::compare(best_instruction_set(), DType::bf16, weights.data(), blocks(), codes.data(),
                              scales.data(), global);
    }
    std::vector<float> values() const {
        std::vector<float> out(weights.size());
        dequantize_reference({1, int64_t(weights.size()), Layout::row_major, codes, scales, global}, out.data());
        return out;
    }
};

std::vector<uint16_t> random_weights(size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<uint16_t> weights(count);
    for (uint16_t & bits : weights) {
        const float value = float(int32_t(random())) * 0x1p-31f * std::exp2(float(random() % 12) - 10);
        bits = random() % 50 == 0 ? uint16_t(random() % 2 << 15) : bf16_from_float(value); // zeros of both signs, too
    }
    return weights;
}

} // namespace

TEST_CASE("llm-compressor's bytes are the nearest codes and scales") {
    const auto golden = test::read_golden_weights();
    REQUIRE(!golden.empty());
    for (const test::GoldenWeight & weight : golden) {
        float global;
        memcpy(&global, &weight.global_bits, sizeof global);
        const auto figures =
            nvfp4::compare(best_instruction_set(), DType::bf16, weight.source.data(), int64_t(weight.scales.size()),
                           weight.codes.data(), weight.scales.data(), global);
        CAPTURE(weight.name);
        CHECK(figures.nearest_codes == weight.source.size());
        CHECK(figures.nearest_scales == weight.scales.size());
        CHECK(figures.far_weights == 0);
        CHECK(figures.finite);
    }
}

TEST_CASE("sums and counts against a plain computation") {
    Packed packed(random_weights(16 * 999, 1));
    std::mt19937 random(2);
    for (uint8_t & byte : packed.codes)
        if (random() % 10 == 0) byte = uint8_t(random()); // codes of every kind
    const std::vector<float> values = packed.values();
    double ww = 0, ee = 0, wq = 0, qq = 0;
    uint64_t clipped = 0, zeroed = 0;
    float amax = 0;
    for (size_t i = 0; i < values.size(); i++) {
        const float w = bf16_to_float(packed.weights[i]);
        ww += double(w) * w, ee += (double(w) - values[i]) * (double(w) - values[i]);
        wq += double(w) * values[i], qq += double(values[i]) * values[i];
        const float divisor = e4m3_value(packed.scales[i / 16]) / packed.global;
        clipped += std::fabs(w / divisor) > 6;
        zeroed += w != 0 && values[i] == 0;
        amax = std::max(amax, std::fabs(w));
    }
    const auto figures = packed.compare();
    CHECK(figures.weight_squares == doctest::Approx(ww).epsilon(1e-6));
    CHECK(figures.error_squares == doctest::Approx(ee).epsilon(1e-6));
    CHECK(figures.products() == doctest::Approx(wq).epsilon(1e-6));
    CHECK(figures.value_squares == doctest::Approx(qq).epsilon(1e-6));
    CHECK(figures.clipped == clipped);
    CHECK(figures.zeroed == zeroed);
    CHECK(figures.absolute_maximum == amax);
    CHECK(figures.blocks == 999);
    CHECK(figures.nearest_codes < values.size());
    CHECK(figures.far_weights > 0);
}

TEST_CASE("all variants give the same bits") {
    Packed packed(random_weights(16 * 1234, 3));
    for (size_t i = 0; i < packed.scales.size(); i += 7) packed.scales[i] = uint8_t(i); // zero, NaN and negative scales
    packed.weights[5] = 0x7f80, packed.weights[99] = 0xffc0;
    const auto run = [&](auto compare) {
        nvfp4::CompareSums sums = {};
        compare(packed.weights.data(), packed.blocks(), packed.codes.data(), packed.scales.data(), packed.global, 1.0f,
                nvfp4::compare_tables(), sums);
        return sums;
    };
    const nvfp4::CompareSums expected = run(nvfp4::portable::compare_bf16);
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
        CAPTURE(kernels->name);
        nvfp4::CompareSums sums = expected;
#ifdef __x86_64__
        if (kernels->name == std::string("avx2")) sums = run(nvfp4::avx2::compare_bf16);
        if (kernels->name == std::string("avx512")) sums = run(nvfp4::avx512::compare_bf16);
#endif
        CHECK(sums.clipped == expected.clipped);
        CHECK(sums.nearest_codes == expected.nearest_codes);
        CHECK(sums.nearest_scales == expected.nearest_scales);
        CHECK(sums.far_weights == expected.far_weights);
        CHECK(sums.largest_bits == expected.largest_bits);
        // Sums hold NaN here: equal as numbers, or both none.
        for (int i = 0; i < 16; i++) CHECK(std::isnan(sums.error_squares[i]) == std::isnan(expected.error_squares[i]));
    }
    packed = Packed(random_weights(16 * 1234, 4));
    const nvfp4::CompareSums finite = run(nvfp4::portable::compare_bf16);
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
        nvfp4::CompareSums sums = finite;
#ifdef __x86_64__
        if (kernels->name == std::string("avx2")) sums = run(nvfp4::avx2::compare_bf16);
        if (kernels->name == std::string("avx512")) sums = run(nvfp4::avx512::compare_bf16);
#endif
        CHECK(memcmp(&sums, &finite, sizeof sums) == 0);
    }
}

#ifdef __x86_64__
// The loops divide by multiplying, then correct the quotient by its remainder. Nothing but the significands decides
// whether that is right: all 2^7 of BF16 against every 13th (a prime) of the 2^23 of F32; against all it takes 13 times
// as long and holds, too.
__attribute__((target("avx2,fma"))) static uint64_t wrong_quotients() {
    uint64_t wrong = 0;
    for (uint32_t first = 0; first < 1u << 23; first += 8 * 13) {
        const __m256i steps = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(13));
        const __m256i significand = _mm256_add_epi32(_mm256_set1_epi32(int(first)), steps);
        const __m256 divisor = _mm256_castsi256_ps(
            _mm256_or_si256(_mm256_set1_epi32(0x3f800000), _mm256_and_si256(significand, _mm256_set1_epi32(0x7fffff))));
        const __m256 inverse = _mm256_div_ps(_mm256_set1_ps(1), divisor);
        for (int bits = 0x3f80; bits < 0x4000; bits++) {
            const __m256 weight = _mm256_castsi256_ps(_mm256_set1_epi32(bits << 16));
            const __m256 first_quotient = _mm256_mul_ps(weight, inverse);
            const __m256 rest = _mm256_fnmadd_ps(first_quotient, divisor, weight);
            const __m256 quotient = _mm256_fmadd_ps(rest, inverse, first_quotient);
            const __m256 different = _mm256_cmp_ps(quotient, _mm256_div_ps(weight, divisor), _CMP_NEQ_UQ);
            wrong += uint64_t(__builtin_popcount(unsigned(_mm256_movemask_ps(different))));
        }
    }
    return wrong;
}

TEST_CASE("a corrected product is the rounded quotient") {
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) CHECK(wrong_quotients() == 0);
}
#endif

// Weights and scales of every size, so that some runs multiply and others divide.
TEST_CASE("all variants give the same bits from the smallest numbers to the largest") {
    std::mt19937 random(7);
    for (const float global :
         {0x1p-100f, 0x1p-37f, 0x1p-36f, 0x1p-20f, 1.0f, 3.7f, 5152.0f, 0x1.9p+36f, 0x1p+37f, 0x1p+90f}) {
        const int64_t blocks = 64 * 40 + 5;
        const float unit = std::ldexp(1.0f, std::ilogb(global) - 11);
        std::vector<uint16_t> weights(size_t(blocks * 16));
        std::vector<uint8_t> codes(size_t(blocks * 8)), scales(static_cast<size_t>(blocks));
        for (size_t i = 0; i < weights.size(); i++) { // the last blocks of each 64 hold the widest range
            const int spread = i / 16 % 64 < 60 ? 8 : int(i / 1024 * 6);
            const int exponent = 127 + 6 - std::ilogb(global) + int(random() % uint32_t(2 * spread + 1)) - spread;
            weights[i] = uint16_t((random() & 0x807f) | uint32_t(std::clamp(exponent, 0, 254)) << 7);
        }
        for (uint8_t & byte : codes) byte = uint8_t(random());
        for (uint8_t & byte : scales) byte = uint8_t(1 + random() % 0x7e);
        const auto run = [&](auto compare) {
            nvfp4::CompareSums sums = {};
            compare(weights.data(), blocks, codes.data(), scales.data(), global, unit, nvfp4::compare_tables(), sums);
            return sums;
        };
        [[maybe_unused]] const nvfp4::CompareSums expected = run(nvfp4::portable::compare_bf16);
        CAPTURE(global);
        CHECK(expected.clipped > 0);
        CHECK(expected.far_weights > 0);
        CHECK(expected.nearest_codes > 0);
#ifdef __x86_64__
        for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
            nvfp4::CompareSums sums = expected;
            if (kernels->name == std::string("avx2")) sums = run(nvfp4::avx2::compare_bf16);
            if (kernels->name == std::string("avx512")) sums = run(nvfp4::avx512::compare_bf16);
            CAPTURE(kernels->name);
            CHECK(memcmp(&sums, &expected, sizeof sums) == 0);
        }
#endif
    }
}

TEST_CASE("the nearest block scale, for every maximum") {
    for (const float global : {1.0f, 1792.0f, 5152.0f, 0x1p-20f, 0x1p+60f}) {
        for (uint32_t bits = 0; bits < 0x7f80; bits++) {
            uint16_t weights[16] = {uint16_t(bits)};
            const uint8_t right = block_scale(DType::bf16, bf16_to_float(uint16_t(bits)), global);
            const uint8_t codes[8] = {};
            const uint8_t near[] = {right, uint8_t(right - 1), uint8_t(right + 1)};
            for (int i = 0; i < 3; i++) {
                const auto figures =
                    nvfp4::compare(best_instruction_set(), DType::bf16, weights, 1, codes, near + i, global);
                if (figures.nearest_scales != uint64_t(i == 0))
                    FAIL_CHECK("maximum ", bits, " global ", global, " scale ", int(near[i]));
            }
        }
    }
}

TEST_CASE("blocks of zeros under scales of zero lose nothing, others all") {
    const uint16_t zeros[16] = {}, ones[16] = {0x3f80};
    const uint8_t codes[8] = {}, scale = 0;
    const auto nothing = nvfp4::compare(best_instruction_set(), DType::bf16, zeros, 1, codes, &scale, 1);
    CHECK(nothing.error_squares == 0);
    CHECK(nothing.far_weights == 0);
    const auto all = nvfp4::compare(best_instruction_set(), DType::bf16, ones, 1, codes, &scale, 1);
    CHECK(all.error_squares == 1);
    CHECK(all.weight_squares == 1);
    CHECK(all.far_weights == 1);
}

TEST_CASE("sources of other dtypes") {
    const Packed packed(random_weights(16 * 5000, 5));
    std::vector<float> wide;
    for (const uint16_t bits : packed.weights) wide.push_back(bf16_to_float(bits));
    std::vector<uint8_t> codes(packed.codes), scales(packed.scales);
    bool finite;
    const float global =
        global_scale(DType::f32, absolute_maximum_reference(DType::f32, wide.data(), int64_t(wide.size()), finite));
    quantize_reference(DType::f32, wide.data(), {1, int64_t(wide.size()), Layout::row_major, codes, scales, global});
    const auto figures = nvfp4::compare(best_instruction_set(), DType::f32, wide.data(), packed.blocks(), codes.data(),
                                        scales.data(), global);
    CHECK(figures.nearest_codes == wide.size());
    CHECK(figures.nearest_scales == scales.size());
    CHECK(figures.weight_squares == doctest::Approx(packed.compare().weight_squares));

    const uint16_t infinite[16] = {0x7c00}; // F16
    CHECK_FALSE(nvfp4::compare(best_instruction_set(), DType::f16, infinite, 1, codes.data(), scales.data(), 1).finite);
}
