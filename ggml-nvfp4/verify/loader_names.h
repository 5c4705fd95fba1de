// The names of loaders: their name spaces for modules, the parameters that they fuse, and the prefixes of checkpoints.
//
// Facts: vLLM 0.33 (models/qwen3_5.py, qwen3_vl.py, layers/quantization/compressed_tensors), SGLang (models/qwen3_5.py,
// qwen3_vl.py), compressed-tensors 0.19, as read and as observed with good and damaged checkpoints.
#pragma once

#include "model/model_def.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace gnv::verify {

struct NameSpace {
    const char * loader;
    // A module's name in the checkpoint -> the name that the loader compares with ignore and targets.
    std::string (*map)(const std::string & name);
    // Whether a plain name in the ignore list reaches the draft head; patterns always do.
    bool plain_draft_names;
};
// The first is the checkpoint's own, which compressed-tensors and transformers use.
const std::vector<NameSpace> & name_spaces();

inline bool is_expert_name(std::string_view name) { return name.find(".mlp.experts.") != std::string_view::npos; }

// Linears that a loader fuses into one parameter: all members must be quantized alike, under one global scale.
struct FusedParameter {
    const char * name; // "qkv_proj"
    std::array<Role, 3> members;
    size_t count;
    bool shares_scale; // the members can be quantized; others only must keep the source's precision together
};
const std::vector<FusedParameter> & fused_parameters();
// Position in fused_parameters(), or -1.
int fused_parameter_of(Role role);

// A name without leading "model." and "language_model." components: the same for every prefix.
std::string_view without_prefixes(std::string_view name);

} // namespace gnv::verify
