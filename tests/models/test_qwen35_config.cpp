#include "models/model_fixture.h"
#include "models/qwen35_config.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

static Result<Qwen35Config> read(const Json & config, Qwen35Mlp mlp = Qwen35Mlp::experts) {
    return read_qwen35_config(parse(config).root(), mlp);
}

TEST_CASE("values of the 35B model") {
    const Qwen35Config config = read(read_data("qwen36-35b-a3b")).take();
    CHECK(config.nested);
    CHECK(config.hidden == 2048);
    CHECK(config.layers.size() == 40);
    CHECK(config.full_attention_layers() == 10);
    CHECK(config.rotary == 64);
    CHECK(config.rope_theta == 1e7);
    CHECK(config.rope_section[2] == 10);
    CHECK(config.norm_epsilon == 1e-6);
    CHECK(config.output_gate == Qwen35OutputGate::silu);
    CHECK(config.experts_per_token == 8);
    CHECK(config.draft_layers == 1);
    REQUIRE(config.vision);
    CHECK(config.vision->positions == 2304);
    CHECK(config.vision->rope_theta == 10000);
    CHECK(config.notes.empty());
}

TEST_CASE("optional keys and older spellings") {
    const Json config = read_data("qwen36-tiny");
    CHECK(read(set(config, "/text_config/output_gate_type", "sigmoid")).value().output_gate ==
          Qwen35OutputGate::sigmoid);
    CHECK(read(set(config, "/text_config/output_gate_type", "swish")).value().output_gate == Qwen35OutputGate::silu);
    CHECK(read(set(config, "/vision_config/model_type", "qwen3_5_moe")).ok());
    // Rotary keys beside the others, or in rope_scaling.
    Json old = config;
    old["text_config"].erase("rope_parameters");
    CHECK(read(old).status().message() ==
          "config.json: text_config.rope_parameters: the key \"rope_theta\" is missing");
    old["text_config"]["rope_theta"] = 5e6;
    old["text_config"]["rope_scaling"] = {{"mrope_section", {3, 3, 2}}, {"type", "default"}};
    CHECK(read(old).value().rope_theta == 5e6);
    CHECK(read(old).value().rotary == 16);
    // The default section fits a head of 256 only.
    old["text_config"].erase("rope_scaling");
    CHECK_FALSE(read(old).ok());
    old["text_config"]["head_dim"] = 256;
    CHECK(read(old).ok());
}

TEST_CASE("unknown keys are one note, wherever they are") {
    Json config = read_data("qwen36-tiny");
    config["text_config"]["rope_parameters"]["wobble"] = 1;
    config["text_config"]["new_trick"] = true;
    config["vision_config"]["shiny"] = nullptr;
    config["top\n"] = 0;
    const Qwen35Config read_config = read(config).take();
    REQUIRE(read_config.notes.size() == 1);
    CHECK(read_config.notes[0] ==
          "unknown config keys: rope_parameters.wobble, text_config.new_trick, vision_config.shiny, top\\x0a");
}

TEST_CASE("values that the runtime cannot handle") {
    struct Case {
        const char * pointer;
        Json value;
        const char * message; // after "config.json: "
    };
    const Case cases[] = {
        {"/text_config/hidden_act", "gelu", "text_config.hidden_act: \"gelu\" is not supported, only \"silu\""},
        {"/text_config/attention_bias", true, "text_config.attention_bias: true is not supported, only false"},
        {"/text_config/attn_output_gate", false, "text_config.attn_output_gate: false is not supported, only true"},
        {"/text_config/output_gate_type", "tanh",
         "text_config.output_gate_type: \"tanh\" is not supported, only \"silu\" or \"swish\" or \"sigmoid\""},
        {"/text_config/mamba_ssm_dtype", "bfloat16", "text_config.mamba_ssm_dtype: \"bfloat16\" is not supported"},
        {"/text_config/mtp_use_dedicated_embeddings", true, "text_config.mtp_use_dedicated_embeddings: true is not"},
        {"/text_config/norm_topk_prob", false, "text_config.norm_topk_prob: false is not supported"},
        {"/text_config/decoder_sparse_step", 2, "text_config.decoder_sparse_step: 2 is not supported"},
        {"/text_config/mlp_only_layers", {0, 1}, "text_config.mlp_only_layers: [0,1] is not supported, only []"},
        {"/text_config/rope_parameters/mrope_interleaved", false,
         "text_config.rope_parameters.mrope_interleaved: false"},
        {"/text_config/layer_types/2", "sliding_attention",
         "text_config.layer_types[2]: \"sliding_attention\" is not supported"},
        {"/text_config/model_type", "qwen3_next", "text_config.model_type: \"qwen3_next\" is not supported"},
        {"/vision_config/hidden_act", "silu", "vision_config.hidden_act: \"silu\" is not supported"},
        {"/vision_config/deepstack_visual_indexes", {8, 16}, "vision_config.deepstack_visual_indexes: [8,16] is not"},
        {"/vision_config/rope_parameters/rope_type", "spiral", "vision_config.rope_parameters.rope_type: \"spiral\""},
        {"/vision_config/model_type", "qwen2_5_vl", "vision_config.model_type: \"qwen2_5_vl\" is not supported"},
    };
    for (const Case & bad : cases) {
        CAPTURE(bad.pointer);
        const Result<Qwen35Config> result = read(set(read_data("qwen36-tiny"), bad.pointer, bad.value));
        CHECK(result.status().code() == Code::unsupported);
        CHECK(starts_with(result.status().message(), std::string("config.json: ") + bad.message));
    }
}

