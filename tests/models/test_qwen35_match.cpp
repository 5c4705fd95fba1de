#include "models/model_fixture.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <map>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string layer_3 = "model.language_model.layers.3.";

// What the published recipe leaves alone besides the roles that no loader accepts.
bool recipe_keeps(Role role) {
    return role == Role::linear_attention_in_qkv || role == Role::linear_attention_in_z ||
           role == Role::linear_attention_out;
}

bool recipe_quantizes(const LinearModule & module) {
    return module.part == Part::text && role_traits(module.role).can_quantize && !recipe_keeps(module.role);
}

const LinearModule * find_module(const ModelLayout & layout, const std::string & name) {
    for (const LinearModule & module : layout.modules)
        if (module.name == name) return &module;
    return nullptr;
}

std::string message(Result<ModelLayout> result) { return result.status().message(); }

bool contains(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

LayoutChoice layout_choice(bool fused, bool fused_draft) {
    LayoutChoice choice;
    choice.fused_experts = fused;
    choice.fused_mtp_experts = fused_draft;
    return choice;
}

// The rows of Linears that share a source never overlap and lie inside it.
void check_slices(const ModelLayout & layout, const Checkpoint & checkpoint) {
    std::map<uint32_t, std::vector<std::pair<uint64_t, uint64_t>>> slices;
    for (const LinearModule & module : layout.modules) {
        const TensorInfo & tensor = checkpoint.tensors()[module.source];
        const uint64_t bytes = uint64_t(module.rows * module.columns) * uint64_t(dtype_traits(tensor.dtype).bits) / 8;
        slices[module.source].push_back({module.offset, module.offset + bytes});
    }
    for (auto & [source, ranges] : slices) {
        std::sort(ranges.begin(), ranges.end());
        uint64_t end = 0;
        for (const auto & range : ranges) {
            CHECK(range.first == end);
            end = range.second;
        }
        CHECK(end == checkpoint.tensors()[source].bytes);
    }
}

} // namespace

