#include "codec/nvfp4.h"
#include "codec/scale_tiles.h"
#include "nvfp4_golden.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <map>
#include <random>
#include <set>

using namespace gnv;
using namespace gnv::nvfp4;

static constexpr float infinity = std::numeric_limits<float>::infinity();
static constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

static uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

// --- Elements --------------------------------------------------------------------------------------------------------

TEST_CASE("E2M1 values") {
    const float expected[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
    for (uint8_t code = 0; code < 8; code++) {
        CHECK(bits_of(e2m1_value(code)) == bits_of(expected[code]));
        CHECK(bits_of(e2m1_value(code | 8)) == bits_of(-expected[code]));
    }
}

// Checks a narrowing conversion against the rule itself: `value(bits)` for bits 0..largest must rise; every midpoint
// between neighbours goes to the even one, and what lies next to a midpoint in F32 to the nearer one.
template <class Value, class FromFloat>
static void check_rounding(uint32_t largest, uint32_t sign, const Value & value, const FromFloat & from_float) {
    int64_t wrong = 0;
    for (uint32_t bits = 0; bits < largest; bits++) {
        const double low = value(bits), high = value(bits + 1);
        const auto middle = float((low + high) / 2);
        if (!(low < high) || double(middle) != (low + high) / 2) wrong++; // the premise: the midpoint is an F32 number
        const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
        wrong += from_float(float(low)) != bits;
        wrong += from_float(middle) != even;
        wrong += from_float(std::nextafter(middle, infinity)) != bits + 1;
        wrong += from_float(std::nextafter(middle, 0.0f)) != bits;
        wrong += from_float(-float(low)) != (bits | sign);
        wrong += from_float(-middle) != (even | sign);
    }
    wrong += from_float(float(value(largest))) != largest;
    CHECK(wrong == 0);
}

TEST_CASE("E4M3: all bytes both ways, rounding, saturation") {
    for (int byte = 0; byte < 256; byte++) {
        const int exponent = byte >> 3 & 15, mantissa = byte & 7;
        const float value = e4m3_value(uint8_t(byte));
        CAPTURE(byte);
        if ((byte & 0x7f) == 0x7f) {
            CHECK(std::isnan(value));
            continue;
        }
        const double magnitude = exponent == 0 ? mantissa / 512.0 : (8 + mantissa) / 8.0 * std::pow(2.0, exponent - 7);
        CHECK(bits_of(value) == bits_of(float(byte & 0x80 ? -magnitude : magnitude)));
        CHECK(e4m3_from_float(value) == byte);
    }
    check_rounding(
        0x7e, 0x80, [](uint32_t bits) { return double(e4m3_value(uint8_t(bits))); }, e4m3_from_float);
    const std::map<float, float> ties = {{17.0f, 16.0f},   {19.0f, 20.0f},   {432.0f, 448.0f},
                                         {1.0625f, 1.0f},  {1.1875f, 1.25f}, {0x1p-10f, 0.0f},
                                         {464.0f, 448.0f}, {480.0f, 448.0f}, {infinity, 448.0f}};
    for (const auto & [value, rounded] : ties) {
        CHECK(e4m3_value(e4m3_from_float(value)) == rounded);
        CHECK(e4m3_value(e4m3_from_float(-value)) == -rounded);
    }
    CHECK(e4m3_from_float(std::nextafter(0x1p-10f, 1.0f)) == 0x01);
    CHECK(e4m3_from_float(std::numeric_limits<float>::max()) == 0x7e);
    CHECK(e4m3_from_float(0x1p-149f) == 0x00);
    CHECK(e4m3_from_float(-0.0f) == 0x80);
    CHECK(e4m3_from_float(nan_value) == 0x7f);
}

TEST_CASE("E4M3: random numbers go to the nearest value") {
    std::mt19937 random(1);
    for (int i = 0; i < 20000; i++) {
        const float value = std::ldexp(float(random() >> 8), int(random() % 24) - 36);
        double nearest = 1e30;
        for (uint8_t byte = 0; byte <= 0x7e; byte++)
            nearest = std::min(nearest, std::fabs(double(e4m3_value(byte)) - double(value)));
        const double distance = std::fabs(double(e4m3_value(e4m3_from_float(value))) - double(value));
        if (distance != nearest) FAIL_CHECK(value);
    }
}

TEST_CASE("BF16: all values both ways, rounding, NaN stays NaN") {
    int64_t wrong = 0;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const float value = bf16_to_float(uint16_t(bits));
        wrong += bits_of(value) != bits << 16;
        wrong +=
            std::isnan(value) ? !std::isnan(bf16_to_float(bf16_from_float(value))) : bf16_from_float(value) != bits;
    }
    CHECK(wrong == 0);
    check_rounding(
        0x7f7f, 0x8000, [](uint32_t bits) { return double(bf16_to_float(uint16_t(bits))); }, bf16_from_float);
    CHECK(bf16_from_float(std::numeric_limits<float>::max()) == 0x7f80);
    CHECK(std::isnan(bf16_to_float(bf16_from_float(std::bit_cast<float>(0x7f800001u))))); // payload in the lost bits
    std::vector<float> values;
    for (uint64_t bits = 0x7fff; bits < 0xffff8000; bits += 0xffff) // 64 bits: the last step goes beyond 32
        values.push_back(std::bit_cast<float>(uint32_t(bits)));
    REQUIRE(values.size() == 0x10001);
    std::vector<uint16_t> rounded(values.size());
    bf16_from_floats(values, rounded.data());
    wrong = 0;
    for (size_t i = 0; i < values.size(); i++) wrong += rounded[i] != bf16_from_float(values[i]);
    CHECK(wrong == 0);
}

