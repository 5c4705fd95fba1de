#include "models/qwen35_names.h"

#include <iterator>

namespace gnv::qwen35 {

static constexpr SiteName sites[] = {
    {"embed", false},
    {"norm", false},
    {"logits", false},
    {""},
    {"input_layernorm"},
    {"linear_attn.in_proj_qkv"},
    {"linear_attn.in_proj_z"},
    {"linear_attn.in_proj_b"},
    {"linear_attn.in_proj_a"},
    {"linear_attn.conv1d"},
    {"linear_attn.norm"},
    {"linear_attn.out_proj"},
    {"linear_attn"},
    {"self_attn.q_proj"},
    {"self_attn.k_proj"},
    {"self_attn.v_proj"},
    {"self_attn.q_norm"},
    {"self_attn.k_norm"},
    {"self_attn.o_proj"},
    {"self_attn"},
    {"post_attention_layernorm"},
    {"mlp.gate"},
    {"mlp.gate.1"},
    {"mlp.gate.2"},
    {"mlp.experts"},
    {"mlp.shared_expert.gate_proj"},
    {"mlp.shared_expert.up_proj"},
    {"mlp.shared_expert.down_proj"},
    {"mlp.shared_expert"},
    {"mlp.shared_expert_gate"},
    {"mlp.gate_proj"},
    {"mlp.up_proj"},
    {"mlp.down_proj"},
    {"mlp"},
    {"patch_embed", false, true},
    {"merger.norm", false, true},
    {"merger.linear_fc1", false, true},
    {"merger", false, true},
    {"", true, true},
    {"norm1", true, true},
    {"attn.qkv", true, true},
    {"attn.proj", true, true},
    {"norm2", true, true},
    {"mlp.linear_fc1", true, true},
    {"mlp.linear_fc2", true, true},
};
static_assert(std::size(sites) == site_count);

static constexpr ModuleInput inputs[] = {
    {"mixer_input"},
    {"attention_out_input"},
    {"linear_attention_out_input"},
    {"mlp_input"},
    {"shared_down_input"},
    {"expert_down_input", true},
    {"mlp_down_input"},
    {"chosen experts", true, true},
    {"vision_qkv_input"},
    {"vision_proj_input"},
    {"vision_fc1_input"},
    {"vision_fc2_input"},
    {"routed_expert_input", true, false, true},
    {"routed_down_input", true, false, true},
};
static_assert(std::size(inputs) == input_count);

static int32_t input_of(Role role) {
    switch (role) {
    case Role::attention_q:
    case Role::attention_k:
    case Role::attention_v:
    case Role::linear_attention_in_qkv:
    case Role::linear_attention_in_z:
    case Role::linear_attention_in_a:
    case Role::linear_attention_in_b: return mixer_input;
    case Role::attention_o: return attention_out_input;
    case Role::linear_attention_out: return linear_attention_out_input;
    case Role::router:
    case Role::shared_expert_gate:
    case Role::shared_expert_gate_proj:
    case Role::shared_expert_up:
    case Role::expert_gate:
    case Role::expert_up:
    case Role::mlp_gate:
    case Role::mlp_up: return mlp_input;
    case Role::shared_expert_down: return shared_down_input;
    case Role::expert_down: return expert_down_input;
    case Role::mlp_down: return mlp_down_input;
    case Role::vision_qkv: return vision_qkv_input;
    case Role::vision_proj: return vision_proj_input;
    case Role::vision_fc1: return vision_fc1_input;
    case Role::vision_fc2: return vision_fc2_input;
    default: return -1;
    }
}

static int32_t routed_input_of(Role role) {
    switch (role) {
    case Role::expert_gate:
    case Role::expert_up: return routed_expert_input;
    case Role::expert_down: return routed_down_input;
    default: return input_of(role);
    }
}

const ModelNames names = {sites, inputs, input_of, site_mlp_gate_2, routed_input_of};

} // namespace gnv::qwen35
