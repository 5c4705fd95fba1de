#include "inspect/inspect_text.h"
#include "inspect_fixture.h"

#include <map>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;
using nlohmann::json;

namespace {

// role -> weights
std::map<std::string, size_t> roles_of(const Contents & contents) {
    std::map<std::string, size_t> roles;
    for (size_t t = 0; t < contents.checkpoint().tensors().size(); t++) roles[contents.role_name(t)]++;
    return roles;
}

} // namespace

TEST_CASE("the small checkpoint: roles of all parts, Linears inside fused experts") {
    const auto contents = open_contents(tiny_folder);
    const auto roles = roles_of(*contents);
    CHECK(roles.at("router") == 8);
    CHECK(roles.at("experts gate_up") == 8);
    CHECK(roles.at("draft head: experts gate_up") == 1);
    CHECK(roles.at("attention q") == 2);
    CHECK(roles.at("vision fc1") == 4);
    CHECK(roles.count("") + roles.count("extra") == 0);
    CHECK(contents->modules().empty());
    CHECK(contents->notes().empty());
    size_t experts = 0;
    for (const LinearModule & linear : contents->linear_modules()) experts += linear.expert >= 0;
    CHECK(experts == 9 * 32 * 3);
}

TEST_CASE("llm-compressor's output: modules, their parts and their roles") {
    const auto contents = open_contents(golden_folder);
    CHECK(contents->modules().size() == 16);
    const int64_t found = contents->find_module(layer3 + "mlp.experts.17.up_proj");
    REQUIRE(found >= 0);
    const QuantizedModule & module = contents->modules()[size_t(found)];
    CHECK(module.rows == 64);
    CHECK(module.columns == 256);
    CHECK(std::string(module.scheme()) == "nvfp4"); // with an input scale
    CHECK(std::string(module.naming->producer) == "compressed-tensors");
    CHECK(contents->use(module.tensor(ModulePart::block_scales)).module == found);
    CHECK(contents->use(module.tensor(ModulePart::block_scales)).module_part == ModulePart::block_scales);
    CHECK(contents->role_name(module.tensor(ModulePart::block_scales)) == "expert up");
    CHECK(contents->role_name(module.tensor(ModulePart::input_scale)) == "expert up");
    // The subset holds global scales of modules whose codes are elsewhere: they are plain tensors.
    const int64_t lonely =
        contents->checkpoint().find("model.language_model.layers.0.mlp.experts.0.up_proj.weight_global_scale");
    REQUIRE(lonely >= 0);
    CHECK(contents->use(uint64_t(lonely)).module == -1);
    CHECK(contents->find_module(layer3 + "mlp.gate") == -1);
}

TEST_CASE("any folder: no config, another model, a broken config") {
    const ScratchFolder scratch;
    const std::string folder = save_folder(scratch, "any", {make_tensor<float>("w", DType::f32, {2}, {1, 2})});
    CHECK(open_contents(folder)->role_name(0).empty());
    CHECK(open_contents(folder)->notes() == std::vector<std::string>{"no config.json: roles are not known"});
    for (const char * text : {R"({"model_type":"bert"})", "{", R"({"model_type":"qwen3_5_moe"})", ""}) {
        const std::string config = folder + "/config.json";
        REQUIRE(write_file_synced(config, text).ok());
        const auto contents = open_contents(folder);
        CHECK(contents->role_name(0).empty());
        REQUIRE(contents->notes().size() == 1);
        CHECK(contents->notes()[0].find("roles are not known: ") == 0);
        CHECK(contents->notes()[0].find(config) != std::string::npos);
        REQUIRE(remove_file(config).ok());
    }
    CHECK(Contents::open(scratch / "absent").status().code() == Code::not_found);
    CHECK(Contents::open(scratch.path()).status().code() == Code::not_found); // a folder without safetensors
}

