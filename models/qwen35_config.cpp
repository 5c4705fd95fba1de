#include "models/qwen35_config.h"

#include "models/config_reader.h"

#include <algorithm>
#include <cmath>

namespace gnv {

// --- Meaning of the keys -------------------------------------------------------------------------------------------

template <class Object>
struct SizeKey {
    const char * key;
    int64_t Object::*member;
    int64_t high; // low is 1
};

static constexpr SizeKey<Qwen35Config> text_sizes[] = {
    {"hidden_size", &Qwen35Config::hidden, 1 << 17},
    {"vocab_size", &Qwen35Config::vocabulary, 1 << 24},
    {"num_attention_heads", &Qwen35Config::attention_heads, 1 << 10},
    {"num_key_value_heads", &Qwen35Config::kv_heads, 1 << 10},
    {"head_dim", &Qwen35Config::head, 1 << 12},
    {"linear_num_key_heads", &Qwen35Config::key_heads, 1 << 10},
    {"linear_num_value_heads", &Qwen35Config::value_heads, 1 << 10},
    {"linear_key_head_dim", &Qwen35Config::key_head, 1 << 12},
    {"linear_value_head_dim", &Qwen35Config::value_head, 1 << 12},
    {"linear_conv_kernel_dim", &Qwen35Config::convolution, 64},
};
static constexpr SizeKey<Qwen35Config> dense_sizes[] = {
    {"intermediate_size", &Qwen35Config::intermediate, 1 << 20},
};
static constexpr SizeKey<Qwen35Config> expert_sizes[] = {
    {"num_experts", &Qwen35Config::experts, 1 << 13},
    {"num_experts_per_tok", &Qwen35Config::experts_per_token, 1 << 13},
    {"moe_intermediate_size", &Qwen35Config::expert_intermediate, 1 << 20},
    {"shared_expert_intermediate_size", &Qwen35Config::shared_intermediate, 1 << 20},
};
static constexpr SizeKey<Qwen35Vision> vision_sizes[] = {
    {"depth", &Qwen35Vision::depth, 1 << 10},
    {"hidden_size", &Qwen35Vision::hidden, 1 << 16},
    {"num_heads", &Qwen35Vision::heads, 1 << 10},
    {"intermediate_size", &Qwen35Vision::intermediate, 1 << 20},
    {"in_channels", &Qwen35Vision::in_channels, 64},
    {"patch_size", &Qwen35Vision::patch, 256},
    {"temporal_patch_size", &Qwen35Vision::temporal_patch, 64},
    {"spatial_merge_size", &Qwen35Vision::merge, 16},
    {"num_position_embeddings", &Qwen35Vision::positions, 1 << 24},
    {"out_hidden_size", &Qwen35Vision::out_hidden, 1 << 17},
};
static constexpr int64_t most_layers = 1 << 10;
static constexpr int64_t most_experts_in_all = 1 << 18; // over all layers: bounds the list of modules

// clang-format off
static constexpr FixedKey text_fixed[] = {
    {"hidden_act", {"\"silu\""}},
    {"attention_bias", {"false"}},
    {"attn_output_gate", {"true"}},
    {"output_gate_type", {"\"silu\"", "\"swish\"", "\"sigmoid\""}},
    {"mamba_ssm_dtype", {"\"float32\""}},
    {"mtp_use_dedicated_embeddings", {"false"}},
    {"norm_topk_prob", {"true"}},
    {"decoder_sparse_step", {"1"}},
    {"mlp_only_layers", {"[]"}},
    {"use_sliding_window", {"false"}},
};
static constexpr FixedKey dense_fixed[] = {
    {"model_type", {"\"qwen3_5_text\"", "\"qwen3_5\""}},
    {"num_experts", {"0"}},
};
static constexpr FixedKey expert_fixed[] = {
    {"model_type", {"\"qwen3_5_moe_text\"", "\"qwen3_5_moe\""}},
};
static constexpr FixedKey rope_fixed[] = {
    {"mrope_interleaved", {"true"}},
};
static constexpr FixedKey vision_fixed[] = {
    {"model_type", {"\"qwen3_5_moe_vision\"", "\"qwen3_5_moe\"", "\"qwen3_5_vision\"", "\"qwen3_5\""}},
    {"hidden_act", {"\"gelu_pytorch_tanh\""}},
    {"deepstack_visual_indexes", {"[]"}},
};
static constexpr FixedKey vision_rope_fixed[] = {
    {"rope_type", {"\"axial\"", "\"default\""}},
};

// Training, generation and bookkeeping: no influence on tensors or arithmetic.
static constexpr const char * bookkeeping[] = {
    "_name_or_path", "architectures", "auto_map", "attention_dropout", "bos_token_id", "dtype", "eos_token_id",
    "id2label", "image_token_id", "initializer_range", "label2id", "language_model_only",
    "output_router_logits", "pad_token_id", "quantization_config", "router_aux_loss_coef", "sliding_window",
    "torch_dtype", "transformers_version", "unsloth_fixed", "use_cache", "video_token_id", "vision_end_token_id",
    "vision_start_token_id",
};
// clang-format on

static constexpr const char * expert_only[] = {"num_experts_per_tok", "moe_intermediate_size",
                                               "shared_expert_intermediate_size"};
static constexpr const char * dense_only[] = {"intermediate_size"};
static constexpr const char * read_by_registry[] = {"model_type"};

// --- Reading -------------------------------------------------------------------------------------------------------

template <class Object, size_t count>
static Status read_sizes(ConfigReader & reader, const SizeKey<Object> (&keys)[count], Object & out) {
    for (const SizeKey<Object> & size : keys) GNV_TRY(reader.require_int(size.key, 1, size.high, out.*size.member));
    return {};
}

template <size_t count>
static Status expect_all(ConfigReader & reader, const FixedKey (&keys)[count]) {
    for (const FixedKey & fixed : keys) GNV_TRY(reader.expect(fixed));
    return {};
}

// layer_types, or the interval that replaces it: every interval-th layer has full attention.
static Status read_layers(ConfigReader & reader, Qwen35Config & config) {
    int64_t count = 0, interval = 4;
    GNV_TRY(reader.require_int("num_hidden_layers", 1, most_layers, count));
    GNV_TRY(reader.optional_int("full_attention_interval", 1, most_layers, interval));
    JsonValue types;
    if (!reader.find("layer_types", types)) {
        for (int64_t layer = 0; layer < count; layer++)
            config.layers.push_back((layer + 1) % interval ? Qwen35Attention::linear : Qwen35Attention::full);
        return {};
    }
    GNV_ASSIGN(const size_t entries, types.array_size());
    if (entries != size_t(count))
        return fail(Code::format, types.where(), ": ", entries, " entries for ", count, " layers");
    return types.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const std::string_view type, item.as_string());
        if (type != "linear_attention" && type != "full_attention")
            return fail(Code::unsupported, item.where(), ": \"", printable(type),
                        "\" is not supported, only \"linear_attention\" or \"full_attention\"");
        config.layers.push_back(type == "full_attention" ? Qwen35Attention::full : Qwen35Attention::linear);
        return {};
    });
}