TEST_CASE("the 35B model in both layouts") {
    const Json config = read_data("qwen36-35b-a3b");
    for (const bool fused : {true, false}) {
        CAPTURE(fused);
        const ScratchFolder folder;
        const Checkpoint checkpoint = SparseCheckpoint(config, layout_choice(fused, true)).write(folder);
        CHECK(checkpoint.tensor_bytes() == 71'903'645'408);
        const ModelLayout layout = match_model(parse(config).root(), checkpoint).take();
        CHECK(layout.family == "qwen3_5_moe");
        CHECK(layout.description ==
              "qwen3_5_moe: 40 layers (10 full attention), hidden 2048, 256 experts of 512, top 8, "
              "vision 27 blocks, draft head 1 layer");
        CHECK(layout.tensors.size() == checkpoint.tensors().size());
        CHECK(layout.layer_count == 40);
        CHECK(layout.expert_count == 256);
        CHECK(layout.has_vision);
        CHECK(layout.has_mtp);
        CHECK(layout.notes.empty());
        CHECK(std::count_if(layout.modules.begin(), layout.modules.end(), recipe_quantizes) == 30'880);
        // 341 the recipe ignores, 1 + 4 + 1 + 768 + 3 + 1 of the draft head
        CHECK(layout.modules.size() == 30'880 + 341 + 778);
        check_slices(layout, checkpoint);

        const LinearModule * const up = find_module(layout, layer_3 + "mlp.experts.7.up_proj");
        REQUIRE(up);
        CHECK(up->rows == 512);
        CHECK(up->columns == 2048);
        CHECK(up->expert == 7);
        CHECK(up->layer == 3);
        CHECK(up->role == Role::expert_up);
        CHECK(up->offset == (fused ? uint64_t(7 * 2 + 1) * 512 * 2048 * 2 : 0));
        CHECK(checkpoint.tensors()[up->source].name ==
              layer_3 + (fused ? "mlp.experts.gate_up_proj" : "mlp.experts.7.up_proj.weight"));
        const LinearModule * const down = find_module(layout, layer_3 + "mlp.experts.255.down_proj");
        REQUIRE(down);
        CHECK(down->rows == 2048);
        CHECK(down->offset == (fused ? uint64_t(255) * 512 * 2048 * 2 : 0));
    }
}

TEST_CASE("Linears that the recipe leaves alone come in the order of the reference's ignore list") {
    const Json config = read_data("qwen36-tiny");
    std::vector<std::string> ignored;
    const ModelLayout layout = match_model(parse(config).root(), Checkpoint::open(tiny_folder).take()).take();
    for (const LinearModule & module : layout.modules)
        if (module.part != Part::mtp && !recipe_quantizes(module)) ignored.push_back(module.name);
    const Json reference = read_json(GNV_TEST_DATA "/golden/config.json");
    auto recorded = reference["quantization_config"]["ignore"].get<std::vector<std::string>>();
    REQUIRE(recorded.back() == "re:^mtp.*");
    recorded.pop_back();
    CHECK(ignored == recorded);
    // The draft head comes last.
    CHECK(layout.modules.back().part == Part::mtp);
    CHECK(find_module(layout, "mtp.fc")->columns == 512);
}

TEST_CASE("Linears that the recipe quantizes are those that the reference packed") {
    const Json config = read_data("qwen36-tiny"), reference = read_json(GNV_TEST_DATA "/golden/tensors.json");
    const ModelLayout layout = SparseCheckpoint(config).match(config).take();
    int quantized = 0, packed = 0;
    for (const LinearModule & module : layout.modules) {
        if (!recipe_quantizes(module)) continue;
        quantized++;
        CAPTURE(module.name);
        const std::string name = module.name + ".weight_packed";
        REQUIRE(reference.contains(name));
        CHECK(reference[name]["shape"] == Json{module.rows, module.columns / 2});
    }
    for (const auto & [name, tensor] : reference.items()) packed += ends_with(name, ".weight_packed");
    CHECK(quantized == packed);
    CHECK(quantized == 800);
}

TEST_CASE("fused groups") {
    const Json config = read_data("qwen36-tiny");
    const ModelLayout layout = SparseCheckpoint(config, layout_choice(false, true)).match(config).take();
    std::map<int32_t, std::string> groups;
    for (const LinearModule & module : layout.modules)
        if (module.fused_group >= 0) groups[module.fused_group] += " " + module.name.substr(module.name.rfind('.') + 1);
    std::map<std::string, int> counts;
    for (const auto & [number, names] : groups) counts[names]++;
    CHECK(counts == std::map<std::string, int>{{" q_proj k_proj v_proj", 3},
                                               {" in_proj_qkv in_proj_z", 6},
                                               {" gate_proj up_proj", 9 * 32 + 9}}); // experts and shared experts
    CHECK(find_module(layout, layer_3 + "self_attn.o_proj")->fused_group == -1);

    const Json dense = read_data("qwen35-0.8b");
    int gate_up = 0;
    const ModelLayout dense_layout = SparseCheckpoint(dense).match(dense).take();
    for (const LinearModule & module : dense_layout.modules)
        if (module.role == Role::mlp_gate || module.role == Role::mlp_up) gate_up += module.fused_group >= 0;
    CHECK(gate_up == 2 * 25);
}

TEST_CASE("each block may keep its experts in its own way") {
    const Json config = read_data("qwen36-tiny");
    for (const bool fused_draft : {true, false}) {
        const auto single = list(config, layout_choice(false, fused_draft)).take();
        const auto fused = list(config, layout_choice(true, fused_draft)).take();
        // Layers 0 to 3 fused, the rest one by one.
        std::vector<TensorSpec> mixed;
        for (const TensorSpec & spec : fused)
            if (spec.part != Part::text || spec.layer < 4) mixed.push_back(spec);
        for (const TensorSpec & spec : single)
            if (spec.part == Part::text && spec.layer >= 4) mixed.push_back(spec);
        std::reverse(mixed.begin(), mixed.end()); // the order in the file does not matter
        const ScratchFolder folder;
        const Checkpoint checkpoint = SparseCheckpoint(mixed).write(folder);
        const ModelLayout layout = match_model(parse(config).root(), checkpoint).take();
        CHECK(layout.modules.size() == SparseCheckpoint(config).match(config).value().modules.size());
        check_slices(layout, checkpoint);
        std::set<uint32_t> sources;
        for (const ModelTensor & tensor : layout.tensors) sources.insert(tensor.source);
        CHECK(sources.size() == checkpoint.tensors().size());
    }
    SparseCheckpoint twice(config);
    twice[layer_3 + "mlp.experts.0.gate_proj.weight"].shape = {64, 256};
    CHECK(contains(message(twice.match(config)), "the experts of " + layer_3 + "mlp.experts. are there twice"));
}

TEST_CASE("missing tensors are named with what was expected") {
    const Json config = read_data("qwen36-tiny");
    struct Case {
        const char * name;
        const char * shape;
        LayoutChoice choice;
    };
    const Case cases[] = {
        {"model.language_model.layers.3.self_attn.k_norm.weight", "[64]", {}},
        {"model.language_model.embed_tokens.weight", "[4096, 256]", {}},
        {"model.language_model.layers.7.mlp.experts.down_proj", "[32, 256, 64]", {}},
        {"model.language_model.layers.7.mlp.experts.0.gate_proj.weight", "[64, 256]", layout_choice(false, true)},
        {"model.language_model.layers.7.mlp.experts.31.down_proj.weight", "[256, 64]", layout_choice(false, true)},
        {"model.visual.blocks.2.attn.qkv.bias", "[192]", {}},
        {"mtp.layers.0.mlp.gate.weight", "[32, 256]", {}},
        {"mtp.fc.weight", "[256, 512]", {}},
        {"lm_head.weight", "[4096, 256]", {}},
    };
    for (const Case & missing : cases) {
        SparseCheckpoint checkpoint(config, missing.choice);
        checkpoint.remove(missing.name);
        const Result<ModelLayout> result = checkpoint.match(config);
        CHECK(result.status().code() == Code::model);
        CHECK(contains(result.status().message(),
                       concat("tensor ", missing.name, " of shape ", missing.shape, " is missing")));
    }
    SparseCheckpoint no_experts(config);
    no_experts.remove(layer_3 + "mlp.experts.");
    CHECK(contains(message(no_experts.match(config)),
                   layer_3 + "mlp.experts.gate_up_proj of shape [32, 128, 256] is missing"));
    SparseCheckpoint other({TensorSpec{"transformer.wte.weight", {8, 8}}});
    CHECK(contains(message(other.match(config)), "no checkpoint of the model in config.json"));
}

TEST_CASE("wrong shapes and dtypes are refused with tensor, shard and place") {
    const Json config = read_data("qwen36-tiny");
    SparseCheckpoint shape(config);
    shape[layer_3 + "self_attn.q_proj.weight"].shape = {256, 256};
    const std::string text = message(shape.match(config));
    CHECK(contains(text, "tensor " + layer_3 + "self_attn.q_proj.weight (model.safetensors, byte "));
    CHECK(contains(text, "has shape [256, 256], config.json calls for [512, 256]"));

    SparseCheckpoint transposed(config); // [E, in, out]: the same number of bytes
    transposed[layer_3 + "mlp.experts.down_proj"].shape = {32, 64, 256};
    CHECK(contains(message(transposed.match(config)), "calls for [32, 256, 64]"));

    for (const DType dtype : {DType::u8, DType::i8, DType::i32, DType::f64}) {
        SparseCheckpoint checkpoint(config);
        checkpoint[layer_3 + "self_attn.q_proj.weight"].dtype = dtype;
        const Result<ModelLayout> result = checkpoint.match(config);
        CHECK(result.status().code() == Code::model);
        CHECK(contains(result.status().message(), concat("has dtype ", dtype_name(dtype), ", expected BF16")));
    }
}

TEST_CASE("BF16, F16 and F32 are taken, and offsets follow the dtype") {
    const Json config = read_data("qwen36-tiny");
    for (const DType dtype : {DType::f16, DType::f32}) {
        SparseCheckpoint source(config);
        for (HeaderTensor & tensor : source.tensors) tensor.dtype = dtype;
        source["model.language_model.layers.0.linear_attn.A_log"].dtype = DType::f32;
        const ScratchFolder folder;
        const Checkpoint checkpoint = source.write(folder);
        const ModelLayout layout = match_model(parse(config).root(), checkpoint).take();
        check_slices(layout, checkpoint);
        CHECK(find_module(layout, layer_3 + "mlp.experts.1.down_proj")->offset ==
              (dtype == DType::f16 ? 32768 : 65536));
    }
}

TEST_CASE("quantized checkpoints are refused by name and by dtype") {
    const Json config = read_data("qwen36-tiny");
    for (const char * name :
         {"mlp.experts.0.gate_proj.weight_packed", "mlp.experts.0.gate_proj.weight_scale",
          "self_attn.q_proj.weight_scale_2", "self_attn.q_proj.weight_scale_inv", "mlp.experts.gate_up_proj_scale_inv",
          "self_attn.q_proj.qweight", "self_attn.q_proj.scales", "self_attn.q_proj.input_scale"}) {
        SparseCheckpoint checkpoint(config);
        checkpoint[layer_3 + name].dtype = DType::f32;
        const Result<ModelLayout> result = checkpoint.match(config);
        CHECK(result.status().code() == Code::unsupported);
        CHECK(contains(result.status().message(), "quantized already; start from the BF16 one"));
    }
    SparseCheckpoint checkpoint(config);
    checkpoint[layer_3 + "self_attn.q_proj.weight"].dtype = DType::f8_e4m3;
    CHECK(checkpoint.match(config).status().code() == Code::unsupported);
}

TEST_CASE("a quantization_config that is no object is damage, also where a quantized checkpoint is taken") {
    const std::vector<const Format *> all(all_formats().begin(), all_formats().end());
    for (const char * const place : {"/quantization_config", "/text_config/quantization_config"})
        for (const Json & bad : {Json("nvfp4"), Json::array(), Json(3)}) {
            Json config = read_data("qwen36-tiny");
            const ScratchFolder folder;
            const Checkpoint checkpoint = SparseCheckpoint(config).write(folder);
            config[Json::json_pointer(place)] = nullptr;
            CHECK(match_model(parse(config).root(), checkpoint).ok());
            config[Json::json_pointer(place)] = bad;
            CHECK(match_model(parse(config).root(), checkpoint).status().code() == Code::unsupported);
            CAPTURE(bad.dump());
            const Result<ModelLayout> result = match_model(parse(config).root(), checkpoint, all);
            CHECK(result.status().code() == Code::format);
            CHECK(contains(message(match_model(parse(config).root(), checkpoint, all)),
                           "quantization_config: expected an object, found " + bad.dump() + "; copy config.json"));
        }
}

TEST_CASE("parts that are absent are named, parts that are not announced are notes") {
    const Json config = read_data("qwen36-tiny");
    SparseCheckpoint no_vision(config);
    no_vision.remove("model.visual.");
    ModelLayout layout = no_vision.match(config).take();
    CHECK_FALSE(layout.has_vision);
    REQUIRE(layout.missing.size() == 1);
    CHECK(layout.missing[0].part == Part::vision);
    CHECK(std::string(layout.missing[0].prefix) == "model.visual.");
    CHECK_FALSE(contains(layout.description, "vision"));

    SparseCheckpoint no_draft(config);
    no_draft.remove("mtp.");
    layout = no_draft.match(config).take();
    CHECK_FALSE(layout.has_mtp);
    REQUIRE(layout.missing.size() == 1);
    CHECK(layout.missing[0].part == Part::mtp);
    CHECK(std::string(layout.missing[0].prefix) == "mtp.");

    // Not announced: kept as extras, at the end.
    layout = SparseCheckpoint(config).match(set(config, "/text_config/mtp_num_hidden_layers", 0)).take();
    CHECK_FALSE(layout.has_mtp);
    CHECK(layout.tensors.size() == 205);
    CHECK(std::count_if(layout.tensors.begin(), layout.tensors.end(),
                        [](const ModelTensor & tensor) { return tensor.role == Role::extra; }) == 19);
    CHECK(layout.tensors.back().role == Role::extra);
    REQUIRE(layout.notes.size() == 1);
    CHECK(layout.notes[0] == "tensors that config.json does not call for, kept as they are: mtp.fc.weight, "
                             "mtp.pre_fc_norm_embedding.weight, mtp.pre_fc_norm_hidden.weight and 16 more");
    layout = SparseCheckpoint(config).match(without(config, "", "vision_config")).take();
    CHECK_FALSE(layout.has_vision);
    CHECK(layout.notes.size() == 1);
}

TEST_CASE("prefixes") {
    const Json nested = read_data("qwen36-tiny");
    LayoutChoice flat_names;
    flat_names.nested_prefix = false;
    ModelLayout layout = SparseCheckpoint(nested, flat_names).match(nested).take();
    CHECK(find_module(layout, "model.layers.3.self_attn.q_proj"));
    CHECK(layout.notes.empty());

    Json flat = nested["text_config"];
    flat["architectures"] = {"Qwen3_5MoeForCausalLM"};
    for (const bool nested_prefix : {true, false}) {
        LayoutChoice choice;
        choice.nested_prefix = nested_prefix;
        layout = SparseCheckpoint(flat, choice).match(flat).take();
        CHECK_FALSE(layout.has_vision);
        CHECK(layout.has_mtp);
        CHECK(layout.notes.empty());
    }

    SparseCheckpoint doubled(nested);
    for (HeaderTensor & tensor : doubled.tensors)
        if (starts_with(tensor.name, "model.language_model.")) tensor.name.insert(6, "language_model.");
    CHECK(doubled.match(nested).status().code() == Code::model);
}

TEST_CASE("tied embeddings: lm_head lies in the embedding unless it has its own tensor") {
    const Json config = read_data("qwen35-0.8b");
    SparseCheckpoint tied(config);
    const ScratchFolder folder;
    const Checkpoint checkpoint = tied.write(folder);
    ModelLayout layout = match_model(parse(config).root(), checkpoint).take();
    CHECK(layout.description == "qwen3_5: 24 layers (6 full attention), hidden 1024, dense 3584, tied embeddings, "
                                "vision 12 blocks, draft head 1 layer");
    CHECK(checkpoint.tensors()[find_module(layout, "lm_head")->source].name ==
          "model.language_model.embed_tokens.weight");
    CHECK(find_module(layout, "lm_head")->rows == 248320);

    tied["lm_head.weight"].shape = {248320, 1024};
    const ScratchFolder other;
    const Checkpoint both = tied.write(other);
    layout = match_model(parse(config).root(), both).take();
    CHECK(both.tensors()[find_module(layout, "lm_head")->source].name == "lm_head.weight");
    CHECK(layout.notes.empty());
}