TEST_CASE("tensors that only look like a quantized weight stay tensors, with a note") {
    const ScratchFolder scratch;
    using Bytes = std::vector<uint8_t>;
    const auto codes = [](const char * name, std::vector<int64_t> shape) {
        int64_t count = 1;
        for (const int64_t extent : shape) count *= extent;
        return make_tensor(name, DType::u8, std::move(shape), Bytes(size_t(count)));
    };
    const MemoryTensor scales = make_tensor("x.weight_scale", DType::f8_e4m3, {2, 2}, Bytes(4));
    const MemoryTensor global = make_tensor<float>("x.weight_global_scale", DType::f32, {1}, {1});
    const std::vector<std::pair<std::vector<MemoryTensor>, std::string>> cases = {
        {{codes("x.weight_packed", {2, 16}), global}, "has no .weight_scale"},
        {{codes("x.weight_packed", {2, 16}), scales}, "has no .weight_global_scale"},
        {{codes("x.weight_packed", {2, 16, 1}), scales, global}, "has codes [2, 16, 1]"},
        {{codes("x.weight_packed", {2, 12}), scales, global}, "has codes [2, 12]"},
        {{codes("x.weight_packed", {2, 8}), scales, global}, "has block scales F8_E4M3 [2, 2], not F8_E4M3 [2, 1]"},
        {{codes("x.weight_packed", {2, 16}), codes("x.weight_scale", {2, 2}), global}, "has block scales U8 [2, 2]"},
        {{codes("x.weight_packed", {2, 16}), scales,
          make_tensor<float>("x.weight_global_scale", DType::f32, {2}, {1, 1})},
         "has a global scale that is not one F32 element"},
    };
    int number = 0;
    for (const auto & [tensors, problem] : cases) {
        const auto contents = open_contents(save_folder(scratch, std::to_string(number++), tensors));
        CHECK(contents->modules().empty());
        REQUIRE(contents->notes().size() == 2);
        CHECK(contents->notes()[0].find("x " + problem) == 0);
    }
}

TEST_CASE("ModelOpt's names: the same weight, its scales are factors") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors;
    for (MemoryTensor tensor : load_tensors(golden_folder)) {
        if (tensor.name.find(layer3 + "self_attn.q_proj.") != 0) continue;
        const std::string name = tensor.name.substr(0, (layer3 + "self_attn.q_proj").size());
        if (ends_with(tensor.name, "global_scale")) {
            float value;
            memcpy(&value, tensor.data.data(), sizeof value);
            value = 1 / value;
            tensor.shape.clear(); // a scalar
            memcpy(tensor.data.data(), &value, sizeof value);
        }
        if (ends_with(tensor.name, ".weight_packed")) tensor.name = name + ".weight";
        if (ends_with(tensor.name, ".weight_global_scale")) tensor.name = name + ".weight_scale_2";
        if (ends_with(tensor.name, ".input_global_scale")) tensor.name = name + ".input_scale";
        tensors.push_back(tensor);
    }
    const auto contents = open_contents(save_folder(scratch, "modelopt", tensors)),
               golden = open_contents(golden_folder);
    REQUIRE(contents->modules().size() == 1);
    CHECK(std::string(contents->modules()[0].naming->producer) == "modelopt");
    CHECK(std::string(contents->modules()[0].scheme()) == "nvfp4");
    const auto threads = make_threads(2);
    const NumberErrors errors =
        compare_numbers(Numbers::of_module(*contents, 0).value(),
                        Numbers::of_module(*golden, uint32_t(golden->find_module(layer3 + "self_attn.q_proj"))).value(),
                        *threads)
            .value();
    CHECK(errors.max_relative < 1e-6); // one more rounding
}

TEST_CASE("the list as text and as JSON, filtered by names of tensors and of modules") {
    const auto contents = open_contents(golden_folder);
    const Pattern filter = Pattern::compile(R"(.*experts\.17\.up_proj$)", true).take(); // a module: all of its tensors
    const json all = json::parse(contents_json(*contents, nullptr).value());
    CHECK(all["schema"] == "ggml-nvfp4.inspect.1");
    CHECK(all["kind"] == "contents");
    CHECK(all["tensors"].size() == contents->checkpoint().tensors().size());
    CHECK(all["modules"].size() == 16);
    CHECK(all["module_count"] == 16);
    CHECK(all["tensor_bytes"] == contents->checkpoint().tensor_bytes());
    uint64_t bytes = 0;
    for (const json & role : all["roles"]) bytes += role["bytes"].get<uint64_t>();
    CHECK(bytes == contents->checkpoint().tensor_bytes());

    const json one = json::parse(contents_json(*contents, &filter).value());
    CHECK(one["tensors"].size() == 4);
    CHECK(one["modules"] == json::parse(R"([{"name":"model.language_model.layers.3.mlp.experts.17.up_proj",
        "role":"expert up","scheme":"nvfp4","naming":"compressed-tensors","shape":[64,256]}])"));
    CHECK(one["roles"] == json::parse(R"([{"role":"expert up","stored_as":"nvfp4","weights":1,"parameters":16384,
        "bytes":9224}])"));
    const std::string text = contents_text(*contents, &filter, true).value();
    CHECK(text.find("expert up        1  nvfp4          16,384  9.22 kB      4.504") != std::string::npos);
    CHECK(text.find("experts.17.up_proj.weight_packed") != std::string::npos);
    CHECK(text.find("experts.1.") == std::string::npos);
    CHECK(contents_text(*contents, &filter, false).value().find("weight_packed") == std::string::npos);
}
