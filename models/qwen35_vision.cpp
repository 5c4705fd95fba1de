// The vision tower of the Qwen3.5 family as stages of ops. Formulas: graph/ops.h; which module makes what: qwen35_names.h.
//
//   embed: patches + positions -> [ mixer: x + proj(attention(qkv(norm1(x)))) -> combine: x + fc2(gelu(fc1(norm2(x)))) ]
//   -> head, the merger: norm of each patch, then fc2(gelu(fc1(.))) of the merge * merge patches of a square together
//
// A segment is a frame. Patches come square by square, so that those which the merger joins are neighbours.
#include "model/block_writer.h"
#include "models/qwen35.h"
#include "models/qwen35_names.h"

#include <cmath>

namespace gnv {

using namespace qwen35;

namespace {

constexpr float norm_epsilon = 1e-6f; // of every norm; no key of config.json

class Qwen35Tower final : public TextModel {
  public:
    explicit Qwen35Tower(const Qwen35Vision & config) : config_(config) {
        sizes_.hidden = config.hidden;
        sizes_.layers = config.depth;
        sizes_.vocabulary = config.out_hidden;
        sizes_.max_positions = INT32_MAX;
        sizes_.given = config.in_channels * config.temporal_patch * config.patch * config.patch;
        sizes_.head_rows = config.merge * config.merge;
    }
    const TextModelSizes & sizes() const override { return sizes_; }
    Part part() const override { return Part::vision; }
    const ModelNames & names() const override { return qwen35::names; }
    std::vector<FieldSpec> fields() const override { return {{"patches", config_.hidden, DType::f32, true}}; }
    std::vector<Stage> block_stages(int32_t layer) const override {
        return {{StageKind::mixer, layer, 0, 0, Part::vision}, {StageKind::combine, layer, 0, 0, Part::vision}};
    }
    std::vector<WeightRef> stage_weights(const Stage & stage) const override;
    StageFields stage_fields(const Stage & stage) const override {
        const FieldSet stream = field_bit(hidden_field);
        return {stage.kind == StageKind::embed ? 0 : stream, stage.kind == StageKind::head ? 0 : stream};
    }
    std::vector<StageInput> stage_inputs(const Stage & stage) const override;
    int32_t block_kind(const Stage &) const override { return 0; }
    std::vector<StateSpec> states(int32_t, CacheType) const override { return {}; }
    void build(const Stage & stage, StageBuilder & builder) const override;

  private:
    Qwen35Vision config_;
    TextModelSizes sizes_;
};

// clang-format off
constexpr Role embed_roles[] = {Role::vision_patch, Role::vision_patch_bias, Role::vision_positions};
constexpr Role attention_roles[] = {
    Role::vision_norm1, Role::vision_norm1_bias, Role::vision_qkv, Role::vision_qkv_bias, Role::vision_proj,
    Role::vision_proj_bias,
};
constexpr Role mlp_roles[] = {
    Role::vision_norm2, Role::vision_norm2_bias, Role::vision_fc1, Role::vision_fc1_bias, Role::vision_fc2,
    Role::vision_fc2_bias,
};
constexpr Role merger_roles[] = {
    Role::vision_norm1, Role::vision_norm1_bias, Role::vision_fc1, Role::vision_fc1_bias, Role::vision_fc2,
    Role::vision_fc2_bias,
};
// clang-format on

std::vector<WeightRef> Qwen35Tower::stage_weights(const Stage & stage) const {
    std::vector<WeightRef> refs;
    const auto add = [&](const auto & roles) {
        for (const Role role : roles) {
            refs.push_back({role, stage.layer});
            refs.back().part = Part::vision;
        }
    };
    switch (stage.kind) {
    case StageKind::embed: add(embed_roles); break;
    case StageKind::mixer: add(attention_roles); break;
    case StageKind::combine: add(mlp_roles); break;
    case StageKind::head: add(merger_roles); break;
    default: break;
    }
    return refs;
}

std::vector<StageInput> Qwen35Tower::stage_inputs(const Stage & stage) const {
    if (stage.kind == StageKind::mixer)
        return {{vision_qkv_input, config_.hidden}, {vision_proj_input, config_.hidden}};
    if (stage.kind == StageKind::combine)
        return {{vision_fc1_input, config_.hidden}, {vision_fc2_input, config_.intermediate}};
    return {};
}

class TowerWriter : public BlockWriter {
  public:
    TowerWriter(const Qwen35Vision & config, StageBuilder & builder, const Stage & stage)
        : BlockWriter(qwen35::names, builder, stage), config_(config) {}

    ValueId embed();
    ValueId attention(ValueId x);
    ValueId mlp(ValueId x);
    ValueId merger(ValueId x);

