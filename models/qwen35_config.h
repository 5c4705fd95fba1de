// The sizes and switches of the Qwen3.5 / 3.6 / 3.8 family, from config.json: a hybrid of Gated DeltaNet and gated full
// attention, with a dense MLP (qwen3_5) or with experts (qwen3_5_moe), with or without vision tower and draft head.
//
// Facts: transformers models/qwen3_5 and qwen3_5_moe (configuration_*.py, modeling_*.py) and the published config.json
// files. Both the nested form (text_config, vision_config) and the flat one of the text-only classes are read.
#pragma once

#include "core/status.h"
#include "formats/json.h"
#include "model/vision_model.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

enum class Qwen35Mlp : uint8_t { dense, experts };
enum class Qwen35Attention : uint8_t { linear, full };
// See Yarn of graph/ops.h.
struct Qwen35Yarn {
    double factor = 1, low = 0, high = 1, attention_factor = 1;
};
enum class Qwen35OutputGate : uint8_t { silu, sigmoid }; // of the Gated DeltaNet's norm

struct Qwen35Vision {
    int64_t depth = 0;
    int64_t hidden = 0;
    int64_t heads = 0;
    int64_t intermediate = 0;
    int64_t in_channels = 0;
    int64_t patch = 0;          // pixels, both directions
    int64_t temporal_patch = 0; // frames
    int64_t merge = 0;          // patches, both directions
    int64_t positions = 0;      // rows of the position table, a square number
    int64_t out_hidden = 0;     // equals the text model's hidden size
    double rope_theta = 10000;
};

// Every number is checked: positive, small enough that no product of the tensor table overflows, and divisible if heads
// share.
struct Qwen35Config {
    Qwen35Mlp mlp = Qwen35Mlp::dense;
    bool nested = false; // text_config inside: names start with "model.language_model."
    int64_t hidden = 0;
    int64_t vocabulary = 0;
    int64_t max_positions = 32768; // the default of the class
    double norm_epsilon = 1e-6;
    bool tied_embeddings = false;
    std::vector<Qwen35Attention> layers;

    int64_t attention_heads = 0;
    int64_t kv_heads = 0;
    int64_t head = 0;   // width of one attention head
    int64_t rotary = 0; // dimensions of a head that rotate
    double rope_theta = 0;
    int64_t rope_section[3] = {11, 11, 10}; // pairs that follow time, height, width; interleaved
    std::string rope_type = "default";      // of others than "default" and "yarn" only the weights are known
    Qwen35Yarn yarn;

    int64_t key_heads = 0;   // Gated DeltaNet
    int64_t value_heads = 0; // a multiple of key_heads
    int64_t key_head = 0;
    int64_t value_head = 0;
    int64_t convolution = 0; // taps
    Qwen35OutputGate output_gate = Qwen35OutputGate::silu;

    int64_t intermediate = 0; // dense only
    int64_t experts = 0;      // the rest for experts only
    int64_t experts_per_token = 0;
    int64_t expert_intermediate = 0;
    int64_t shared_intermediate = 0;

    int64_t draft_layers = 0; // of the MTP head; 0 without one
    std::optional<Qwen35Vision> vision;
    PictureTokens picture_tokens;
    std::vector<std::string> notes; // what was found and does not matter, for people

    int64_t full_attention_layers() const;
    // Channels of the convolution of a Gated DeltaNet: q, k, v.
    int64_t delta_channels() const { return 2 * key_heads * key_head + value_heads * value_head; }
};

// Fails on missing keys, on impossible numbers (Code::format) and on unsupported values
// (Code::unsupported). Unknown keys become a note.
Result<Qwen35Config> read_qwen35_config(const JsonValue & config, Qwen35Mlp mlp);

} // namespace gnv
