#include "inspect/comparison.h"
#include "inspect/inspect_text.h"
#include "inspect_fixture.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

namespace {

Comparison compare_folders(const Contents & here, const Contents & there, int threads = 2) {
    return compare(here, there, *make_threads(threads), {}).take();
}

const ComparedItem & item_of(const Comparison & comparison, const std::string & name) {
    for (const ComparedItem & item : comparison.items)
        if (item.name == name) return item;
    FAIL(name << " is not among the differences");
    return comparison.items.front();
}

std::vector<std::string> names_of(const Comparison & comparison, Difference difference) {
    std::vector<std::string> names;
    for (const ComparedItem & item : comparison.items)
        if (item.difference == difference) names.push_back(item.name);
    return names;
}

} // namespace

// The numbers come from another program that decoded both files.
TEST_CASE("llm-compressor's weights against the source, fused experts included") {
    const auto golden = open_contents(golden_folder), tiny = open_contents(tiny_folder);
    const Comparison comparison = compare_folders(*golden, *tiny);
    CHECK(comparison.count(Difference::quantized) == 16);
    const ComparedItem & query = item_of(comparison, layer3 + "self_attn.q_proj");
    CHECK(query.role == "attention q");
    CHECK(query.here == "nvfp4 [512, 256]");
    CHECK(query.there == "BF16 [512, 256]");
    CHECK(query.errors->relative_squared_error() == doctest::Approx(0.009143985867131962).epsilon(1e-12));
    CHECK(query.errors->sqnr_db() == doctest::Approx(20.388644538541726).epsilon(1e-12));
    CHECK(query.errors->cosine() == doctest::Approx(0.995425547687352).epsilon(1e-13));
    CHECK(query.errors->max_absolute == 0.05571731925010681);
    CHECK(query.errors->max_relative == 1);
    CHECK(query.errors->different == 131072);
    CHECK(query.errors->not_finite == 0);
    const ComparedItem & expert = item_of(comparison, layer3 + "mlp.experts.17.up_proj");
    CHECK(expert.errors->elements == 16384);
    CHECK(expert.errors->relative_squared_error() == doctest::Approx(0.00906113510043692).epsilon(1e-12));
    CHECK(expert.errors->cosine() == doctest::Approx(0.9954646072633968).epsilon(1e-13));
    // Experts that the subset lacks are only there, by name; so are whole tensors it lacks.
    const auto absent = names_of(comparison, Difference::only_there);
    CHECK(std::count(absent.begin(), absent.end(), layer3 + "mlp.experts.16.up_proj") == 1);
    CHECK(std::count(absent.begin(), absent.end(), layer3 + "mlp.experts.17.up_proj") == 0);
    CHECK(std::count(absent.begin(), absent.end(), "model.language_model.layers.2.mlp.experts.down_proj") == 1);

    const Comparison turned = compare_folders(*tiny, *golden, 1);
    CHECK(turned.count(Difference::quantized) == 16);
    const NumberErrors & same = *item_of(turned, layer3 + "self_attn.q_proj").errors;
    CHECK(same.relative_squared_error() == query.errors->relative_squared_error()); // relative to the source here too
    CHECK(turned.count(Difference::only_here) == comparison.count(Difference::only_there));
}

TEST_CASE("both layouts of experts hold the same weights") {
    const ScratchFolder scratch;
    REQUIRE(make_directory(scratch / "split").ok());
    const auto fused = load_tensors(tiny_folder);
    save_tensors(scratch / "split", split_experts(fused), 2);
    copy_other_files(tiny_folder, scratch / "split");
    const auto here = open_contents(scratch / "split"), there = open_contents(tiny_folder);
    CHECK(compare_folders(*here, *there).items.empty());
    const Comparison turned = compare_folders(*there, *here);
    CHECK(turned.items.empty());
    CHECK(turned.equal == 205 - 18 + 9 * 32 * 3);
}

