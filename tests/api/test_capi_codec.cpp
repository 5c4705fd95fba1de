#include "codec/nvfp4.h"
#include "ggml-nvfp4.h"
#include "nvfp4_golden.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <map>
#include <memory>

using namespace gnv;

namespace {

struct Destroy {
    void operator()(gnv_engine_t * engine) const { gnv_engine_destroy(engine); }
};
using Engine = std::unique_ptr<gnv_engine_t, Destroy>;

} // namespace

static Engine make_engine(int threads) {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = threads;
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(&options, &engine) == GNV_OK);
    return Engine(engine);
}

static std::string last_error(const Engine & engine) { return gnv_last_error(engine.get()); }

TEST_CASE("sizes, and 0 for shapes that cannot be") {
    CHECK(gnv_nvfp4_code_bytes(512, 2048) == 524288);
    CHECK(gnv_nvfp4_scale_bytes(512, 2048) == 65536);
    CHECK(gnv_nvfp4_code_bytes(0, 2048) == 0);
    const int64_t huge = std::numeric_limits<int64_t>::max();
    for (const auto & [rows, columns] :
         {std::pair<int64_t, int64_t>{1, 17}, {-1, 16}, {1, -16}, {huge, 16}, {huge, huge}}) {
        CHECK(gnv_nvfp4_code_bytes(rows, columns) == 0);
        CHECK(gnv_nvfp4_scale_bytes(rows, columns) == 0);
    }
}

TEST_CASE("a checkpoint's weights: maxima of groups, global scales, bytes, and back, whatever the threads") {
    const auto weights = test::read_golden_weights();
    REQUIRE(weights.size() == 9);
    for (const int threads : {1, 3}) {
        const Engine engine = make_engine(threads);
        std::map<int, float> amax;
        for (const auto & weight : weights) {
            float one = -1.0f;
            REQUIRE(gnv_nvfp4_absolute_maximum(engine.get(), GNV_DTYPE_BF16, weight.source.data(),
                                               int64_t(weight.source.size()), &one) == GNV_OK);
            amax[weight.group] = std::max(amax[weight.group], one);
        }
        for (const auto & weight : weights) {
            CAPTURE(weight.name);
            float global = 0.0f;
            REQUIRE(gnv_nvfp4_global_scale(engine.get(), GNV_DTYPE_BF16, amax[weight.group], &global) == GNV_OK);
            CHECK(std::bit_cast<uint32_t>(global) == weight.global_bits);
            std::vector<uint8_t> codes(weight.codes.size()), scales(weight.scales.size());
            REQUIRE(gnv_nvfp4_quantize_rows(engine.get(), GNV_DTYPE_BF16, weight.source.data(), weight.rows,
                                            weight.columns, global, codes.data(), scales.data()) == GNV_OK);
            CHECK((codes == weight.codes));
            CHECK((scales == weight.scales));
            std::vector<float> values(weight.source.size()), expected(weight.source.size());
            REQUIRE(gnv_nvfp4_dequantize_rows(engine.get(), codes.data(), scales.data(), weight.rows, weight.columns,
                                              global, values.data()) == GNV_OK);
            nvfp4::dequantize_reference({weight.rows, weight.columns, nvfp4::Layout::row_major, codes, scales, global},
                                        expected.data());
            CHECK((values == expected));
        }
    }
}

TEST_CASE("NaN and Inf are named by row and column, the first of them, in every dtype") {
    const Engine engine = make_engine(4);
    const int64_t rows = 5000, columns = 64;
    std::vector<uint8_t> codes(gnv_nvfp4_code_bytes(rows, columns)), scales(gnv_nvfp4_scale_bytes(rows, columns));
    const auto check = [&](gnv_dtype dtype, const void * weights) {
        CHECK(gnv_nvfp4_quantize_rows(engine.get(), dtype, weights, rows, columns, 1.0f, codes.data(), scales.data()) ==
              GNV_BAD_VALUE);
        CHECK(last_error(engine) == "the weight is NaN or Inf in row 3001, column 7");
        float amax = 0.0f;
        CHECK(gnv_nvfp4_absolute_maximum(engine.get(), dtype, weights, rows * columns, &amax) == GNV_BAD_VALUE);
        CHECK(last_error(engine) == "element 192071 is NaN or Inf");
    };
    std::vector<uint16_t> narrow(size_t(rows * columns), 0x3c00);
    narrow[3001 * 64 + 7] = 0xff80; // -Inf in BF16, a NaN in F16
    narrow[4999 * 64 + 63] = 0x7fc0;
    check(GNV_DTYPE_BF16, narrow.data());
    check(GNV_DTYPE_F16, narrow.data());
    std::vector<float> wide(size_t(rows * columns), 1.0f);
    wide[3001 * 64 + 7] = std::numeric_limits<float>::quiet_NaN();
    wide[3002 * 64 + 7] = std::numeric_limits<float>::infinity();
    check(GNV_DTYPE_F32, wide.data());

    std::vector<float> values(size_t(rows * columns));
    std::fill(scales.begin(), scales.end(), uint8_t(0x7e));
    scales[4000 * 4 + 2] = 0xff;
    CHECK(gnv_nvfp4_dequantize_rows(engine.get(), codes.data(), scales.data(), rows, columns, 1.0f, values.data()) ==
          GNV_BAD_VALUE);
    CHECK(last_error(engine) == "the scale is NaN in row 4000, block 2");
}

