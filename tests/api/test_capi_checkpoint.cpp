// Checkpoints and comparisons through the C API; what they find is tested in tests/inspect.
#include "capi_fixture.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

using namespace gnv::test;

static const std::string query = "model.language_model.layers.3.self_attn.q_proj";

TEST_CASE("tensors and modules: by position, by name") {
    const auto engine = make_engine();
    const auto checkpoint = open_checkpoint(engine.get(), golden_folder);
    CHECK(gnv_checkpoint_module_count(checkpoint.get()) == 16);
    uint64_t position = 0;
    REQUIRE(gnv_checkpoint_find_module(checkpoint.get(), query.c_str(), &position) == GNV_OK);
    auto module = make_info<gnv_module_info>();
    REQUIRE(gnv_checkpoint_module_info(checkpoint.get(), position, &module) == GNV_OK);
    CHECK(module.name == query);
    CHECK(std::string(module.scheme) == "nvfp4");
    CHECK(std::string(module.naming) == "compressed-tensors");
    CHECK(std::string(module.role) == "attention q");
    CHECK(module.rows == 512);
    CHECK(module.columns == 256);

    auto tensor = make_info<gnv_tensor_info>();
    REQUIRE(gnv_checkpoint_tensor_info(checkpoint.get(), module.block_scales, &tensor) == GNV_OK);
    CHECK(tensor.name == query + ".weight_scale");
    CHECK(std::string(tensor.dtype) == "F8_E4M3");
    CHECK(std::string(tensor.role) == "attention q");
    CHECK(tensor.module == query);
    CHECK(std::string(tensor.part) == "block scales");
    CHECK(std::string(tensor.shard) == "subset.safetensors");
    REQUIRE(tensor.dimensions == 2);
    CHECK(tensor.shape[0] == 512);
    CHECK(tensor.shape[1] == 16);
    CHECK(tensor.bytes == 8192);
    REQUIRE(gnv_checkpoint_find_tensor(checkpoint.get(), tensor.name, &position) == GNV_OK);
    CHECK(position == module.block_scales);

    // Every position has a tensor, each after the one before; strings stay.
    const uint64_t count = gnv_checkpoint_tensor_count(checkpoint.get());
    uint64_t end = 0;
    std::string shard;
    for (uint64_t t = 0; t < count; t++) {
        REQUIRE(gnv_checkpoint_tensor_info(checkpoint.get(), t, &tensor) == GNV_OK);
        if (shard != tensor.shard) { // files in the order of their names
            CHECK(shard < tensor.shard);
            shard = tensor.shard;
            end = 0;
        }
        CHECK(tensor.offset >= end);
        end = tensor.offset + tensor.bytes;
    }
    CHECK(std::string(module.role) == "attention q");

    const auto plain = open_checkpoint(engine.get(), tiny_folder);
    CHECK(gnv_checkpoint_module_count(plain.get()) == 0);
    REQUIRE(gnv_checkpoint_find_tensor(plain.get(), "lm_head.weight", &position) == GNV_OK);
    REQUIRE(gnv_checkpoint_tensor_info(plain.get(), position, &tensor) == GNV_OK);
    CHECK(std::string(tensor.module).empty());
    CHECK(std::string(tensor.part).empty());
}