TEST_CASE("F16: all values both ways, rounding, overflow to infinity") {
    int64_t wrong = 0;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const int exponent = int(bits >> 10 & 31), mantissa = int(bits & 1023);
        const float value = f16_to_float(uint16_t(bits));
        if (exponent == 31) {
            wrong += mantissa == 0 ? std::fabs(value) != infinity : !std::isnan(value);
        } else {
            const double magnitude =
                exponent == 0 ? mantissa * std::pow(2.0, -24) : (1024 + mantissa) * std::pow(2.0, exponent - 25);
            wrong += bits_of(value) != bits_of(float(bits & 0x8000 ? -magnitude : magnitude));
        }
        if (!std::isnan(value)) wrong += f16_from_float(value) != bits;
    }
    CHECK(wrong == 0);
    check_rounding(
        0x7bff, 0x8000, [](uint32_t bits) { return double(f16_to_float(uint16_t(bits))); }, f16_from_float);
    CHECK(f16_from_float(65519.996f) == 0x7bff);
    CHECK(f16_from_float(65520.0f) == 0x7c00);
    CHECK(f16_from_float(-1e30f) == 0xfc00);
    CHECK(f16_from_float(1e-30f) == 0);
    CHECK(std::isnan(f16_to_float(f16_from_float(nan_value))));
}

// --- Scales ----------------------------------------------------------------------------------------------------------

TEST_CASE("global scales of known maxima") {
    const std::map<uint16_t, uint32_t> known = {
        {0x3f80, 0x45280000}, {0x3fc0, 0x44e00000}, {0x3f40, 0x45600000}, {0x3dcd, 0x46d20000}, {0x3f05, 0x45a10000},
        {0x3f10, 0x45960000}, {0x3f18, 0x458e0000}, {0x420c, 0x429a0000}, {0x41e4, 0x42bd0000}, {0x0000, 0x3f800000},
    };
    for (const auto & [amax, global] : known) CHECK(bits_of(global_scale(DType::bf16, bf16_to_float(amax))) == global);
    CHECK(global_scale(DType::bf16, 7.8e-36f) == 1.0f); // 2688 / amax is beyond BF16
    CHECK(global_scale(DType::bf16, 8.0e-36f) > 3e38f);
    CHECK(global_scale(DType::f32, 0.51953125f) == 2688.0f * (1.0f / 0.51953125f));
    CHECK(global_scale(DType::f32, 0.0f) == 1.0f);
    CHECK(global_scale(DType::f16, 1.5f) == 1792.0f);
    CHECK(global_scale(DType::f16, 0.04f) == 1.0f); // 67200 is beyond F16
    CHECK(global_scale(DType::f16, 0.0f) == 1.0f);
}

