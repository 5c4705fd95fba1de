// The description of a model that a family in models/ gives to the rest of the library: the tensors of a checkpoint
// with their roles, and the Linear modules (as loaders see them) with their places in the tensors.
//
// Names are parsed once, there; all other code works with roles and indices.
#pragma once

#include "checkpoint/safetensors.h"
#include "codec/format.h"
#include "core/status.h"
#include "formats/json.h"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace gnv {

// clang-format off
enum class Role : uint8_t {
    embedding, lm_head, final_norm,
    input_norm, post_attention_norm,
    attention_q, attention_k, attention_v, attention_o, attention_q_norm, attention_k_norm,
    linear_attention_in_qkv, linear_attention_in_z, linear_attention_in_a, linear_attention_in_b,
    linear_attention_conv, linear_attention_a_log, linear_attention_dt_bias, linear_attention_norm,
    linear_attention_out,
    router, shared_expert_gate,                          // mlp.gate, mlp.shared_expert_gate
    experts_gate_up, experts_down,                       // fused: [E, 2 I, H] and [E, H, I]
    expert_gate, expert_up, expert_down,                 // one tensor per expert
    shared_expert_gate_proj, shared_expert_up, shared_expert_down,
    mlp_gate, mlp_up, mlp_down,                          // dense members
    vision_patch, vision_patch_bias, vision_positions,   // the vision tower: patch embedding, table of positions
    vision_norm1, vision_norm1_bias, vision_norm2, vision_norm2_bias,
    vision_qkv, vision_qkv_bias, vision_proj, vision_proj_bias,
    vision_fc1, vision_fc1_bias, vision_fc2, vision_fc2_bias, // outside of blocks: those of the merger, as vision_norm1
    mtp_fc, mtp_embedding_norm, mtp_hidden_norm, mtp_norm, // the draft head's own tensors
    extra,                                               // in the checkpoint, unknown to the model
    count_
};
// clang-format on

struct RoleTraits {
    const char * name;
    bool is_linear;    // torch.nn.Linear in the reference (router included): subject to targets and ignore lists
    bool can_quantize; // loaders accept a quantized weight here
};
const RoleTraits & role_traits(Role role);

enum class Part : uint8_t { text, vision, mtp };

// One tensor that the checkpoint must hold.
struct ModelTensor {
    uint32_t source = 0; // position in Checkpoint::tensors()
    Role role = Role::extra;
    Part part = Part::text;
    int32_t layer = -1;  // block within its part, -1 outside blocks
    int32_t expert = -1; // per-expert tensors only
};

// One Linear under the name that loaders use. A fused expert tensor holds many, as consecutive slices.
struct LinearModule {
    std::string name;        // "model.language_model.layers.3.mlp.experts.7.gate_proj", without ".weight"
    Role role = Role::extra; // expert_gate etc., also where the source is fused
    Part part = Part::text;
    int32_t layer = -1;
    int32_t expert = -1;
    uint32_t source = 0;      // position in Checkpoint::tensors() of the tensor that holds the weight
    uint64_t offset = 0;      // bytes from the start of that tensor
    int64_t rows = 0;         // N = out_features
    int64_t columns = 0;      // K = in_features
    int32_t fused_group = -1; // modules with the same number >= 0 share one global scale in every loader

    // In a quantized checkpoint: the format, and by component positions in Checkpoint::tensors(). `source` is then the
    // first of them, and `offset` 0.
    const Format * stored = nullptr; // null: in the source's precision
    std::array<int64_t, most_components> parts = {};
    bool has_input_scale() const { return stored && stored->takes_input_scale(); }
    int64_t input_scale() const { return parts[size_t(stored->input_component())]; } // requires has_input_scale()
};

// One tensor that a config requires, known without a checkpoint.
struct TensorSpec {
    std::string name;
    std::vector<int64_t> shape;
    Role role = Role::extra;
    Part part = Part::text;
    int32_t layer = -1, expert = -1;
};

// The choices in which published checkpoints of one config differ.
struct LayoutChoice {
    bool fused_experts = true;     // one 3-D tensor per projection, or one 2-D tensor per expert
    bool fused_mtp_experts = true; // the same for the draft head
    bool with_vision = true;       // if the config has one
    bool with_mtp = true;
    int64_t draft_experts = 0;   // of the draft head, where it has others than the config says
    bool with_tied_head = false; // lm_head.weight, although tied embeddings make it a copy
    bool nested_prefix = true;   // "model.language_model." or "model."
};

// Every tensor of the model that `config` (parsed config.json) describes, in model order.
Result<std::vector<TensorSpec>> list_tensors(const JsonValue & config, const LayoutChoice & choice);

// A part that config.json announces and of which the checkpoint holds no tensor.
struct MissingPart {
    Part part = Part::text;
    const char * what = "";                       // "draft head"
    const char * prefix = "";                     // of the names of its tensors: "mtp."
    std::span<const char * const> spellings = {}; // what tools put before its tensors, maybe after more: "mtp."
};

struct ModelNames; // model/model_names.h

// A checkpoint matched against its model.
struct ModelLayout {
    std::string family;                 // "qwen3_5_moe"
    const ModelNames * names = nullptr; // of the family
    std::string description;            // one line for people: sizes, layers, experts
    std::vector<ModelTensor> tensors;   // every tensor of the checkpoint at most once, in model order, extras last
    std::vector<LinearModule> modules;  // every Linear, in the order of the reference's named_modules()
    std::vector<std::string> notes;     // unknown config keys, extra tensors: said, not refused
    std::vector<MissingPart> missing;
    int64_t layer_count = 0;
    int64_t expert_count = 0; // 0 for dense models
    bool has_vision = false;
    bool has_mtp = false;
};

// The formats that Linears of a checkpoint may have, besides the source's precision: none for a checkpoint to quantize,
// all_formats() for a checkpoint to run.
using Accept = std::span<const Format * const>;

// Matches the checkpoint's tensors against `config`, the parsed config.json. Fails with the name of the first tensor
// that is missing or has another shape or dtype than the config requires, on unknown architectures, on unknown values
// of known keys, and on formats outside `accept`. Defined in models/registry.cpp.
Result<ModelLayout> match_model(const JsonValue & config, const Checkpoint & checkpoint, Accept accept = {});

} // namespace gnv