// What YaRN's keys say, as Transformers reads them (modeling_rope_utils.py, _compute_yarn_parameters).
struct YarnKeys {
    double factor = 0, original_positions = 0, attention_factor = 0, beta_fast = 32, beta_slow = 1;
    double mscale = 0, mscale_all_dim = 0;
    bool truncate = true;
};

static Status read_yarn_keys(ConfigReader & reader, YarnKeys & keys) {
    struct Key {
        const char * name;
        double YarnKeys::*member;
    };
    static constexpr Key numbers[] = {{"factor", &YarnKeys::factor},
                                      {"original_max_position_embeddings", &YarnKeys::original_positions},
                                      {"attention_factor", &YarnKeys::attention_factor},
                                      {"beta_fast", &YarnKeys::beta_fast},
                                      {"beta_slow", &YarnKeys::beta_slow},
                                      {"mscale", &YarnKeys::mscale},
                                      {"mscale_all_dim", &YarnKeys::mscale_all_dim}};
    for (const Key & key : numbers) GNV_TRY(reader.optional_double(key.name, 0, 1e12, keys.*key.member));
    return reader.optional_bool("truncate", keys.truncate);
}

static double yarn_scale(double factor, double scale) { return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1; }

static Status make_yarn(const YarnKeys & keys, const ConfigReader & text, Qwen35Config & config) {
    const double original = keys.original_positions > 0 ? keys.original_positions : double(config.max_positions);
    const double factor = keys.factor > 0 ? keys.factor : double(config.max_positions) / original;
    if (!(factor >= 1) || !(original >= 1) || !(keys.beta_fast > 0) || !(keys.beta_slow > 0))
        return fail(Code::format, text.where("rope_parameters"), ": YaRN with a factor of ", factor, " and ", original,
                    " original positions");
    const double pi = 3.14159265358979323846;
    const auto dimension = [&](double rotations) {
        return double(config.rotary) * std::log(original / (rotations * 2 * pi)) / (2 * std::log(config.rope_theta));
    };
    double low = dimension(keys.beta_fast), high = dimension(keys.beta_slow);
    if (keys.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, double(config.rotary - 1));
    if (low == high) high += 0.001;
    const bool has_scales = keys.mscale > 0 && keys.mscale_all_dim > 0;
    const double attention = keys.attention_factor > 0 ? keys.attention_factor
                             : has_scales ? yarn_scale(factor, keys.mscale) / yarn_scale(factor, keys.mscale_all_dim)
                                          : yarn_scale(factor, 1);
    config.yarn = {factor, low, high, attention};
    return {};
}