TEST_CASE("two roundings: 35 of 128 mantissas differ from the directly rounded quotient") {
    int differ = 0;
    for (uint16_t mantissa = 0; mantissa < 128; mantissa++) {
        const float amax = bf16_to_float(uint16_t(0x3f00 + mantissa));
        differ += global_scale(DType::bf16, amax) != bf16_to_float(bf16_from_float(2688.0f / amax));
    }
    CHECK(differ == 35);
}

TEST_CASE("the block with the largest magnitude has the largest scale") {
    for (uint32_t bits = 0x0700; bits <= 0x7f7f; bits++) {
        const float amax = bf16_to_float(uint16_t(bits));
        if (block_scale(DType::bf16, amax, global_scale(DType::bf16, amax)) != 0x7e) FAIL_CHECK(amax);
    }
}

TEST_CASE("scales that round to zero become 0.125") {
    CHECK(block_scale(DType::bf16, 0.0f, 1.0f) == 0x20);
    CHECK(block_scale(DType::f32, 6.0f, 0x1p-10f) == 0x20);
    CHECK(block_scale(DType::f32, std::nextafter(6.0f, 7.0f), 0x1p-10f) == 0x01);
    CHECK(block_scale(DType::f32, 6.0f * 3, 0x1p-10f) == 0x02); // 1.5 steps: to even
    CHECK(block_scale(DType::bf16, 3e38f, 1.0f) == 0x7e);       // saturates
}

// --- Whole weights ---------------------------------------------------------------------------------------------------

namespace {

struct Packed {
    std::vector<uint8_t> codes, scales;
};

} // namespace

static Packed pack(DType source, const void * weights, int64_t rows, int64_t columns, float global) {
    Packed packed{std::vector<uint8_t>(size_t(rows * columns / 2)), std::vector<uint8_t>(size_t(rows * columns / 16))};
    Weight out;
    out.rows = rows, out.columns = columns, out.global_scale = global;
    out.codes = packed.codes, out.scales = packed.scales;
    quantize_reference(source, weights, out);
    return packed;
}

static std::vector<float> unpack(const Packed & packed, int64_t rows, int64_t columns, float global) {
    std::vector<float> values(size_t(rows * columns));
    ConstWeight weight;
    weight.rows = rows, weight.columns = columns, weight.global_scale = global;
    weight.codes = packed.codes, weight.scales = packed.scales;
    dequantize_reference(weight, values.data());
    return values;
}

TEST_CASE("one row with ties, zeros of both signs, tiny blocks") {
    std::vector<uint16_t> row;
    for (const float value : {0.0625f, 0.1875f, 0.3125f, 0.4375f, 0.625f, 0.875f, 1.25f, 1.5f, -0.0625f, -0.1875f,
                              -0.3125f, -0.4375f, -0.625f, -0.875f, -1.25f, -0.0f})
        row.push_back(bf16_from_float(value));
    const uint16_t usual[16] = {0x3dcd, 0xbdcd, 0x3d4d, 0xbcf6, 0x3c4a, 0xbbfc, 0x3b83, 0xbb83,
                                0x3ca4, 0x3db8, 0xbd85, 0x3d07, 0x0000, 0x3b86, 0xbc4d, 0x3d9a};
    const uint16_t subnormal[8] = {0x371a, 0xb71a, 0x3686, 0xb686, 0x3586, 0xb586, 0x3606, 0xb606};
    row.insert(row.end(), usual, usual + 16);
    row.insert(row.end(), 16, uint16_t(0));
    for (int i = 0; i < 8; i++) row.insert(row.end(), {0x3586, 0xb586});
    for (int i = 0; i < 2; i++) row.insert(row.end(), subnormal, subnormal + 8);

    bool finite = false;
    CHECK(absolute_maximum_reference(DType::bf16, row.data(), 80, finite) == 1.5f);
    CHECK(finite);
    const float global = global_scale(DType::bf16, 1.5f);
    CHECK(global == 1792.0f);
    const Packed packed = pack(DType::bf16, row.data(), 1, 80, global);
    CHECK(packed.scales == std::vector<uint8_t>{0x7e, 0x5f, 0x20, 0x20, 0x01});
    CHECK(packed.codes == std::vector<uint8_t>{
                              0x20, 0x42, 0x64, 0x76, 0xa8, 0xca, 0xec, 0x0e, // ties to even; -0.0 has code 0
                              0xf7, 0xc5, 0x91, 0x80, 0x72, 0x4e, 0x00, 0x69, // an ordinary block
                              0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // zeros
                              0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, // too small: scale 0.125, signs stay
                              0xf7, 0xe6, 0xa2, 0xc4, 0xf7, 0xe6, 0xa2, 0xc4, // subnormal scale, saturating codes
                          });

    const std::vector<float> values = unpack(packed, 1, 80, global);
    CHECK(values[1] == 0.25f);
    CHECK(values[7] == 1.5f);
    CHECK(values[14] == -1.0f);
    CHECK(bits_of(values[8]) == bits_of(-0.0f));
    CHECK(bits_of(values[15]) == bits_of(0.0f));
    CHECK(values[16] == 180.0f / 1792.0f); // 6 * 30 / G
    CHECK(values[79] == -2.0f / 512.0f / 1792.0f);
}

