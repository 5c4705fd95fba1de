#include "codec/format.h"
#include "codec/nvfp4_pack.h"
#include "nvfp4_golden.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::nvfp4;

static constexpr uint16_t infinity_bits = 0x7f80;
static constexpr uint8_t sentinel = 0xa5;
static constexpr size_t margin = 64;

namespace {

// Output buffers between sentinels, at addresses as odd as wanted.
struct Guarded {
    explicit Guarded(size_t used, size_t shift = 0)
        : bytes(margin + shift + used + margin, sentinel), begin(margin + shift), size(used) {}

    std::span<uint8_t> span() { return {bytes.data() + begin, size}; }
    bool intact() const {
        const auto untouched = [](uint8_t byte) { return byte == sentinel; };
        return std::all_of(bytes.begin(), bytes.begin() + int64_t(begin), untouched) &&
               std::all_of(bytes.begin() + int64_t(begin + size), bytes.end(), untouched);
    }

    std::vector<uint8_t> bytes;
    size_t begin, size;
};

struct Packed {
    std::vector<uint8_t> codes, scales;
};

} // namespace

static Packed pack_reference(const std::vector<uint16_t> & weights, int64_t rows, int64_t columns, float global) {
    Packed packed{std::vector<uint8_t>(weights.size() / 2), std::vector<uint8_t>(weights.size() / 16)};
    quantize_reference(DType::bf16, weights.data(),
                       {rows, columns, Layout::row_major, packed.codes, packed.scales, global});
    return packed;
}

// Quantizes with every kernel; source and outputs lie `shift` bytes beyond an aligned address.
static void check_quantize(const std::vector<uint16_t> & weights, int64_t rows, int64_t columns, float global,
                           size_t shift = 0) {
    REQUIRE(int64_t(weights.size()) == rows * columns);
    const Packed expected = pack_reference(weights, rows, columns, global);
    std::vector<uint8_t> source(weights.size() * 2 + shift);
    if (!weights.empty()) memcpy(source.data() + shift, weights.data(), weights.size() * 2);
    const auto * shifted = reinterpret_cast<const uint16_t *>(source.data() + shift);
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
        CAPTURE(kernels->name);
        CAPTURE(global);
        Guarded codes(weights.size() / 2, shift), scales(weights.size() / 16, shift);
        kernels->quantize_bf16(shifted, {rows, columns, Layout::row_major, codes.span(), scales.span(), global});
        CHECK(codes.intact());
        CHECK(scales.intact());
        CHECK(std::equal(expected.scales.begin(), expected.scales.end(), scales.span().begin()));
        const auto codes_differ = std::mismatch(expected.codes.begin(), expected.codes.end(), codes.span().begin());
        if (codes_differ.first == expected.codes.end()) continue;
        const int64_t byte = codes_differ.first - expected.codes.begin();
        FAIL_CHECK("first wrong code byte: ", byte, " weights ", weights[size_t(byte) * 2], " ",
                   weights[size_t(byte) * 2 + 1]);
    }
}

static std::vector<uint16_t> all_finite_values() {
    std::vector<uint16_t> values;
    for (uint32_t bits = 0; bits < 65536; bits++)
        if ((bits & 0x7fff) < infinity_bits) values.push_back(uint16_t(bits));
    return values;
}

static const float interesting_globals[] = {1.0f,     1792.0f,  5152.0f, 26880.0f, 94.5f,
                                            0x1p-20f, 0x1p+60f, 3.3e38f, 8e-36f};

TEST_CASE("the last kernels are the portable ones") {
    REQUIRE_FALSE(nvfp4::kernels().empty());
    CHECK(std::string(nvfp4::kernels().back()->name) == "portable");
    CHECK(nvfp4::kernels().front() == &nvfp4::kernels_for(best_instruction_set()));
    std::string names;
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) names += std::string(" ") + kernels->name;
    MESSAGE("kernels tested here:", names);
}

TEST_CASE("every finite BF16 value among its neighbours") {
    const std::vector<uint16_t> values = all_finite_values(); // 65280 = 4080 blocks
    for (const float global : interesting_globals) check_quantize(values, 255, 256, global);
}