TEST_CASE("each kind of difference") {
    const ScratchFolder scratch;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto here = open_contents(save_folder(
        scratch, "here",
        {make_tensor<float>("same", DType::f32, {2}, {1, nan}),
         make_tensor<float>("value", DType::f32, {4}, {1, 2, 3, -4}),
         make_tensor<float>("nan", DType::f32, {2}, {nan, 1}),
         make_tensor<uint16_t>("dtype", DType::bf16, {2}, {0x3f80, 0x4000}),
         make_tensor<float>("shape", DType::f32, {2, 1}, {1, 2}), make_tensor<float>("mine", DType::f32, {1}, {1}),
         make_tensor<uint8_t>("six", DType::f6_e2m3, {4}, {1, 2, 3}),
         make_tensor<float>("sign", DType::f32, {1}, {0.0f}), make_tensor<float>("empty", DType::f32, {0}, {})}));
    const auto there = open_contents(save_folder(
        scratch, "there",
        {make_tensor<float>("same", DType::f32, {2}, {1, nan}),
         make_tensor<float>("value", DType::f32, {4}, {1, 2, 2, -4}),
         make_tensor<float>("nan", DType::f32, {2}, {1, 1}), make_tensor<float>("dtype", DType::f32, {2}, {1, 2}),
         make_tensor<float>("shape", DType::f32, {2}, {1, 2}), make_tensor<float>("yours", DType::f32, {1}, {1}),
         make_tensor<uint8_t>("six", DType::f6_e2m3, {4}, {1, 2, 4}),
         make_tensor<float>("sign", DType::f32, {1}, {-0.0f}), make_tensor<float>("empty", DType::f32, {0}, {})}));
    const Comparison comparison = compare_folders(*here, *there);
    CHECK(comparison.equal == 2);
    using Names = std::vector<std::string>;
    CHECK(names_of(comparison, Difference::only_here) == Names{"mine"});
    CHECK(names_of(comparison, Difference::only_there) == Names{"yours"});
    CHECK(comparison.count(Difference::form) == 2);
    CHECK(comparison.count(Difference::values) == 4);

    const NumberErrors & value = *item_of(comparison, "value").errors;
    CHECK(value.different == 1);
    CHECK(value.first_different == 2);
    CHECK(value.max_absolute == 1);
    CHECK(value.max_relative == 0.5);
    CHECK(value.relative_squared_error() == 1.0 / 25);
    CHECK(value.cosine() == doctest::Approx(27 / std::sqrt(30.0 * 25)).epsilon(1e-15));
    CHECK(item_of(comparison, "nan").errors->not_finite == 1);
    CHECK(item_of(comparison, "nan").errors->first_different == 0);
    CHECK(item_of(comparison, "dtype").difference == Difference::form);
    CHECK(item_of(comparison, "dtype").errors->different == 0); // the same numbers in another dtype
    CHECK(item_of(comparison, "dtype").errors->sqnr_db() == std::numeric_limits<double>::infinity());
    CHECK_FALSE(item_of(comparison, "shape").errors);
    CHECK_FALSE(item_of(comparison, "six").errors); // no numbers, but the bytes differ
    CHECK(item_of(comparison, "sign").errors->different == 0);

    const auto json = nlohmann::json::parse(comparison_json(*here, *there, comparison));
    CHECK(json["equal"] == 2);
    CHECK(json["values"].size() == 4);
    CHECK(json["only_there"][0] == nlohmann::json{{"name", "yours"}, {"role", ""}, {"there", "F32 [1]"}});
    CHECK(json["form"][0]["sqnr_db"].is_null());
    const std::string text = comparison_text(*here, *there, comparison, 1);
    CHECK(text.find(
              "2 equal, 4 with other values, 2 with another dtype or shape, 0 quantized on one side, 1 only here, 1 "
              "only there") != std::string::npos);
    CHECK(text.find("... and 3 more") != std::string::npos);
}

TEST_CASE("two quantized weights: equal bytes, or the difference of what they mean") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(golden_folder);
    find_tensor(tensors, layer3 + "self_attn.q_proj.weight_packed").data[3] ^= 0x10;
    const auto here = open_contents(save_folder(scratch, "changed", tensors)), there = open_contents(golden_folder);
    const Comparison comparison = compare_folders(*here, *there);
    CHECK(comparison.equal == here->checkpoint().tensors().size() - 16 * 4 + 15);
    REQUIRE(comparison.items.size() == 1);
    CHECK(comparison.items[0].difference == Difference::values);
    CHECK(comparison.items[0].name == layer3 + "self_attn.q_proj");
    CHECK(comparison.items[0].errors->different == 1);
    CHECK(comparison.items[0].errors->first_different == 7);
}

TEST_CASE("threads change no bit, a filter leaves names out, and progress can stop") {
    const auto golden = open_contents(golden_folder), tiny = open_contents(tiny_folder);
    const std::string expected = comparison_json(*golden, *tiny, compare_folders(*golden, *tiny, 1));
    CHECK(comparison_json(*golden, *tiny, compare_folders(*golden, *tiny, 5)) == expected);

    const Pattern filter = Pattern::compile(".*experts[.]17[.]", true).take();
    ComparisonOptions options;
    options.filter = &filter;
    uint64_t calls = 0;
    options.progress = [&](uint64_t bytes, uint64_t bytes_total, uint64_t items, uint64_t items_total) {
        CHECK(items == ++calls);
        CHECK(items_total == 3);
        CHECK(bytes_total == 3 * 9224);
        CHECK(bytes == items * 9224);
        return true;
    };
    const auto threads = make_threads(2);
    const Comparison three = compare(*golden, *tiny, *threads, options).take();
    CHECK(calls == 3);
    CHECK(three.count(Difference::quantized) == 3);
    options.progress = [](uint64_t, uint64_t, uint64_t items, uint64_t) { return items < 2; };
    CHECK(compare(*golden, *tiny, *threads, options).status().code() == Code::cancelled);
}
