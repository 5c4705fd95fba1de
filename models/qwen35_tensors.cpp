// The tensor table of the Qwen3.5 family. Rows are in the order of the reference's named_modules(), so the Linears of
// an ignore list have the reference's order too.
#include "models/qwen35.h"

#include <array>

namespace gnv {

// --- Sizes ---------------------------------------------------------------------------------------------------------

namespace {

// clang-format off
// The size of an axis of a tensor; `end` closes a shape.
enum class Dim : uint8_t {
    end, one,
    hidden, hidden_2, vocabulary,
    query, query_and_gate, key_value, head,                              // full attention
    delta_channels, delta_value, value_heads, value_head, convolution,   // Gated DeltaNet
    dense, experts, expert, expert_2, shared,                            // MLP
    vision, vision_3, vision_mlp, vision_positions, vision_merged,       // vision tower
    in_channels, temporal_patch, patch,
    count_
};
// clang-format on

struct Sizes {
    std::array<int64_t, size_t(Dim::count_)> values{};
    int64_t & operator[](Dim dim) { return values[size_t(dim)]; }
    int64_t operator[](Dim dim) const { return values[size_t(dim)]; }
};

Sizes sizes_of(const Qwen35Config & config) {
    Sizes sizes;
    sizes[Dim::one] = 1;
    sizes[Dim::hidden] = config.hidden;
    sizes[Dim::hidden_2] = 2 * config.hidden;
    sizes[Dim::vocabulary] = config.vocabulary;
    sizes[Dim::query] = config.attention_heads * config.head;
    sizes[Dim::query_and_gate] = 2 * sizes[Dim::query];
    sizes[Dim::key_value] = config.kv_heads * config.head;
    sizes[Dim::head] = config.head;
    sizes[Dim::delta_value] = config.value_heads * config.value_head;
    sizes[Dim::delta_channels] = config.delta_channels();
    sizes[Dim::value_heads] = config.value_heads;
    sizes[Dim::value_head] = config.value_head;
    sizes[Dim::convolution] = config.convolution;
    sizes[Dim::dense] = config.intermediate;
    sizes[Dim::experts] = config.experts;
    sizes[Dim::expert] = config.expert_intermediate;
    sizes[Dim::expert_2] = 2 * config.expert_intermediate;
    sizes[Dim::shared] = config.shared_intermediate;
    if (config.vision) {
        sizes[Dim::vision] = config.vision->hidden;
        sizes[Dim::vision_3] = 3 * config.vision->hidden;
        sizes[Dim::vision_mlp] = config.vision->intermediate;
        sizes[Dim::vision_positions] = config.vision->positions;
        sizes[Dim::vision_merged] = config.vision->hidden * config.vision->merge * config.vision->merge;
        sizes[Dim::in_channels] = config.vision->in_channels;
        sizes[Dim::temporal_patch] = config.vision->temporal_patch;
        sizes[Dim::patch] = config.vision->patch;
    }
    return sizes;
}

// --- The table -----------------------------------------------------------------------------------------------------

enum class When : uint8_t { always, linear, full, dense, experts }; // attention, MLP

// Linears of one block that loaders fuse into one, so that they share a global scale.
enum class Group : uint8_t { none, qkv, qkvz, shared_gate_up, dense_gate_up, count_ };

struct Row {
    const char * name; // after the prefix of its part or block
    Role role;
    std::array<Dim, 6> shape; // up to Dim::end
    When when = When::always;
    Group group = Group::none;
};

// clang-format off
constexpr Row embedding_row = {"embed_tokens.weight", Role::embedding, {Dim::vocabulary, Dim::hidden}};
constexpr Row final_norm_row = {"norm.weight", Role::final_norm, {Dim::hidden}};
constexpr Row lm_head_row = {"lm_head.weight", Role::lm_head, {Dim::vocabulary, Dim::hidden}};

// A decoder block of the text model or of the draft head. Experts follow the router.
constexpr Row block_rows[] = {
    {"linear_attn.dt_bias", Role::linear_attention_dt_bias, {Dim::value_heads}, When::linear},
    {"linear_attn.A_log", Role::linear_attention_a_log, {Dim::value_heads}, When::linear},
    {"linear_attn.conv1d.weight", Role::linear_attention_conv, {Dim::delta_channels, Dim::one, Dim::convolution},
     When::linear},
    {"linear_attn.norm.weight", Role::linear_attention_norm, {Dim::value_head}, When::linear},
    {"linear_attn.out_proj.weight", Role::linear_attention_out, {Dim::hidden, Dim::delta_value}, When::linear},
    {"linear_attn.in_proj_qkv.weight", Role::linear_attention_in_qkv, {Dim::delta_channels, Dim::hidden},
     When::linear, Group::qkvz},
    {"linear_attn.in_proj_z.weight", Role::linear_attention_in_z, {Dim::delta_value, Dim::hidden},
     When::linear, Group::qkvz},
    {"linear_attn.in_proj_b.weight", Role::linear_attention_in_b, {Dim::value_heads, Dim::hidden}, When::linear},
    {"linear_attn.in_proj_a.weight", Role::linear_attention_in_a, {Dim::value_heads, Dim::hidden}, When::linear},

    {"self_attn.q_proj.weight", Role::attention_q, {Dim::query_and_gate, Dim::hidden}, When::full, Group::qkv},
    {"self_attn.k_proj.weight", Role::attention_k, {Dim::key_value, Dim::hidden}, When::full, Group::qkv},
    {"self_attn.v_proj.weight", Role::attention_v, {Dim::key_value, Dim::hidden}, When::full, Group::qkv},
    {"self_attn.o_proj.weight", Role::attention_o, {Dim::hidden, Dim::query}, When::full},
    {"self_attn.q_norm.weight", Role::attention_q_norm, {Dim::head}, When::full},
    {"self_attn.k_norm.weight", Role::attention_k_norm, {Dim::head}, When::full},

    {"mlp.gate_proj.weight", Role::mlp_gate, {Dim::dense, Dim::hidden}, When::dense, Group::dense_gate_up},
    {"mlp.up_proj.weight", Role::mlp_up, {Dim::dense, Dim::hidden}, When::dense, Group::dense_gate_up},
    {"mlp.down_proj.weight", Role::mlp_down, {Dim::hidden, Dim::dense}, When::dense},

    {"mlp.gate.weight", Role::router, {Dim::experts, Dim::hidden}, When::experts},
    {"mlp.shared_expert.gate_proj.weight", Role::shared_expert_gate_proj, {Dim::shared, Dim::hidden}, When::experts,
     Group::shared_gate_up},
    {"mlp.shared_expert.up_proj.weight", Role::shared_expert_up, {Dim::shared, Dim::hidden}, When::experts,
     Group::shared_gate_up},
    {"mlp.shared_expert.down_proj.weight", Role::shared_expert_down, {Dim::hidden, Dim::shared}, When::experts},
    {"mlp.shared_expert_gate.weight", Role::shared_expert_gate, {Dim::one, Dim::hidden}, When::experts},

    {"input_layernorm.weight", Role::input_norm, {Dim::hidden}},
    {"post_attention_layernorm.weight", Role::post_attention_norm, {Dim::hidden}},
};

constexpr Row fused_expert_rows[] = {
    {"mlp.experts.gate_up_proj", Role::experts_gate_up, {Dim::experts, Dim::expert_2, Dim::hidden}},
    {"mlp.experts.down_proj", Role::experts_down, {Dim::experts, Dim::hidden, Dim::expert}},
};

// One expert: "mlp.experts.7.gate_proj.weight", or a slice of one of the rows above.
struct ExpertRow {
    const char * name;
    Role role;
    Dim rows, columns;
    size_t fused; // position in fused_expert_rows
    int parts;    // Linears of an expert in it; two share a global scale
    int part;     // the position of this one
};
constexpr ExpertRow expert_rows[] = {
    {"gate_proj", Role::expert_gate, Dim::expert, Dim::hidden, 0, 2, 0},
    {"up_proj", Role::expert_up, Dim::expert, Dim::hidden, 0, 2, 1},
    {"down_proj", Role::expert_down, Dim::hidden, Dim::expert, 1, 1, 0},
};

constexpr Row vision_head_rows[] = {
    {"patch_embed.proj.weight", Role::vision_patch,
     {Dim::vision, Dim::in_channels, Dim::temporal_patch, Dim::patch, Dim::patch}},
    {"patch_embed.proj.bias", Role::vision_patch_bias, {Dim::vision}},
    {"pos_embed.weight", Role::vision_positions, {Dim::vision_positions, Dim::vision}},
};
constexpr Row vision_block_rows[] = {
    {"norm1.weight", Role::vision_norm1, {Dim::vision}},
    {"norm1.bias", Role::vision_norm1_bias, {Dim::vision}},
    {"norm2.weight", Role::vision_norm2, {Dim::vision}},
    {"norm2.bias", Role::vision_norm2_bias, {Dim::vision}},
    {"attn.qkv.weight", Role::vision_qkv, {Dim::vision_3, Dim::vision}},
    {"attn.qkv.bias", Role::vision_qkv_bias, {Dim::vision_3}},
    {"attn.proj.weight", Role::vision_proj, {Dim::vision, Dim::vision}},
    {"attn.proj.bias", Role::vision_proj_bias, {Dim::vision}},
    {"mlp.linear_fc1.weight", Role::vision_fc1, {Dim::vision_mlp, Dim::vision}},
    {"mlp.linear_fc1.bias", Role::vision_fc1_bias, {Dim::vision_mlp}},
    {"mlp.linear_fc2.weight", Role::vision_fc2, {Dim::vision, Dim::vision_mlp}},
    {"mlp.linear_fc2.bias", Role::vision_fc2_bias, {Dim::vision}},
};
constexpr Row vision_tail_rows[] = {
    {"merger.norm.weight", Role::vision_norm1, {Dim::vision}},
    {"merger.norm.bias", Role::vision_norm1_bias, {Dim::vision}},
    {"merger.linear_fc1.weight", Role::vision_fc1, {Dim::vision_merged, Dim::vision_merged}},
    {"merger.linear_fc1.bias", Role::vision_fc1_bias, {Dim::vision_merged}},
    {"merger.linear_fc2.weight", Role::vision_fc2, {Dim::hidden, Dim::vision_merged}},
    {"merger.linear_fc2.bias", Role::vision_fc2_bias, {Dim::hidden}},
};

constexpr Row draft_head_rows[] = {
    {"fc.weight", Role::mtp_fc, {Dim::hidden, Dim::hidden_2}}, // columns: embedding, then hidden state
    {"pre_fc_norm_embedding.weight", Role::mtp_embedding_norm, {Dim::hidden}},
    {"pre_fc_norm_hidden.weight", Role::mtp_hidden_norm, {Dim::hidden}},
};
constexpr Row draft_tail_rows[] = {
    {"norm.weight", Role::mtp_norm, {Dim::hidden}},
};
// clang-format on

// --- Expansion -----------------------------------------------------------------------------------------------------

constexpr std::string_view weight_suffix = ".weight";

// The target of rows: a part of the model, or one block of it.
struct Place {
    std::string prefix;
    Part part;
    int32_t layer = -1;
};

class Expander {
  public:
    explicit Expander(const Qwen35Config & config)
        : config_(config), sizes_(sizes_of(config)), experts_(config.experts) {}