static Status read_rope_keys(ConfigReader & reader, Qwen35Config & config, double & rotary_share, YarnKeys & yarn) {
    GNV_TRY(expect_all(reader, rope_fixed));
    JsonValue type;
    for (const char * key : {"type", "rope_type"}) {
        if (!reader.find(key, type)) continue;
        GNV_ASSIGN(config.rope_type, type.as_string());
    }
    if (config.rope_type != "default") GNV_TRY(read_yarn_keys(reader, yarn));
    GNV_TRY(reader.optional_double("rope_theta", 1, 1e18, config.rope_theta));
    GNV_TRY(reader.optional_double("partial_rotary_factor", 0, 1, rotary_share));
    JsonValue section;
    if (!reader.find("mrope_section", section)) return {};
    GNV_ASSIGN(const size_t entries, section.array_size());
    if (entries != 3) return fail(Code::unsupported, section.where(), ": ", entries, " entries, only 3 are supported");
    return section.for_each_element([&](size_t index, const JsonValue & item) -> Status {
        GNV_ASSIGN(config.rope_section[index], item.as_int());
        if (config.rope_section[index] < 0 || config.rope_section[index] > 1 << 12)
            return fail(Code::format, item.where(), ": ", config.rope_section[index], " is not in 0..4096");
        return {};
    });
}

// Old files have the keys beside the others, newer ones in rope_parameters (or rope_scaling), some in both places; the
// inner ones count.
static Status read_rope(ConfigReader & text, Qwen35Config & config, std::vector<std::string> & unknown) {
    double rotary_share = 0.25;
    YarnKeys yarn;
    GNV_TRY(read_rope_keys(text, config, rotary_share, yarn));
    for (const char * key : {"rope_scaling", "rope_parameters"}) {
        JsonValue value;
        if (!text.find(key, value)) continue;
        ConfigReader rope(value, concat(key, "."));
        GNV_TRY(read_rope_keys(rope, config, rotary_share, yarn));
        GNV_TRY(rope.unknown_keys(unknown));
    }
    if (config.rope_theta == 0)
        return fail(Code::format, text.where("rope_parameters"), ": the key \"rope_theta\" is missing");

    const double rotary = double(config.head) * rotary_share;
    config.rotary = int64_t(rotary);
    if (double(config.rotary) != rotary || config.rotary < 2 || config.rotary % 2)
        return fail(Code::format, text.where("partial_rotary_factor"), ": ", rotary_share, " of a head of ",
                    config.head, " is no even number of dimensions");
    const int64_t pairs = config.rope_section[0] + config.rope_section[1] + config.rope_section[2];
    if (pairs != config.rotary / 2)
        return fail(Code::format, text.where("rope_parameters"), ": mrope_section has ", pairs, " pairs, the ",
                    config.rotary, " rotary dimensions have ", config.rotary / 2);
    return config.rope_type == "yarn" ? make_yarn(yarn, text, config) : Status();
}

static Status check_text(const ConfigReader & text, const Qwen35Config & config) {
    if (config.attention_heads % config.kv_heads)
        return fail(Code::format, text.where("num_key_value_heads"), ": ", config.kv_heads, " does not divide the ",
                    config.attention_heads, " attention heads");
    if (config.value_heads % config.key_heads)
        return fail(Code::format, text.where("linear_num_key_heads"), ": ", config.key_heads, " does not divide the ",
                    config.value_heads, " value heads");
    if (config.mlp == Qwen35Mlp::dense) return {};
    if (config.experts_per_token > config.experts)
        return fail(Code::format, text.where("num_experts_per_tok"), ": ", config.experts_per_token, " of ",
                    config.experts, " experts");
    const int64_t blocks = int64_t(config.layers.size()) + config.draft_layers;
    if (blocks * config.experts > most_experts_in_all)
        return fail(Code::unsupported, text.where("num_experts"), ": ", config.experts, " in ", blocks,
                    " layers, more than the ", most_experts_in_all, " experts in all that are supported");
    return {};
}

