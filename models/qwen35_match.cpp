#include "models/qwen35.h"
#include "models/qwen35_names.h"

namespace gnv {

Result<std::vector<TensorSpec>> list_qwen35_tensors(const JsonValue & config_json, const LayoutChoice & choice,
                                                    Qwen35Mlp mlp) {
    GNV_ASSIGN(const Qwen35Config config, read_qwen35_config(config_json, mlp));
    Qwen35Layout layout;
    layout.text_prefix = choice.nested_prefix ? qwen35_nested_prefix : qwen35_flat_prefix;
    layout.fused_experts.assign(config.layers.size(), choice.fused_experts);
    layout.fused_draft_experts.assign(size_t(config.draft_layers), choice.fused_mtp_experts);
    layout.draft_experts = choice.draft_experts;
    layout.with_vision = config.vision && choice.with_vision;
    layout.with_draft = config.draft_layers > 0 && choice.with_mtp;
    layout.with_lm_head = !config.tied_embeddings || choice.with_tied_head;
    return expand_qwen35(config, layout).tensors;
}

// --- Choices of a checkpoint ---------------------------------------------------------------------------------------

static constexpr int64_t most_draft_experts = 1 << 13; // as config.json may say of the model's own

static Result<std::string> find_text_prefix(const Checkpoint & checkpoint) {
    for (const char * prefix : {qwen35_nested_prefix, qwen35_flat_prefix})
        for (const char * name : {"embed_tokens.weight", "layers.0.input_layernorm.weight", "norm.weight"})
            if (checkpoint.find(std::string(prefix) + name) >= 0) return std::string(prefix);
    return fail(Code::model, checkpoint.folder(), ": tensor ", qwen35_nested_prefix, "embed_tokens.weight (or ",
                qwen35_flat_prefix,
                "embed_tokens.weight) is missing: this is no checkpoint of the model in config.json");
}

// Whether a block keeps its experts in one tensor per projection. A block without experts counts as fused, the
// published form; the comparison then names the missing tensors.
static Result<bool> has_fused_experts(const Checkpoint & checkpoint, const std::string & block, int64_t experts,
                                      Accept accept) {
    const std::string folder = block + "mlp.experts.";
    const auto any = [&](const std::string & prefix, std::initializer_list<const char *> names) {
        for (const char * name : names)
            if (checkpoint.find(prefix + name) >= 0) return true;
        return false;
    };
    const bool fused = any(folder, {"gate_up_proj", "down_proj"});
    bool single = false;
    for (const int64_t expert : {int64_t(0), experts - 1}) {
        const std::string prefix = concat(folder, expert, ".");
        single |= any(prefix, {"gate_proj.weight", "up_proj.weight", "down_proj.weight"});
        for (const Format * const format : accept)
            for (const char * projection : {"gate_proj", "down_proj"})
                single |= any(concat(prefix, projection), {format->components[0].suffix});
    }
    if (fused && single)
        return fail(Code::model, checkpoint.folder(), ": the experts of ", folder,
                    " are there twice, as one tensor and one by one; remove one of the two");
    return !single;
}

static Result<std::vector<bool>> find_fused_blocks(const Checkpoint & checkpoint, const Qwen35Config & config,
                                                   const std::string & part_prefix, int64_t layers, Accept accept) {
    std::vector<bool> fused(size_t(layers), false);
    if (config.mlp == Qwen35Mlp::dense) return fused;
    for (int64_t layer = 0; layer < layers; layer++) {
        GNV_ASSIGN(const bool is_fused,
                   has_fused_experts(checkpoint, qwen35_block_prefix(part_prefix, layer), config.experts, accept));
        fused[size_t(layer)] = is_fused;
    }
    return fused;
}

// No group of a pass holds the draft head, so it may have another number of experts, as where a model was pruned and its
// draft head was not: what its router says. 0: as config.json says.
static int64_t find_draft_experts(const Checkpoint & checkpoint, const Qwen35Config & config) {
    const int64_t router = checkpoint.find(qwen35_block_prefix(qwen35_draft_prefix, 0) + "mlp.gate.weight");
    if (config.mlp == Qwen35Mlp::dense || router < 0) return 0;
    const std::vector<int64_t> & shape = checkpoint.tensors()[size_t(router)].shape;
    const bool differs =
        shape.size() == 2 && shape[0] > 0 && shape[0] <= most_draft_experts && shape[0] != config.experts;
    return differs ? shape[0] : 0;
}

static Result<Qwen35Layout> find_layout(const Checkpoint & checkpoint, const Qwen35Config & config, Accept accept) {
    Qwen35Layout layout;
    GNV_ASSIGN(layout.text_prefix, find_text_prefix(checkpoint));
    layout.with_vision = config.vision && has_tensors(checkpoint, qwen35_vision_prefix);
    layout.with_draft = config.draft_layers > 0 && has_tensors(checkpoint, qwen35_draft_prefix);
    layout.with_lm_head = !config.tied_embeddings || checkpoint.find("lm_head.weight") >= 0;
    GNV_ASSIGN(layout.fused_experts,
               find_fused_blocks(checkpoint, config, layout.text_prefix, int64_t(config.layers.size()), accept));
    if (layout.with_draft) {
        layout.draft_experts = find_draft_experts(checkpoint, config);
        Qwen35Config draft = config;
        if (layout.draft_experts > 0) draft.experts = layout.draft_experts;
        GNV_ASSIGN(layout.fused_draft_experts,
                   find_fused_blocks(checkpoint, draft, qwen35_draft_prefix, config.draft_layers, accept));
    }
    return layout;
}

static std::string describe(const Qwen35Config & config, const ModelLayout & layout) {
    std::string out = concat(layout.family, ": ", config.layers.size(), " layers (", config.full_attention_layers(),
                             " full attention), hidden ", config.hidden);
    if (config.mlp == Qwen35Mlp::dense) {
        out += concat(", dense ", config.intermediate);
    } else {
        out += concat(", ", config.experts, " experts of ", config.expert_intermediate, ", top ",
                      config.experts_per_token);
    }
    if (config.tied_embeddings) out += ", tied embeddings";
    if (layout.has_vision) out += concat(", vision ", config.vision->depth, " blocks");
    if (layout.has_mtp)
        out += concat(", draft head ", config.draft_layers, config.draft_layers == 1 ? " layer" : " layers");
    return out;
}

static constexpr const char * vision_spellings[] = {"visual.", "vision_tower.", "vision_model."};
static constexpr const char * draft_spellings[] = {"mtp.", "mtp_layers.", "nextn."};

Result<ModelLayout> match_qwen35(const JsonValue & config_json, const Checkpoint & checkpoint, Accept accept,
                                 Qwen35Mlp mlp) {
    GNV_ASSIGN(const Qwen35Config config, read_qwen35_config(config_json, mlp));
    if (accept.empty()) GNV_TRY(refuse_quantized(checkpoint));
    GNV_ASSIGN(const Qwen35Layout found, find_layout(checkpoint, config, accept));

    ModelLayout layout;
    layout.family = mlp == Qwen35Mlp::dense ? "qwen3_5" : "qwen3_5_moe";
    layout.names = &qwen35::names;
    layout.notes = config.notes;
    layout.layer_count = int64_t(config.layers.size());
    layout.expert_count = config.experts;
    layout.has_vision = found.with_vision;
    layout.has_mtp = found.with_draft;
    layout.description = describe(config, layout);
    if (config.vision && !found.with_vision)
        layout.missing.push_back({Part::vision, "vision tower", qwen35_vision_prefix, vision_spellings});
    if (config.draft_layers > 0 && !found.with_draft)
        layout.missing.push_back({Part::mtp, "draft head", qwen35_draft_prefix, draft_spellings});
    if (found.draft_experts > 0)
        layout.notes.push_back(concat("the draft head has ", found.draft_experts, " experts, the model ",
                                      config.experts,
                                      "; it keeps them, and engines that build it from config.json refuse it"));
    GNV_TRY(match_tensors(expand_qwen35(config, found), checkpoint, accept, layout));
    return layout;
}

} // namespace gnv