  private:
    ValueId norm(ValueId x, Role weight_role, Role bias, int32_t site) {
        const LayerNormParams params = {norm_epsilon};
        return tapped(g_.add(params, {x, weight({weight_role, layer_}), weight({bias, layer_})}, name(site)), site);
    }
    ValueId rotated(ValueId qkv, int64_t column, const char * what);

    const Qwen35Vision & config_;
};

ValueId TowerWriter::embed() {
    ValueId pixels = given();
    // Devices keep pixels in BF16; the CPU rounds them here where it does as they do.
    if (g_.precision() == Precision::bf16 && g_.activation_dtype() == DType::f32)
        pixels = g_.add(ColumnsParams{0, b_.batch.given_columns}, {pixels}, "pixels");
    const ValueId patches = linear_with_bias(pixels, Role::vision_patch, Role::vision_patch_bias, site_patch_embed);
    const ValueId places =
        g_.add(GridEmbeddingParams{}, {weight({Role::vision_positions}), positions(), extents()}, "patch positions");
    return add(patches, places, site_patch_embed);
}

// Query or key: columns [column, column + hidden) of qkv, turned by the row and the column of the patch.
ValueId TowerWriter::rotated(ValueId qkv, int64_t column, const char * what) {
    RopeParams rope;
    rope.head = rope.rotary = config_.hidden / config_.heads;
    rope.theta = config_.rope_theta;
    rope.axial = true;
    rope.column = column;
    rope.heads = config_.heads;
    return g_.add(rope, {qkv, positions()}, where(what));
}

ValueId TowerWriter::attention(ValueId x) {
    const int64_t H = config_.hidden, D = H / config_.heads;
    const ValueId h = norm(x, Role::vision_norm1, Role::vision_norm1_bias, site_norm1); // [T, H]
    observe(h, vision_qkv_input);
    const ValueId qkv = linear_with_bias(h, Role::vision_qkv, Role::vision_qkv_bias, site_attn_qkv); // [T, 3 H]
    const ValueId q = rotated(qkv, 0, "rope of q"), k = rotated(qkv, H, "rope of k");
    const ValueId v = g_.add(ColumnsParams{2 * H, H}, {qkv}, where("values"));
    const AttentionParams params = {D, float(1 / std::sqrt(double(D))), false};
    const ValueId o = g_.add(params, {q, k, v, segments()}, where("attention"));
    observe(o, vision_proj_input);
    return linear_with_bias(o, Role::vision_proj, Role::vision_proj_bias, site_attn_proj);
}

ValueId TowerWriter::mlp(ValueId x) {
    const ValueId h = norm(x, Role::vision_norm2, Role::vision_norm2_bias, site_norm2);
    observe(h, vision_fc1_input);
    ValueId a = linear_with_bias(h, Role::vision_fc1, Role::vision_fc1_bias, site_mlp_fc1); // [T, I]
    a = g_.add(GeluParams{true}, {a}, where("activation"));
    observe(a, vision_fc2_input);
    return linear_with_bias(a, Role::vision_fc2, Role::vision_fc2_bias, site_mlp_fc2);
}

ValueId TowerWriter::merger(ValueId x) {
    const int64_t together = config_.merge * config_.merge;
    ValueId h = norm(x, Role::vision_norm1, Role::vision_norm1_bias, site_merger_norm); // [T, H]
    h = g_.reshape(h, {b_.batch.positions / together, together * config_.hidden});
    h = linear_with_bias(h, Role::vision_fc1, Role::vision_fc1_bias, site_merger_fc1);
    h = g_.add(GeluParams{false}, {h}, "merger activation"); // not the blocks' approximation
    return linear_with_bias(h, Role::vision_fc2, Role::vision_fc2_bias,
                            site_merger); // [T / together, hidden of the text]
}

void Qwen35Tower::build(const Stage & stage, StageBuilder & builder) const {
    TowerWriter block(config_, builder, stage);
    ValueId & stream = builder.fields[hidden_field];
    switch (stage.kind) {
    case StageKind::embed: stream = block.embed(); break;
    case StageKind::mixer: stream = block.add(stream, block.attention(stream), site_vision_block); break;
    case StageKind::combine:
        stream = block.tapped(block.add(stream, block.mlp(stream), site_vision_block), site_vision_block);
        break;
    case StageKind::head: builder.logits = block.merger(stream); break;
    default: break;
    }
}

} // namespace

Result<VisionModel> make_qwen35_vision(const JsonValue & config, Qwen35Mlp mlp) {
    GNV_ASSIGN(const Qwen35Config read, read_qwen35_config(config, mlp));
    VisionModel vision;
    if (!read.vision) return vision;
    vision.tower = std::make_unique<Qwen35Tower>(*read.vision);
    vision.merge = read.vision->merge;
    vision.tokens = read.picture_tokens;
    return vision;
}

} // namespace gnv
