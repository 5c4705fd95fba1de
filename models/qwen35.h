// The Qwen3.5 family's entries for the registry, and the layout of its tensor table for one config.
#pragma once

#include "model/vision_model.h"
#include "models/match.h"
#include "models/qwen35_config.h"

#include <string>
#include <vector>

namespace gnv {

inline constexpr const char * qwen35_nested_prefix = "model.language_model.";
inline constexpr const char * qwen35_flat_prefix = "model.";
inline constexpr const char * qwen35_vision_prefix = "model.visual.";
inline constexpr const char * qwen35_draft_prefix = "mtp.";

// The choices of a checkpoint, block by block.
struct Qwen35Layout {
    std::string text_prefix;
    std::vector<bool> fused_experts;       // one entry per text layer
    std::vector<bool> fused_draft_experts; // one entry per layer of the draft head
    int64_t draft_experts = 0;             // of the draft head, where it has others than config.json says
    bool with_vision = false;              // needs config.vision
    bool with_draft = false;               // needs config.draft_layers
    bool with_lm_head = false;             // false: lm_head's Linear lies in the embedding
};

// Tensors in the order of the reference's named_modules(): vision, text, lm_head, draft head.
ModelExpansion expand_qwen35(const Qwen35Config & config, const Qwen35Layout & layout);

// "layers.3." and the like after one of the prefixes above
std::string qwen35_block_prefix(const std::string & part_prefix, int64_t layer);

Result<std::vector<TensorSpec>> list_qwen35_tensors(const JsonValue & config, const LayoutChoice & choice,
                                                    Qwen35Mlp mlp);
Result<ModelLayout> match_qwen35(const JsonValue & config, const Checkpoint & checkpoint, Accept accept, Qwen35Mlp mlp);
Result<std::unique_ptr<TextModel>> make_qwen35_text(const JsonValue & config, Qwen35Mlp mlp);
Result<std::unique_ptr<TextModel>> make_qwen35_draft(const JsonValue & config, Qwen35Mlp mlp, int64_t experts);
Result<VisionModel> make_qwen35_vision(const JsonValue & config, Qwen35Mlp mlp);

} // namespace gnv