    uint32_t add(const Row & row, const Place & place, int32_t fused_group = -1) {
        const uint32_t index = add_tensor(place.prefix + row.name, row.role, {}, place, -1);
        std::vector<int64_t> & shape = out_.tensors[index].shape;
        for (const Dim dim : row.shape) {
            if (dim == Dim::end) break;
            shape.push_back(sizes_[dim]);
        }
        if (role_traits(row.role).is_linear && ends_with(row.name, weight_suffix))
            add_module(out_.tensors[index].name, row.role, place, -1, index, 0, shape[0], shape[1], fused_group);
        return index;
    }

    template <size_t count>
    void add_all(const Row (&rows)[count], const Place & place) {
        for (const Row & row : rows) add(row, place);
    }

    // Of the blocks that follow: a draft head may have another number of experts than the model.
    void set_experts(int64_t count) {
        sizes_[Dim::experts] = count;
        experts_ = count;
    }

    void add_block(const Place & place, Qwen35Attention attention, bool fused_experts) {
        std::array<int32_t, size_t(Group::count_)> group_numbers;
        group_numbers.fill(-1);
        for (const Row & row : block_rows) {
            if (!applies(row.when, attention)) continue;
            int32_t & number = group_numbers[size_t(row.group)];
            if (row.group != Group::none && number < 0) number = next_group_++;
            add(row, place, number);
            if (row.role == Role::router) add_experts(place, fused_experts);
        }
    }

