// Statistics against numbers that another program computed from the same files, with exactly rounded sums.
#include "inspect/inspect_text.h"
#include "inspect/tensor_statistics.h"
#include "inspect_fixture.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("a BF16 tensor of 16 pieces and a small one") {
    const auto contents = open_contents(tiny_folder);
    const auto threads = make_threads(2);
    const Statistics large = measure_name(*contents, "lm_head.weight", *threads).value().values;
    CHECK(large.elements == 1048576);
    CHECK(large.zeros == 0);
    CHECK(large.minimum == -0.50390625);
    CHECK(large.maximum == 0.453125);
    CHECK(large.largest == 0.50390625);
    CHECK(large.mean == doctest::Approx(-0.0011087466170456306).epsilon(1e-13));
    CHECK(large.deviation == doctest::Approx(0.0902637546841562).epsilon(1e-13));
    CHECK(large.first_not_finite == -1);
    const Statistics small =
        measure_name(*contents, "model.language_model.layers.0.linear_attn.A_log", *threads).value().values;
    CHECK(small.mean == 2.642578125);
    CHECK(small.deviation == doctest::Approx(0.38412065231787446).epsilon(1e-14));
    CHECK(measure_name(*contents, "lm_head", *threads).status().code() == Code::not_found);
}

TEST_CASE("llm-compressor's query projection: dequantized values, codes, block scales") {
    const auto contents = open_contents(golden_folder);
    const auto threads = make_threads(3);
    const WeightStatistics weight = measure_name(*contents, layer3 + "self_attn.q_proj", *threads).value();
    CHECK(weight.values.elements == 131072);
    CHECK(weight.values.zeros == 8725);
    CHECK(weight.values.minimum == -0.38181817531585693);
    CHECK(weight.values.maximum == 0.38181817531585693);
    CHECK(weight.values.mean == doctest::Approx(-0.00013468916053582802).epsilon(1e-12));
    CHECK(weight.values.deviation == doctest::Approx(0.07944245032094535).epsilon(1e-13));
    const CodeCounts codes = {4365, 8375, 8288, 7534, 10005, 10200, 9302, 7386,
                              4360, 8594, 8186, 7668, 9890,  10121, 9394, 7404};
    CHECK(weight.codes.value() == codes);
    CHECK(weight.block_scales->minimum == 60);
    CHECK(weight.block_scales->maximum == 448);
    CHECK(weight.block_scales->largest == 2);
    CHECK(weight.block_scales->zeros + weight.block_scales->subnormals + weight.block_scales->nans == 0);
    CHECK(weight.global_scale == 7040.0f);
    CHECK(weight.input_scale == 426.0f);

    const WeightStatistics packed =
        measure_name(*contents, layer3 + "self_attn.q_proj.weight_packed", *threads).value();
    CHECK(packed.codes.value() == codes);
    CHECK(packed.values.elements == 65536); // bytes
    CHECK_FALSE(packed.block_scales);
    CHECK_FALSE(packed.global_scale);
    CHECK(measure_name(*contents, layer3 + "self_attn.q_proj.weight_scale", *threads).value().block_scales->minimum ==
          60);

    const auto json = nlohmann::json::parse(statistics_json(*contents, weight));
    CHECK(json["schema"] == "ggml-nvfp4.inspect.1");
    CHECK(json["codes"] == codes);
    CHECK(json["standard_deviation"] == weight.values.deviation);
    CHECK(json["shape"] == std::vector<int>{512, 256});
    const std::string text = statistics_text(*contents, weight);
    CHECK(text.find("block scales        60 to 448") != std::string::npos);
    CHECK(text.find("     7      6   7,386  5.64") != std::string::npos);
}

TEST_CASE("threads change no bit") {
    const auto contents = open_contents(tiny_folder);
    const auto one = make_threads(1);
    const WeightStatistics expected = measure_name(*contents, "lm_head.weight", *one).value();
    for (const int count : {2, 5}) {
        const auto threads = make_threads(count);
        CHECK(statistics_json(*contents, measure_name(*contents, "lm_head.weight", *threads).value()) ==
              statistics_json(*contents, expected));
        CHECK(measure_name(*contents, "lm_head.weight", *threads).value().values.mean == expected.values.mean);
    }
}