TEST_CASE("numbers that cannot be") {
    struct Case {
        const char * pointer;
        Json value;
        const char * message; // after "config.json: "
    };
    const Case cases[] = {
        {"/text_config/hidden_size", 0, "text_config.hidden_size: 0 is not in 1..131072"},
        {"/text_config/hidden_size", -256, "text_config.hidden_size: -256 is not in"},
        {"/text_config/hidden_size", 1e18, "text_config.hidden_size: expected an integer"},
        {"/text_config/hidden_size", "256", "text_config.hidden_size: expected an integer, found a string"},
        {"/text_config/num_experts", 9223372036854775807, "text_config.num_experts: 9223372036854775807 is not in"},
        {"/text_config/num_hidden_layers", 4000000000, "text_config.num_hidden_layers: 4000000000 is not in"},
        {"/text_config/num_hidden_layers", 9, "text_config.layer_types: 8 entries for 9 layers"},
        {"/text_config/num_key_value_heads", 3, "text_config.num_key_value_heads: 3 does not divide the 4 attention"},
        {"/text_config/linear_num_value_heads", 6,
         "text_config.linear_num_key_heads: 4 does not divide the 6 value heads"},
        {"/text_config/num_experts_per_tok", 33, "text_config.num_experts_per_tok: 33 of 32 experts"},
        {"/text_config/full_attention_interval", 0, "text_config.full_attention_interval: 0 is not in"},
        {"/text_config/rope_parameters/mrope_section",
         {3, 3, 3},
         "text_config.rope_parameters: mrope_section has 9 pairs, the 16 rotary dimensions have 8"},
        {"/text_config/rope_parameters/partial_rotary_factor", 0.3, "text_config.partial_rotary_factor: 0.3 of a head"},
        {"/text_config/rope_parameters/rope_theta", 0, "text_config.rope_parameters.rope_theta: 0 is not in"},
        {"/text_config/rope_parameters", {1, 2}, "text_config.rope_parameters: expected an object, found an array"},
        {"/text_config/layer_types", "all", "text_config.layer_types: expected an array, found a string"},
        {"/text_config", "none", "text_config: expected an object, found a string"},
        {"/vision_config", {1}, "vision_config: expected an object, found an array"},
        {"/vision_config/num_heads", 3, "vision_config.num_heads: 3 heads do not divide 64"},
        {"/vision_config/num_position_embeddings", 143, "vision_config.num_position_embeddings: 143 is no square"},
        {"/vision_config/out_hidden_size", 512,
         "vision_config.out_hidden_size: 512 is not the text model's hidden size 256"},
    };
    for (const Case & bad : cases) {
        CAPTURE(bad.pointer);
        const Result<Qwen35Config> result = read(set(read_data("qwen36-tiny"), bad.pointer, bad.value));
        CHECK(result.status().code() == Code::format);
        CHECK(starts_with(result.status().message(), std::string("config.json: ") + bad.message));
    }
    Json many = read_data("qwen36-tiny");
    many["text_config"].erase("layer_types");
    many["text_config"]["num_hidden_layers"] = 1024;
    many["text_config"]["num_experts"] = 8192;
    CHECK(read(many).status().message() == "config.json: text_config.num_experts: 8192 in 1025 layers, more than the "
                                           "262144 experts in all that are supported");
}

TEST_CASE("sizes without a default must be there") {
    const Json config = read_data("qwen36-tiny");
    for (const char * key : {"hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
                             "num_key_value_heads", "head_dim", "linear_num_key_heads", "linear_num_value_heads",
                             "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim", "num_experts",
                             "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size"})
        CHECK(read(without(config, "/text_config", key)).status().message() ==
              concat("config.json: text_config: the key \"", key, "\" is missing"));
    for (const char * key :
         {"depth", "hidden_size", "num_heads", "intermediate_size", "patch_size", "temporal_patch_size",
          "spatial_merge_size", "num_position_embeddings", "out_hidden_size", "in_channels"})
        CHECK(read(without(config, "/vision_config", key)).status().message() ==
              concat("config.json: vision_config: the key \"", key, "\" is missing"));
}