TEST_CASE("a fused pair shares the global scale of the larger") {
    CHECK(global_scale(DType::bf16, 0.75f) == 3584.0f);
    CHECK(global_scale(DType::bf16, std::max(0.75f, 1.5f)) == 1792.0f);
    CHECK(block_scale(DType::bf16, 0.75f, 1792.0f) == 0x76); // 224, not 448
}

TEST_CASE("a quotient that underflows to -0 has code 0, one that only rounds to zero keeps its sign") {
    std::vector<uint16_t> row(16, 0x8001); // -2^-133
    row[0] = 0x7f7f;                       // the largest: the divisor is about 2^126
    CHECK(pack(DType::bf16, row.data(), 1, 16, global_scale(DType::bf16, bf16_to_float(row[0]))).codes[1] == 0x00);
    row[0] = 0x3f80;
    CHECK(pack(DType::bf16, row.data(), 1, 16, global_scale(DType::bf16, 1.0f)).codes[1] == 0x88);
}

TEST_CASE("weights of a trained checkpoint, byte for byte as llm-compressor wrote them") {
    const auto weights = test::read_golden_weights();
    REQUIRE(weights.size() == 9);
    std::map<int, float> amax;
    for (const auto & weight : weights) {
        bool finite = false;
        const auto count = int64_t(weight.source.size());
        amax[weight.group] =
            std::max(amax[weight.group], absolute_maximum_reference(DType::bf16, weight.source.data(), count, finite));
        CHECK(finite);
    }
    for (const auto & weight : weights) {
        CAPTURE(weight.name);
        const float global = global_scale(DType::bf16, amax[weight.group]);
        CHECK(bits_of(global) == weight.global_bits);
        const Packed packed = pack(DType::bf16, weight.source.data(), weight.rows, weight.columns, global);
        CHECK((packed.scales == weight.scales));
        CHECK((packed.codes == weight.codes));
    }
}

TEST_CASE("F16 and F32 sources that hold BF16 numbers give the same bytes where the arithmetic is exact") {
    std::vector<uint16_t> bf16(64), f16(64);
    std::vector<float> f32(64);
    for (int i = 0; i < 64; i++) {
        f32[size_t(i)] = float(i - 31) * 0.09375f; // 3 * 2^-5: amax / 6 is exact in all three where |i - 31| is even
        bf16[size_t(i)] = bf16_from_float(f32[size_t(i)]);
        f16[size_t(i)] = f16_from_float(f32[size_t(i)]);
    }
    const Packed expected = pack(DType::bf16, bf16.data(), 2, 32, 1024.0f);
    for (const auto & [dtype, data] :
         {std::pair<DType, const void *>{DType::f16, f16.data()}, {DType::f32, f32.data()}}) {
        const Packed packed = pack(dtype, data, 2, 32, 1024.0f);
        CHECK((packed.codes == expected.codes));
        CHECK((packed.scales == expected.scales));
    }
    // Where it is not: 1.015625 / 6 in BF16 puts the product below the tie 1.4375, in F16 and F32 above it.
    CHECK(e4m3_value(block_scale(DType::bf16, 1.015625f, 8.5f)) == 1.375f);
    CHECK(e4m3_value(block_scale(DType::f16, 1.015625f, 8.5f)) == 1.5f);
    CHECK(e4m3_value(block_scale(DType::f32, 1.015625f, 8.5f)) == 1.5f);
}