TEST_CASE("NaN and Inf are counted, placed, and kept out of the rest") {
    const ScratchFolder scratch;
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> far(200'000, 3);
    far[150'001] = -inf, far[150'002] = nan, far[7] = 5;
    const std::string folder = save_folder(
        scratch, "bad",
        {make_tensor<float>("mixed", DType::f32, {2, 3}, {nan, 2, -4, inf, 0, -inf}),
         make_tensor("far", DType::f32, {200'000}, far), make_tensor<float>("none", DType::f32, {2}, {nan, inf}),
         make_tensor<float>("empty", DType::f32, {0, 4}, {}), make_tensor<float>("scalar", DType::f32, {}, {-2}),
         make_tensor<uint8_t>("six", DType::f6_e2m3, {4}, {1, 2, 3})});
    const auto contents = open_contents(folder);
    const auto threads = make_threads(2);
    const auto measured = [&](const char * name) { return measure_name(*contents, name, *threads).value().values; };
    const Statistics mixed = measured("mixed");
    CHECK(mixed.nans == 1);
    CHECK(mixed.infinities == 2);
    CHECK(mixed.zeros == 1);
    CHECK(mixed.first_not_finite == 0);
    CHECK(mixed.minimum == -4);
    CHECK(mixed.maximum == 2);
    CHECK(mixed.largest == 4);
    CHECK(mixed.mean == doctest::Approx(-2.0 / 3).epsilon(1e-15));
    CHECK(mixed.deviation == doctest::Approx(std::sqrt(56.0 / 9)).epsilon(1e-15));
    CHECK(measured("far").first_not_finite == 150'001);
    CHECK(measured("far").maximum == 5);
    CHECK(measured("none").finite() == 0);
    CHECK(measured("none").minimum == 0);
    CHECK(measured("empty").elements == 0);
    CHECK(measured("scalar").mean == -2);
    CHECK(measured("scalar").deviation == 0);
    CHECK(measure_name(*contents, "six", *threads).status().code() == Code::unsupported);
}

TEST_CASE("damaged scales show: NaN and zero block scales, a global scale of zero") {
    const ScratchFolder scratch;
    const auto save = [&](const char * name, std::vector<uint8_t> scales, float global) {
        return save_folder(scratch, name,
                           {make_tensor("x.weight_packed", DType::u8, {1, 16}, std::vector<uint8_t>(16, 0x22)),
                            make_tensor("x.weight_scale", DType::f8_e4m3, {1, 2}, scales),
                            make_tensor<float>("x.weight_global_scale", DType::f32, {1}, {global})});
    };
    const auto threads = make_threads(1);
    const auto bad = open_contents(save("bad", {0x7f, 0x81}, 1));
    const WeightStatistics weight = measure_name(*bad, "x", *threads).value();
    CHECK(weight.values.nans == 16);
    CHECK(weight.values.first_not_finite == 0);
    CHECK(weight.values.minimum == -0x1p-9);
    CHECK(weight.block_scales->nans == 1);
    CHECK(weight.block_scales->subnormals == 1);
    CHECK(weight.block_scales->negatives == 1);
    const auto zero = open_contents(save("zero", {0x38, 0x00}, 0));
    const Statistics values = measure_name(*zero, "x", *threads).value().values;
    CHECK(values.infinities == 16);
    CHECK(values.nans == 16);
}

TEST_CASE("any range of numbers: inside blocks, across pieces, of dequantized weights") {
    const auto contents = open_contents(golden_folder);
    const Numbers numbers =
        Numbers::of_module(*contents, uint32_t(contents->find_module(layer3 + "mlp.experts.17.up_proj"))).take();
    CHECK(numbers.shape() == std::vector<int64_t>{64, 256});
    NumberBuffers buffers;
    double values[5] = {};
    REQUIRE(numbers.read(0, 5, buffers, values).ok());
    const double expected[] = {0.0535714291036129, 0.004464285913854837, -0.02678571455180645, 0.0357142873108387,
                               0.0535714291036129};
    for (int i = 0; i < 5; i++) CHECK(values[i] == expected[i]);
    REQUIRE(numbers.read(3 * 256 + 5, 1, buffers, values).ok());
    CHECK(values[0] == -0.02321428619325161);
    std::vector<double> all(16384), part(1000);
    REQUIRE(numbers.read(0, 16384, buffers, all.data()).ok());
    REQUIRE(numbers.read(15384, 1000, buffers, part.data()).ok());
    CHECK(std::equal(part.begin(), part.end(), all.end() - 1000));
}

TEST_CASE("a file that changes meanwhile is noticed") {
    const ScratchFolder scratch;
    const std::string folder = save_folder(scratch, "any", {make_tensor<float>("w", DType::f32, {2}, {1, 2})});
    const auto contents = open_contents(folder);
    REQUIRE(File::open_write(folder + "/model.safetensors").value().write("x", 1, 0).ok());
    CHECK(measure_name(*contents, "w", *make_threads(1)).status().code() == Code::changed);
}
