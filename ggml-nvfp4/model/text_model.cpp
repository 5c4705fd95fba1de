#include "model/text_model.h"

#include <charconv>
#include <iterator>

namespace gnv {

// In the order of Site. Names after "layer.N.", or alone for those outside the blocks.
static const char * const site_names[] = {
    "embed",
    "norm",
    "logits",
    "",
    "input_layernorm",
    "linear_attn.in_proj_qkv",
    "linear_attn.in_proj_z",
    "linear_attn.in_proj_b",
    "linear_attn.in_proj_a",
    "linear_attn.conv1d",
    "linear_attn.norm",
    "linear_attn.out_proj",
    "linear_attn",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.o_proj",
    "self_attn",
    "post_attention_layernorm",
    "mlp.gate",
    "mlp.gate.1",
    "mlp.gate.2",
    "mlp.experts",
    "mlp.shared_expert.gate_proj",
    "mlp.shared_expert.up_proj",
    "mlp.shared_expert.down_proj",
    "mlp.shared_expert",
    "mlp.shared_expert_gate",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "mlp",
};
static_assert(std::size(site_names) == size_t(Site::count_));

static bool is_outside_blocks(Site site) { return site <= Site::logits; }

std::string tap_name(const Tap & tap) {
    const std::string name = site_names[size_t(tap.site)];
    if (tap.layer < 0) return name;
    return concat("layer.", tap.layer, name.empty() ? "" : ".", name);
}

static bool site_from_name(std::string_view name, bool outside, Tap & tap) {
    for (size_t i = 0; i < std::size(site_names); i++) {
        if (name != site_names[i] || is_outside_blocks(Site(i)) != outside) continue;
        tap.site = int32_t(i);
        return true;
    }
    return false;
}

Result<Tap> parse_tap(const std::string & name, int64_t layers) {
    Tap tap;
    if (site_from_name(name, true, tap)) return tap;
    constexpr std::string_view prefix = "layer.";
    if (starts_with(name, prefix)) {
        const char * const begin = name.data() + prefix.size();
        const char * const end = name.data() + name.size();
        const auto [rest, error] = std::from_chars(begin, end, tap.layer);
        const bool whole = rest == end, more = !whole && *rest == '.';
        if (error == std::errc() && tap.layer >= 0 && tap.layer < layers && (whole || more) &&
            site_from_name(std::string_view(rest + (more ? 1 : 0), size_t(end - rest - (more ? 1 : 0))), false, tap))
            return tap;
    }
    std::string known;
    for (size_t i = 0; i < std::size(site_names); i++)
        if (*site_names[i])
            known += concat(known.empty() ? "" : ", ", is_outside_blocks(Site(i)) ? "" : "layer.N.", site_names[i]);
    return fail(Code::invalid_argument, "there is no output \"", printable(name), "\" in a model of ", layers,
                " layers; there are layer.N, ", known);
}

static const char * const observed_names[] = {
    "mixer_input",       "attention_out_input", "linear_attention_out_input", "mlp_input", "shared_down_input",
    "expert_down_input", "mlp_down_input",
};
static_assert(std::size(observed_names) == size_t(Observed::count_));

const char * observed_name(Observed observed) { return observed_names[size_t(observed)]; }

Observed observed_by(Role role) {
    switch (role) {
    case Role::attention_q:
    case Role::attention_k:
    case Role::attention_v:
    case Role::linear_attention_in_qkv:
    case Role::linear_attention_in_z:
    case Role::linear_attention_in_a:
    case Role::linear_attention_in_b: return Observed::mixer_input;
    case Role::attention_o: return Observed::attention_out_input;
    case Role::linear_attention_out: return Observed::linear_attention_out_input;
    case Role::router:
    case Role::shared_expert_gate:
    case Role::shared_expert_gate_proj:
    case Role::shared_expert_up:
    case Role::expert_gate:
    case Role::expert_up:
    case Role::mlp_gate:
    case Role::mlp_up: return Observed::mlp_input;
    case Role::shared_expert_down: return Observed::shared_down_input;
    case Role::expert_down: return Observed::expert_down_input;
    case Role::mlp_down: return Observed::mlp_down_input;
    default: return Observed::count_;
    }
}

} // namespace gnv
