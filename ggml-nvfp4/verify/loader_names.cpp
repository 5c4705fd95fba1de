#include "verify/loader_names.h"

#include "core/strings.h"

namespace gnv::verify {

// Replaces the prefix `from`; false when the name does not start with it.
static bool replace_prefix(std::string & name, std::string_view from, std::string_view to) {
    if (!starts_with(name, from)) return false;
    name.replace(0, from.size(), to);
    return true;
}

static std::string vllm_name(const std::string & name) {
    std::string out = name;
    if (replace_prefix(out, "model.visual.", "visual.")) return out;
    if (replace_prefix(out, "model.language_model.", "language_model.model.")) return out;
    replace_prefix(out, "lm_head.", "language_model.lm_head.");
    return out;
}

static std::string sglang_name(const std::string & name) {
    std::string out = name;
    if (!replace_prefix(out, "model.visual.", "visual.")) return out;
    const std::string_view fused = ".attn.qkv";
    if (ends_with(out, fused)) out += "_proj";
    return out;
}

const std::vector<NameSpace> & name_spaces() {
    static const std::vector<NameSpace> spaces = {
        {"compressed-tensors", [](const std::string & name) { return name; }, true},
        {"vLLM", vllm_name, false},
        {"SGLang", sglang_name, false},
    };
    return spaces;
}

const std::vector<FusedParameter> & fused_parameters() {
    static const std::vector<FusedParameter> parameters = {
        {"qkv_proj", {Role::attention_q, Role::attention_k, Role::attention_v}, 3, true},
        {"gate_up_proj", {Role::mlp_gate, Role::mlp_up}, 2, true},
        {"shared_expert.gate_up_proj", {Role::shared_expert_gate_proj, Role::shared_expert_up}, 2, true},
        {"experts.w13", {Role::expert_gate, Role::expert_up}, 2, true},
        {"in_proj_qkvz", {Role::linear_attention_in_qkv, Role::linear_attention_in_z}, 2, true},
        {"in_proj_ba", {Role::linear_attention_in_b, Role::linear_attention_in_a}, 2, false},
    };
    return parameters;
}

int fused_parameter_of(Role role) {
    for (size_t i = 0; i < fused_parameters().size(); i++)
        for (size_t m = 0; m < fused_parameters()[i].count; m++)
            if (fused_parameters()[i].members[m] == role) return int(i);
    return -1;
}

std::string_view without_prefixes(std::string_view name) {
    for (;;) {
        if (starts_with(name, "model.")) {
            name.remove_prefix(6);
        } else if (starts_with(name, "language_model.")) {
            name.remove_prefix(15);
        } else {
            return name;
        }
    }
}

} // namespace gnv::verify