static Status read_text(ConfigReader & text, Qwen35Config & config, std::vector<std::string> & unknown) {
    GNV_TRY(expect_all(text, text_fixed));
    GNV_TRY(read_sizes(text, text_sizes, config));
    if (config.mlp == Qwen35Mlp::dense) {
        GNV_TRY(expect_all(text, dense_fixed));
        GNV_TRY(read_sizes(text, dense_sizes, config));
        text.ignore(expert_only);
    } else {
        GNV_TRY(expect_all(text, expert_fixed));
        GNV_TRY(read_sizes(text, expert_sizes, config));
        text.ignore(dense_only);
    }
    GNV_TRY(read_layers(text, config));
    GNV_TRY(text.optional_int("max_position_embeddings", 1, int64_t(1) << 30, config.max_positions));
    GNV_TRY(read_rope(text, config, unknown));
    GNV_TRY(text.optional_double("rms_norm_eps", 0, 1, config.norm_epsilon));
    GNV_TRY(text.optional_int("mtp_num_hidden_layers", 0, 64, config.draft_layers));
    GNV_TRY(text.optional_bool("tie_word_embeddings", config.tied_embeddings));
    JsonValue gate;
    if (text.find("output_gate_type", gate) && gate.text() == "\"sigmoid\"")
        config.output_gate = Qwen35OutputGate::sigmoid;
    text.ignore(bookkeeping);
    return check_text(text, config);
}

static Status read_vision(const JsonValue & value, int64_t text_hidden, Qwen35Vision & vision,
                          std::vector<std::string> & unknown) {
    ConfigReader reader(value, "vision_config.");
    GNV_TRY(expect_all(reader, vision_fixed));
    GNV_TRY(read_sizes(reader, vision_sizes, vision));
    JsonValue rope_value;
    if (reader.find("rope_parameters", rope_value)) {
        ConfigReader rope(rope_value, "vision_config.rope_parameters.");
        GNV_TRY(expect_all(rope, vision_rope_fixed));
        GNV_TRY(rope.optional_double("rope_theta", 1, 1e18, vision.rope_theta));
        GNV_TRY(rope.unknown_keys(unknown));
    }
    reader.ignore(bookkeeping);
    GNV_TRY(reader.unknown_keys(unknown));

    // Pairs of a head rotate, half of them with the row and half with the column.
    if (vision.hidden % (4 * vision.heads))
        return fail(Code::format, reader.where("num_heads"), ": ", vision.heads, " heads do not divide ", vision.hidden,
                    " into multiples of 4");
    const int64_t side = std::llround(std::sqrt(double(vision.positions)));
    if (side * side != vision.positions)
        return fail(Code::format, reader.where("num_position_embeddings"), ": ", vision.positions, " is no square");
    if (vision.out_hidden != text_hidden)
        return fail(Code::format, reader.where("out_hidden_size"), ": ", vision.out_hidden,
                    " is not the text model's hidden size ", text_hidden);
    return {};
}

// Beside text_config and vision_config.
static Status read_picture_tokens(ConfigReader & top, PictureTokens & tokens) {
    const struct {
        const char * key;
        int32_t & id;
    } keys[] = {{"image_token_id", tokens.image},
                {"video_token_id", tokens.video},
                {"vision_start_token_id", tokens.start},
                {"vision_end_token_id", tokens.end}};
    for (const auto & [key, id] : keys) {
        int64_t read = -1;
        GNV_TRY(top.optional_int(key, -1, INT32_MAX, read));
        id = int32_t(read);
    }
    return {};
}

Result<Qwen35Config> read_qwen35_config(const JsonValue & root, Qwen35Mlp mlp) {
    Qwen35Config config;
    config.mlp = mlp;
    std::vector<std::string> unknown;
    ConfigReader top(root, "");
    JsonValue text_value, vision_value;
    config.nested = top.find("text_config", text_value);
    const bool has_vision = top.find("vision_config", vision_value);
    if (config.nested) {
        ConfigReader text(text_value, "text_config.");
        GNV_TRY(read_text(text, config, unknown));
        GNV_TRY(text.unknown_keys(unknown));
        // If two values contradict each other, the outer one counts, as in the reference.
        GNV_TRY(top.optional_bool("tie_word_embeddings", config.tied_embeddings));
        top.ignore(bookkeeping);
        top.ignore(read_by_registry);
    } else {
        GNV_TRY(read_text(top, config, unknown));
    }
    if (has_vision) {
        config.vision.emplace();
        GNV_TRY(read_vision(vision_value, config.hidden, *config.vision, unknown));
        GNV_TRY(read_picture_tokens(top, config.picture_tokens));
    }
    GNV_TRY(top.unknown_keys(unknown));
    if (!unknown.empty()) {
        std::string list;
        for (const std::string & key : unknown) list += (list.empty() ? "" : ", ") + key;
        config.notes.push_back("unknown config keys: " + list);
    }
    return config;
}

int64_t Qwen35Config::full_attention_layers() const {
    return std::count(layers.begin(), layers.end(), Qwen35Attention::full);
}

} // namespace gnv
