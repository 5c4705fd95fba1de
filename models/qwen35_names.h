// The names of the Qwen3.5 family's activations; the tables are in the order of these enumerations.
#pragma once

#include "model/model_names.h"

namespace gnv::qwen35 {

// Outputs of modules.
enum Site : int32_t {
    site_embed,
    site_norm,
    site_logits,
    site_block,
    site_input_layernorm,
    site_linear_attn_in_proj_qkv,
    site_linear_attn_in_proj_z,
    site_linear_attn_in_proj_b,
    site_linear_attn_in_proj_a,
    site_linear_attn_conv1d,
    site_linear_attn_norm,
    site_linear_attn_out_proj,
    site_linear_attn,
    site_self_attn_q_proj,
    site_self_attn_k_proj,
    site_self_attn_v_proj,
    site_self_attn_q_norm,
    site_self_attn_k_norm,
    site_self_attn_o_proj,
    site_self_attn,
    site_post_attention_layernorm,
    site_mlp_gate,   // router logits
    site_mlp_gate_1, // weights of the chosen experts
    site_mlp_gate_2, // their numbers
    site_mlp_experts,
    site_mlp_shared_expert_gate_proj,
    site_mlp_shared_expert_up_proj,
    site_mlp_shared_expert_down_proj,
    site_mlp_shared_expert,
    site_mlp_shared_expert_gate,
    site_mlp_gate_proj, // dense members
    site_mlp_up_proj,
    site_mlp_down_proj,
    site_mlp,
    site_patch_embed, // vision tower: patches without their positions
    site_merger_norm,
    site_merger_fc1,
    site_merger,
    site_vision_block,
    site_norm1,
    site_attn_qkv,
    site_attn_proj,
    site_norm2,
    site_mlp_fc1,
    site_mlp_fc2,
    site_count
};

// Inputs of Linears.
enum Input : int32_t {
    mixer_input,                // q, k, v; in_proj_*
    attention_out_input,        // o_proj
    linear_attention_out_input, // out_proj of a Gated DeltaNet
    mlp_input,                  // router, shared expert, gate and up of experts or of a dense MLP
    shared_down_input,
    expert_down_input,
    mlp_down_input,
    chosen_experts,
    vision_qkv_input,
    vision_proj_input,
    vision_fc1_input,
    vision_fc2_input,
    routed_expert_input, // gate and up of experts, what was routed to them
    routed_down_input,
    input_count
};

extern const ModelNames names;

} // namespace gnv::qwen35