TEST_CASE("NaN and Inf are noticed in every dtype, at any address") {
    for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
        for (const float bad : {nan_value, infinity, -infinity}) {
            unsigned char bytes[1 + 3 * 4] = {};
            const size_t size = size_t(dtype_traits(dtype).bits / 8);
            const auto store = [&](size_t index, float value) {
                const uint32_t bits = dtype == DType::f32    ? bits_of(value)
                                      : dtype == DType::bf16 ? bf16_from_float(value)
                                                             : f16_from_float(value);
                memcpy(bytes + 1 + index * size, &bits, size); // an odd address
            };
            bool finite = false;
            store(0, -2.5f), store(1, 1.0f), store(2, 0.0f);
            CHECK(absolute_maximum_reference(dtype, bytes + 1, 3, finite) == 2.5f);
            CHECK(finite);
            store(1, bad);
            absolute_maximum_reference(dtype, bytes + 1, 3, finite);
            CHECK_FALSE(finite);
        }
        bool finite = false;
        CHECK(absolute_maximum_reference(dtype, nullptr, 0, finite) == 0.0f);
        CHECK(finite);
    }
}

TEST_CASE("layout: every code and scale has its own place") {
    const int64_t rows = 3, columns = 48;
    std::set<std::pair<size_t, bool>> nibbles;
    std::set<size_t> scales;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t column = 0; column < columns; column++) {
            bool high = false;
            const size_t offset = code_offset(Layout::row_major, rows, columns, row, column, high);
            CHECK(offset < code_bytes(Layout::row_major, rows, columns));
            CHECK(nibbles.insert({offset, high}).second);
        }
        for (int64_t block = 0; block < columns / block_size; block++) {
            const size_t offset = scale_offset(Layout::row_major, rows, columns, row, block);
            CHECK(offset < scale_bytes(Layout::row_major, rows, columns));
            CHECK(scales.insert(offset).second);
        }
    }
    CHECK(code_bytes(Layout::row_major, rows, columns) == 72);
    CHECK(scale_bytes(Layout::row_major, rows, columns) == 9);
    bool high = false;
    CHECK(code_offset(Layout::row_major, rows, columns, 2, 5, high) == 50);
    CHECK(high);
    CHECK(code_bytes(Layout::row_major, 248320, 1 << 20) == 130191196160); // beyond 32 bits
}

// The documented order, byte after byte: tiles of 128 x 4 along rows of tiles; in a tile 32 groups of 16 bytes, four blocks of each
// of four rows that are 32 apart.
TEST_CASE("scales in tiles: the order that cuBLASLt documents for VEC16_UE4M3") {
    for (const auto & [rows, blocks] : {std::pair<int64_t, int64_t>{1, 1}, {128, 4}, {129, 4}, {300, 9}, {256, 128}}) {
        CAPTURE(rows);
        CAPTURE(blocks);
        int64_t next = 0;
        for (int64_t tile_row = 0; tile_row < (rows + 127) / 128; tile_row++)
            for (int64_t tile = 0; tile < (blocks + 3) / 4; tile++)
                for (int64_t group = 0; group < 32; group++)
                    for (int64_t quarter = 0; quarter < 4; quarter++)
                        for (int64_t block = 0; block < 4; block++)
                            REQUIRE(scale_tile_offset(blocks, tile_row * 128 + quarter * 32 + group,
                                                      tile * 4 + block) == next++);
        CHECK(scale_tile_bytes(rows, blocks) == next);
    }
    // Examples, by hand: the second row of tiles begins behind three tiles; rows 0 and 32 of a tile are 4 bytes apart.
    CHECK(scale_tile_offset(9, 128, 0) == 3 * 512);
    CHECK(scale_tile_offset(9, 32, 0) == 4);
    CHECK(scale_tile_offset(9, 1, 5) == 512 + 16 + 1);
}