TEST_CASE("every finite BF16 value beside a larger one, in changing positions") {
    for (const int ratio : {0, 1, 2, 5}) { // the block's largest is 2^ratio times the value, and a bit
        std::vector<uint16_t> weights;
        int position = 0;
        for (const uint16_t value : all_finite_values()) {
            std::vector<uint16_t> block(16, value);
            const int magnitude = value & 0x7fff;
            block[size_t(position)] = uint16_t(std::min(magnitude + ratio * 128 + position * 7, infinity_bits - 1));
            weights.insert(weights.end(), block.begin(), block.end());
            position = (position + 5) % 16;
        }
        check_quantize(weights, 1, int64_t(weights.size()), 1792.0f);
        check_quantize(weights, int64_t(weights.size()) / 16, 16, 0x1p-40f);
    }
}

TEST_CASE("ties of the quotient and their neighbours, at every scale") {
    const float ties[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
    for (const float global : {1.0f, 1024.0f, 1792.0f, 77.0f}) {
        std::vector<uint16_t> weights;
        for (uint8_t scale = 1; scale <= 0x7e; scale++) {
            const float divisor = e4m3_value(scale) / global;
            for (int step = -1; step <= 1; step++) {
                for (const float tie : ties) {
                    const uint16_t bits = uint16_t(bf16_from_float(tie * divisor) + step);
                    weights.push_back(step == 1 && tie == 6.0f ? bf16_from_float(6.0f * divisor) : bits);
                    weights.push_back(uint16_t(bits | 0x8000));
                }
            }
        }
        check_quantize(weights, 1, int64_t(weights.size()), global);
    }
}

TEST_CASE("random blocks of every dynamic range") {
    std::mt19937 random(20240917);
    for (const int range : {0, 2, 8, 40, 250}) { // binades inside a block
        std::vector<uint16_t> weights(2048 * 16);
        for (size_t i = 0; i < weights.size(); i++) {
            const int top = int(random() >> 8) % 3 == 0 ? 254 : 100 + int(i / 16 % 40);
            const int exponent = std::max(0, top - int(random() % uint32_t(range + 1)));
            weights[i] = uint16_t((random() & 1) << 15 | uint32_t(exponent) << 7 | (random() & 127));
            if (random() % 64 == 0) weights[i] &= 0x8000;
        }
        for (const float global : interesting_globals) check_quantize(weights, 128, 256, global);
    }
}

TEST_CASE("ragged shapes and odd addresses leave their surroundings alone") {
    std::mt19937 random(3);
    for (int64_t blocks = 0; blocks <= 50; blocks++) {
        std::vector<uint16_t> weights(size_t(blocks * 16));
        for (uint16_t & value : weights) value = uint16_t((random() & 0x8000) | (0x3c00 + random() % 1024));
        check_quantize(weights, 1, blocks * 16, 500.0f, size_t(blocks % 5));
        check_quantize(weights, blocks, 16, 500.0f, 1);
    }
}

TEST_CASE("the largest magnitude, and NaN and Inf in every position") {
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
        CAPTURE(kernels->name);
        int64_t wrong = 0;
        std::vector<unsigned char> bytes(2 * 400 + 1, 0xff); // NaNs all around
        for (int64_t count = 0; count <= 300; count++) {
            auto * weights = reinterpret_cast<uint16_t *>(bytes.data() + 2 * margin + count % 2);
            std::fill(bytes.begin(), bytes.end(), 0xff);
            const uint16_t zero = 0x8000;
            for (int64_t i = 0; i < count; i++) memcpy(weights + i, &zero, 2);
            wrong += kernels->absolute_maximum_bf16(weights, count) != 0;
            for (int64_t i = 0; i < count; i++) {
                for (const uint16_t value : {uint16_t(0x8001), uint16_t(0xff7f), uint16_t(0x7f80), uint16_t(0xffc0)}) {
                    memcpy(weights + i, &value, 2);
                    wrong += kernels->absolute_maximum_bf16(weights, count) != (value & 0x7fff);
                }
                memcpy(weights + i, &zero, 2);
            }
        }
        CHECK(wrong == 0);
        CHECK(kernels->absolute_maximum_bf16(nullptr, 0) == 0);
    }
}