    // lm_head, if it shares the embedding's tensor.
    void add_tied_head(uint32_t embedding) {
        add_module(lm_head_row.name, Role::lm_head, {"", Part::text}, -1, embedding, 0, config_.vocabulary,
                   config_.hidden, -1);
    }

    ModelExpansion take() { return std::move(out_); }

  private:
    bool applies(When when, Qwen35Attention attention) const {
        switch (when) {
        case When::always: return true;
        case When::linear: return attention == Qwen35Attention::linear;
        case When::full: return attention == Qwen35Attention::full;
        case When::dense: return config_.mlp == Qwen35Mlp::dense;
        case When::experts: return config_.mlp == Qwen35Mlp::experts;
        }
        return false;
    }

    void add_experts(const Place & place, bool fused) {
        const auto first = uint32_t(out_.tensors.size());
        if (fused) add_all(fused_expert_rows, place);
        for (int32_t expert = 0; expert < experts_; expert++) {
            const int32_t gate_up = next_group_++;
            for (const ExpertRow & row : expert_rows) {
                const int64_t rows = sizes_[row.rows], columns = sizes_[row.columns];
                const std::string name = concat(place.prefix, "mlp.experts.", expert, ".", row.name, weight_suffix);
                uint32_t source = first + uint32_t(row.fused);
                uint64_t offset = 0;
                if (fused) {
                    offset = uint64_t(expert * row.parts + row.part) * uint64_t(rows * columns);
                } else {
                    source = add_tensor(name, row.role, {rows, columns}, place, expert);
                }
                add_module(name, row.role, place, expert, source, offset, rows, columns, row.parts == 2 ? gate_up : -1);
            }
        }
    }