TEST_CASE("dense members") {
    const Json config = read_data("qwen36-27b");
    const Qwen35Config dense = read(config, Qwen35Mlp::dense).take();
    CHECK(dense.intermediate == 17408);
    CHECK(dense.experts == 0);
    CHECK(dense.notes.empty());
    CHECK(read(set(config, "/text_config/num_experts", 0), Qwen35Mlp::dense).ok());
    CHECK(read(set(config, "/text_config/num_experts", 8), Qwen35Mlp::dense).status().code() == Code::unsupported);
    CHECK_FALSE(read(without(config, "/text_config", "intermediate_size"), Qwen35Mlp::dense).ok());
}

TEST_CASE("the registry says what it found and what it knows") {
    const Json config = read_data("qwen36-tiny");
    const auto refusal = [&](const Json & changed) { return list(changed).take_status(); };
    for (const char * type : {"qwen3_next", "qwen4_exp", "llama"}) {
        const Status status = refusal(set(config, "/model_type", type));
        CHECK(status.code() == Code::unsupported);
        CHECK(starts_with(status.message(),
                          concat("config.json: model_type: \"", type, "\" is not supported; supported are ")));
        CHECK(status.message().find("qwen3_5_moe_text") != std::string::npos);
    }
    CHECK(starts_with(refusal(set(config, "/architectures/0", "Qwen3NextForCausalLM")).message(),
                      "config.json: architectures[0]: \"Qwen3NextForCausalLM\" is not supported"));
    CHECK(refusal(set(config, "/model_type", "qwen3_5")).message() ==
          "config.json: model_type: \"qwen3_5\" contradicts the other names of the model");
    Json nameless = without(without(config, "", "model_type"), "", "architectures");
    CHECK(refusal(nameless).message() == "config.json: neither \"architectures\" nor \"model_type\" names a model");
    CHECK(list(without(config, "", "model_type")).ok());
    CHECK(list(without(config, "", "architectures")).ok());
    CHECK_FALSE(list(Json::array()).ok());
}

TEST_CASE("checkpoints whose config says that they are quantized are refused, their tensors listed") {
    const Json config = read_data("qwen36-tiny");
    SparseCheckpoint checkpoint(config);
    const Json quantization = {{"quant_method", "compressed-tensors"}};
    for (const char * pointer : {"/quantization_config", "/text_config/quantization_config", "/quantization"}) {
        const Status status = checkpoint.match(set(config, pointer, quantization)).take_status();
        CHECK(status.code() == Code::unsupported);
        CHECK(status.message().find("is quantized already (\"compressed-tensors\"); start from the BF16 one") !=
              std::string::npos);
    }
    CHECK(checkpoint.match(set(config, "/quantization_config", nullptr)).ok());
    CHECK(list(set(config, "/quantization_config", quantization)).ok());
}

TEST_CASE("YaRN as Transformers reads its keys; other types of positions are remembered for the forward pass") {
    Json config = read_data("qwen36-tiny");
    Json & rope = config["text_config"]["rope_parameters"];
    rope["rope_type"] = "yarn", rope["factor"] = 4.0, rope["original_max_position_embeddings"] = 32768;
    config["text_config"]["max_position_embeddings"] = 131072;
    Qwen35Config read_config = read(config).take();
    // find_correction_dim: rotary * ln(32768 / (n * 2 pi)) / (2 ln theta), for n = 32 rounded down and n = 1 up.
    const double rotary = double(read_config.rotary), theta = std::log(read_config.rope_theta);
    CHECK(read_config.yarn.factor == 4);
    CHECK(read_config.yarn.low == std::floor(rotary * std::log(32768 / (32 * 2 * M_PI)) / (2 * theta)));
    CHECK(read_config.yarn.high == std::ceil(rotary * std::log(32768 / (2 * M_PI)) / (2 * theta)));
    CHECK(read_config.yarn.attention_factor == doctest::Approx(0.1 * std::log(4.0) + 1));
    CHECK(read_config.notes.empty());
    rope["truncate"] = false, rope["mscale"] = 0.707, rope["mscale_all_dim"] = 1.0, rope["beta_fast"] = 16;
    read_config = read(config).take();
    CHECK(read_config.yarn.low ==
          doctest::Approx(std::max(0.0, rotary * std::log(32768 / (16 * 2 * M_PI)) / (2 * theta))));
    CHECK(read_config.yarn.attention_factor ==
          doctest::Approx((0.0707 * std::log(4.0) + 1) / (0.1 * std::log(4.0) + 1)));
    rope["attention_factor"] = 1.5;
    CHECK(read(config).value().yarn.attention_factor == 1.5);
    rope["factor"] = 0.5;
    CHECK(read(config).status().code() == Code::format);
    rope["factor"] = 4, rope["rope_type"] = "llama3";
    CHECK(read(config).value().rope_type == "llama3");
}