TEST_CASE("arguments that make no sense are refused with the reason") {
    const Engine engine = make_engine(1);
    const float nan_value = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    uint16_t weights[16] = {};
    uint8_t codes[8], scales[1] = {0x20};
    float values[16];
    const auto quantize = [&](gnv_dtype dtype, const void * source, int64_t rows, int64_t columns, float global) {
        return gnv_nvfp4_quantize_rows(engine.get(), dtype, source, rows, columns, global, codes, scales);
    };
    CHECK(quantize(GNV_DTYPE_BF16, weights, 1, 16, 1.0f) == GNV_OK);
    CHECK(quantize(GNV_DTYPE_BF16, weights, 1, 15, 1.0f) == GNV_INVALID_ARGUMENT);
    CHECK(last_error(engine) ==
          "a weight [1, 15]: the columns must be divisible by 16 and the whole must fit into memory");
    CHECK(quantize(GNV_DTYPE_BF16, weights, -1, 16, 1.0f) == GNV_INVALID_ARGUMENT);
    CHECK(quantize(GNV_DTYPE_BF16, weights, int64_t(1) << 60, 1 << 20, 1.0f) == GNV_INVALID_ARGUMENT);
    CHECK(quantize(gnv_dtype(3), weights, 1, 16, 1.0f) == GNV_INVALID_ARGUMENT);
    CHECK(last_error(engine) == "gnv_dtype: 3 is not in 0..2");
    for (const float global : {0.0f, -1.0f, nan_value, infinity}) {
        CHECK(quantize(GNV_DTYPE_BF16, weights, 1, 16, global) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_nvfp4_dequantize_rows(engine.get(), codes, scales, 1, 16, global, values) == GNV_INVALID_ARGUMENT);
    }
    CHECK(quantize(GNV_DTYPE_BF16, nullptr, 1, 16, 1.0f) == GNV_INVALID_ARGUMENT);
    CHECK(last_error(engine) == "an array is NULL");
    CHECK(quantize(GNV_DTYPE_BF16, nullptr, 0, 16, 1.0f) == GNV_OK); // nothing to read
    CHECK(quantize(GNV_DTYPE_BF16, nullptr, 7, 0, 1.0f) == GNV_OK);
    CHECK(gnv_nvfp4_quantize_rows(nullptr, GNV_DTYPE_BF16, weights, 1, 16, 1.0f, codes, scales) ==
          GNV_INVALID_ARGUMENT);
    CHECK(gnv_nvfp4_dequantize_rows(engine.get(), codes, scales, 1, 16, 1.0f, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_nvfp4_dequantize_rows(engine.get(), codes, scales, 1, 16, 1.0f, values) == GNV_OK);

    float out = -1.0f;
    CHECK(gnv_nvfp4_absolute_maximum(engine.get(), GNV_DTYPE_BF16, weights, 16, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_nvfp4_absolute_maximum(engine.get(), GNV_DTYPE_BF16, weights, -1, &out) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_nvfp4_absolute_maximum(engine.get(), GNV_DTYPE_BF16, nullptr, 0, &out) == GNV_OK);
    CHECK(out == 0.0f);
    CHECK(gnv_nvfp4_global_scale(engine.get(), GNV_DTYPE_BF16, 1.5f, &out) == GNV_OK);
    CHECK(out == 1792.0f);
    CHECK(gnv_nvfp4_global_scale(engine.get(), GNV_DTYPE_BF16, nan_value, &out) == GNV_BAD_VALUE);
    CHECK(gnv_nvfp4_global_scale(engine.get(), GNV_DTYPE_BF16, -1.0f, &out) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_nvfp4_global_scale(engine.get(), GNV_DTYPE_BF16, 1.0f, nullptr) == GNV_INVALID_ARGUMENT);
}