    uint32_t add_tensor(std::string name, Role role, std::vector<int64_t> shape, const Place & place, int32_t expert) {
        out_.tensors.push_back(TensorSpec{std::move(name), std::move(shape), role, place.part, place.layer, expert});
        return uint32_t(out_.tensors.size() - 1);
    }

    void add_module(std::string_view tensor_name, Role role, const Place & place, int32_t expert, uint32_t source,
                    uint64_t offset, int64_t rows, int64_t columns, int32_t fused_group) {
        LinearModule module;
        module.name = std::string(tensor_name.substr(0, tensor_name.size() - weight_suffix.size()));
        module.role = role;
        module.part = place.part;
        module.layer = place.layer;
        module.expert = expert;
        module.source = source;
        module.offset = offset;
        module.rows = rows;
        module.columns = columns;
        module.fused_group = fused_group;
        out_.modules.push_back(std::move(module));
    }

    const Qwen35Config & config_;
    Sizes sizes_;
    int64_t experts_;
    ModelExpansion out_;
    int32_t next_group_ = 0;
};

} // namespace

std::string qwen35_block_prefix(const std::string & part_prefix, int64_t layer) {
    return concat(part_prefix, "layers.", layer, ".");
}

ModelExpansion expand_qwen35(const Qwen35Config & config, const Qwen35Layout & layout) {
    Expander expander(config);
    if (layout.with_vision) {
        const Place tower = {qwen35_vision_prefix, Part::vision};
        expander.add_all(vision_head_rows, tower);
        for (int32_t block = 0; block < config.vision->depth; block++)
            expander.add_all(vision_block_rows,
                             {concat(qwen35_vision_prefix, "blocks.", block, "."), Part::vision, block});
        expander.add_all(vision_tail_rows, tower);
    }

    const Place text = {layout.text_prefix, Part::text};
    const uint32_t embedding = expander.add(embedding_row, text);
    for (size_t layer = 0; layer < config.layers.size(); layer++)
        expander.add_block({qwen35_block_prefix(layout.text_prefix, int64_t(layer)), Part::text, int32_t(layer)},
                           config.layers[layer], layout.fused_experts[layer]);
    expander.add(final_norm_row, text);
    if (layout.with_lm_head) {
        expander.add(lm_head_row, {"", Part::text});
    } else {
        expander.add_tied_head(embedding);
    }

    if (layout.with_draft) {
        const Place draft = {qwen35_draft_prefix, Part::mtp};
        if (layout.draft_experts > 0) expander.set_experts(layout.draft_experts);
        expander.add_all(draft_head_rows, draft);
        for (int32_t layer = 0; layer < config.draft_layers; layer++)
            expander.add_block({qwen35_block_prefix(qwen35_draft_prefix, layer), Part::mtp, layer},
                               Qwen35Attention::full, layout.fused_draft_experts[size_t(layer)]);
        expander.add_all(draft_tail_rows, draft);
    }
    return expander.take();
}

} // namespace gnv