TEST_CASE("bytes and values") {
    const auto engine = make_engine();
    const auto checkpoint = open_checkpoint(engine.get(), golden_folder);
    uint64_t position = 0;
    REQUIRE(gnv_checkpoint_find_tensor(checkpoint.get(), (query + ".weight_global_scale").c_str(), &position) ==
            GNV_OK);
    float stored = 0;
    REQUIRE(gnv_checkpoint_read(checkpoint.get(), position, 0, &stored, sizeof stored) == GNV_OK);
    CHECK(stored == 7040);
    double value = 0;
    REQUIRE(gnv_checkpoint_values(checkpoint.get(), (query + ".weight_global_scale").c_str(), 0, 1, &value) == GNV_OK);
    CHECK(value == 7040);
    CHECK(gnv_checkpoint_read(checkpoint.get(), position, 4, nullptr, 0) == GNV_OK);
    CHECK(gnv_checkpoint_read(checkpoint.get(), position, 4, &stored, 1) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "weight_global_scale"));
    CHECK(gnv_checkpoint_read(checkpoint.get(), position, UINT64_MAX, &stored, 2) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_read(checkpoint.get(), position, 0, nullptr, 1) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_read(checkpoint.get(), UINT64_MAX, 0, &stored, 1) == GNV_INVALID_ARGUMENT);

    // More than one piece, from the middle of a block, equals the same values read at once.
    std::vector<double> all(131072), part(100'001);
    REQUIRE(gnv_checkpoint_values(checkpoint.get(), query.c_str(), 0, all.size(), all.data()) == GNV_OK);
    REQUIRE(gnv_checkpoint_values(checkpoint.get(), query.c_str(), 777, part.size(), part.data()) == GNV_OK);
    CHECK(memcmp(part.data(), all.data() + 777, part.size() * sizeof(double)) == 0);
    CHECK(gnv_checkpoint_values(checkpoint.get(), query.c_str(), 131072, 0, nullptr) == GNV_OK);
    CHECK(gnv_checkpoint_values(checkpoint.get(), query.c_str(), 131072, 1, all.data()) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_values(checkpoint.get(), query.c_str(), UINT64_MAX, 2, all.data()) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_values(checkpoint.get(), "no.such", 0, 1, all.data()) == GNV_NOT_FOUND);
    CHECK(gnv_checkpoint_values(checkpoint.get(), nullptr, 0, 1, all.data()) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_values(checkpoint.get(), query.c_str(), 0, 1, nullptr) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("statistics: as a structure, as a text, as both or none") {
    const auto engine = make_engine();
    const auto checkpoint = open_checkpoint(engine.get(), golden_folder);
    auto statistics = make_info<gnv_statistics>();
    gnv_text_t * text = nullptr;
    REQUIRE(gnv_checkpoint_measure(checkpoint.get(), query.c_str(), &statistics, GNV_TEXT_JSON, &text) == GNV_OK);
    const Handle<gnv_text_t> owner(text);
    CHECK(strstr(gnv_text_data(text), "ggml-nvfp4.inspect.1") != nullptr);
    CHECK(statistics.elements == 131072);
    CHECK(statistics.zeros == 8725);
    CHECK(statistics.first_not_finite == UINT64_MAX);
    CHECK(statistics.has_codes == 1);
    CHECK(statistics.codes[15] == 7404);
    CHECK(statistics.has_block_scales == 1);
    CHECK(statistics.block_scale_minimum == 60);
    CHECK(statistics.global_scale == 7040);
    CHECK(statistics.input_scale == 426);

    gnv_statistics old;
    memset(&old, 0x5a, sizeof old);
    old.struct_size = offsetof(gnv_statistics, minimum);
    REQUIRE(gnv_checkpoint_measure(checkpoint.get(), query.c_str(), &old, GNV_TEXT_PLAIN, nullptr) == GNV_OK);
    CHECK(old.elements == 131072);
    CHECK(old.codes[0] == 0x5a5a5a5a5a5a5a5a);
    CHECK(gnv_checkpoint_measure(checkpoint.get(), query.c_str(), nullptr, GNV_TEXT_PLAIN, nullptr) == GNV_OK);
    old.struct_size = 0;
    CHECK(gnv_checkpoint_measure(checkpoint.get(), query.c_str(), &old, GNV_TEXT_PLAIN, nullptr) ==
          GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_measure(checkpoint.get(), nullptr, nullptr, GNV_TEXT_PLAIN, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_measure(checkpoint.get(), "no.such", nullptr, GNV_TEXT_PLAIN, nullptr) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "no.such"));
}

TEST_CASE("contents as text: options, filters, old callers") {
    const auto engine = make_engine();
    const auto checkpoint = open_checkpoint(engine.get(), tiny_folder);
    gnv_contents_options options;
    gnv_contents_options_init(&options);
    gnv_text_t * text = nullptr;
    const auto contents = [&](const gnv_contents_options * given) {
        const gnv_status status = gnv_checkpoint_text(checkpoint.get(), given, GNV_TEXT_PLAIN, &text);
        const Handle<gnv_text_t> owner(text);
        return status == GNV_OK ? std::string(gnv_text_data(text)) : std::to_string(int(status));
    };
    CHECK(contents(nullptr) == contents(&options));
    CHECK(contents(&options).find("lm_head.weight") == std::string::npos);
    options.list_tensors = 1;
    CHECK(contents(&options).find("lm_head.weight") != std::string::npos);
    options.filter = "model[.]visual";
    CHECK(contents(&options).find("lm_head.weight") == std::string::npos);
    options.filter = "(";
    CHECK(contents(&options) == std::to_string(GNV_INVALID_ARGUMENT));
    CHECK(text == nullptr);
    options.struct_size = offsetof(gnv_contents_options, filter);
    CHECK(contents(&options) == contents(nullptr));
    options.struct_size = 0;
    CHECK(contents(&options) == std::to_string(GNV_INVALID_ARGUMENT));
    CHECK(gnv_checkpoint_text(checkpoint.get(), nullptr, GNV_TEXT_PLAIN, nullptr) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("comparisons: counts, texts, progress and stopping") {
    const auto engine = make_engine(), other_engine = make_engine();
    const auto here = open_checkpoint(engine.get(), golden_folder), there = open_checkpoint(engine.get(), tiny_folder);
    const auto stranger = open_checkpoint(other_engine.get(), tiny_folder);
    gnv_compare_options options;
    gnv_compare_options_init(&options);
    gnv_comparison_t * comparison = nullptr;
    int calls = 0;
    options.user = &calls;
    options.progress = [](void * user, const gnv_progress * now) {
        ++*static_cast<int *>(user);
        return int(now->struct_size != sizeof *now || now->bytes > now->bytes_total);
    };
    REQUIRE(gnv_checkpoint_compare(here.get(), there.get(), &options, &comparison) == GNV_OK);
    Handle<gnv_comparison_t> owner(comparison);
    CHECK(calls > 0);
    auto info = make_info<gnv_comparison_info>();
    REQUIRE(gnv_comparison_get_info(comparison, &info) == GNV_OK);
    CHECK(info.quantized == 16);
    CHECK(info.only_here > 0);
    CHECK(info.only_there > 0);
    CHECK(info.relative_squared_error == doctest::Approx(0.00906).epsilon(0.01));
    CHECK(info.worst_relative_squared_error >= info.relative_squared_error);
    info = {};
    info.only_here = 77;
    info.struct_size = offsetof(gnv_comparison_info, only_here);
    REQUIRE(gnv_comparison_get_info(comparison, &info) == GNV_OK);
    CHECK(info.quantized == 16);
    CHECK(info.only_here == 77);
    info.struct_size = 0;
    CHECK(gnv_comparison_get_info(comparison, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_comparison_get_info(comparison, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_comparison_get_info(nullptr, &info) == GNV_INVALID_ARGUMENT);
    for (const gnv_text_format format : {GNV_TEXT_PLAIN, GNV_TEXT_JSON}) {
        gnv_text_t * text = nullptr;
        REQUIRE(gnv_comparison_text(comparison, format, &text) == GNV_OK);
        CHECK((gnv_text_data(text)[0] == '{') == (format == GNV_TEXT_JSON));
        gnv_text_destroy(text);
    }
    CHECK(gnv_comparison_text(comparison, GNV_TEXT_PLAIN, nullptr) == GNV_INVALID_ARGUMENT);

    options.progress = [](void *, const gnv_progress *) { return 1; };
    CHECK(gnv_checkpoint_compare(here.get(), there.get(), &options, &comparison) == GNV_CANCELLED);
    CHECK(comparison == nullptr);
    CHECK(gnv_checkpoint_compare(here.get(), stranger.get(), nullptr, &comparison) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_compare(here.get(), nullptr, nullptr, &comparison) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_compare(nullptr, there.get(), nullptr, &comparison) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_compare(here.get(), there.get(), nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    options.struct_size = 0;
    CHECK(gnv_checkpoint_compare(here.get(), there.get(), &options, &comparison) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("wrong arguments of the rest") {
    const auto engine = make_engine();
    gnv_checkpoint_t * none = reinterpret_cast<gnv_checkpoint_t *>(1);
    CHECK(gnv_checkpoint_open(nullptr, tiny_folder.c_str(), &none) == GNV_INVALID_ARGUMENT);
    CHECK(none == nullptr);
    CHECK(gnv_checkpoint_open(engine.get(), nullptr, &none) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_open(engine.get(), tiny_folder.c_str(), nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_open(engine.get(), "/nonexistent", &none) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "/nonexistent"));
    CHECK(gnv_checkpoint_tensor_count(nullptr) == 0);
    CHECK(gnv_checkpoint_module_count(nullptr) == 0);

    const auto checkpoint = open_checkpoint(engine.get(), golden_folder);
    uint64_t position = 5;
    CHECK(gnv_checkpoint_find_tensor(checkpoint.get(), "no.such", &position) == GNV_NOT_FOUND);
    CHECK(position == 5);
    CHECK(error_has(engine.get(), "no.such"));
    CHECK(gnv_checkpoint_find_tensor(checkpoint.get(), nullptr, &position) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_find_tensor(checkpoint.get(), "x", nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_find_module(nullptr, "x", &position) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_find_module(checkpoint.get(), "no.such", &position) == GNV_NOT_FOUND);
    auto tensor = make_info<gnv_tensor_info>();
    CHECK(gnv_checkpoint_tensor_info(nullptr, 0, &tensor) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_tensor_info(checkpoint.get(), UINT64_MAX, &tensor) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_tensor_info(checkpoint.get(), 0, nullptr) == GNV_INVALID_ARGUMENT);
    tensor.struct_size = 0;
    CHECK(gnv_checkpoint_tensor_info(checkpoint.get(), 0, &tensor) == GNV_INVALID_ARGUMENT);
    auto module = make_info<gnv_module_info>();
    CHECK(gnv_checkpoint_module_info(checkpoint.get(), 16, &module) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_module_info(checkpoint.get(), 0, nullptr) == GNV_INVALID_ARGUMENT);
    module.struct_size = 0;
    CHECK(gnv_checkpoint_module_info(checkpoint.get(), 0, &module) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_read(nullptr, 0, 0, &position, 1) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_values(nullptr, "x", 0, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_checkpoint_measure(nullptr, "x", nullptr, GNV_TEXT_PLAIN, nullptr) == GNV_INVALID_ARGUMENT);
}