TEST_CASE("dequantize: every code with every scale") {
    std::vector<uint8_t> codes, scales; // two blocks a scale: codes in order, and the same with nibbles exchanged
    for (int scale = 0; scale < 256; scale++) {
        for (const bool exchanged : {false, true}) {
            scales.push_back(uint8_t(scale));
            for (int j = 0; j < 8; j++)
                codes.push_back(uint8_t(exchanged ? (2 * j) << 4 | (2 * j + 1) : (2 * j + 1) << 4 | 2 * j));
        }
    }
    const auto columns = int64_t(codes.size()) * 2;
    for (const float global : interesting_globals) {
        const ConstWeight weight = {1, columns, Layout::row_major, codes, scales, global};
        std::vector<float> expected(size_t(columns), -1.0f);
        dequantize_reference(weight, expected.data());
        for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
            CAPTURE(kernels->name);
            std::vector<float> values(size_t(columns) + 2, -1.0f);
            kernels->dequantize(weight, values.data() + 1);
            CHECK((values.front() == -1.0f && values.back() == -1.0f));
            int64_t wrong = 0;
            for (size_t i = 0; i < expected.size(); i++) {
                const bool both_nan = std::isnan(expected[i]) && std::isnan(values[i + 1]);
                wrong += !both_nan && std::bit_cast<uint32_t>(expected[i]) != std::bit_cast<uint32_t>(values[i + 1]);
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("weights of a trained checkpoint, byte for byte as llm-compressor wrote them") {
    const auto weights = test::read_golden_weights();
    REQUIRE(weights.size() == 9);
    for (const auto & weight : weights) {
        const auto global = std::bit_cast<float>(weight.global_bits);
        for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
            CAPTURE(weight.name);
            CAPTURE(kernels->name);
            Packed packed{std::vector<uint8_t>(weight.codes.size()), std::vector<uint8_t>(weight.scales.size())};
            kernels->quantize_bf16(weight.source.data(), {weight.rows, weight.columns, Layout::row_major, packed.codes,
                                                          packed.scales, global});
            CHECK((packed.codes == weight.codes));
            CHECK((packed.scales == weight.scales));
        }
    }
}

TEST_CASE("any source dtype") {
    std::vector<float> f32(96);
    std::vector<uint16_t> bf16(96), f16(96);
    for (size_t i = 0; i < 96; i++) {
        f32[i] = std::sin(float(i)) * 0.25f;
        bf16[i] = bf16_from_float(f32[i]);
        f16[i] = f16_from_float(f32[i]);
    }
    const std::pair<DType, const void *> sources[] = {
        {DType::bf16, bf16.data()}, {DType::f16, f16.data()}, {DType::f32, f32.data()}};
    for (const auto & source : sources) {
        const DType dtype = source.first;
        const void * const data = source.second;
        CAPTURE(dtype_name(dtype));
        bool finite = false, reference_finite = false;
        const float amax = absolute_maximum(best_instruction_set(), dtype, data, 96, finite);
        CHECK(amax == absolute_maximum_reference(dtype, data, 96, reference_finite));
        CHECK(finite);
        std::vector<uint8_t> codes(48), scales(6), expected_codes(48), expected_scales(6);
        const float global = global_scale(dtype, amax);
        nvfp4::quantize(best_instruction_set(), dtype, data, {3, 32, Layout::row_major, codes, scales, global});
        quantize_reference(dtype, data, {3, 32, Layout::row_major, expected_codes, expected_scales, global});
        CHECK(codes == expected_codes);
        CHECK(scales == expected_scales);
        std::vector<float> values(96), expected_values(96);
        nvfp4::dequantize(best_instruction_set(), {3, 32, Layout::row_major, codes, scales, global}, values.data());
        dequantize_reference({3, 32, Layout::row_major, codes, scales, global}, expected_values.data());
        CHECK(values == expected_values);
    }
    bf16[95] = 0xff80;
    bool finite = true;
    absolute_maximum(best_instruction_set(), DType::bf16, bf16.data(), 96, finite);
    CHECK_FALSE(finite);
}
