// The text model of the Qwen3.5 family as stages of ops. Formulas: graph/ops.h; sites and inputs: qwen35_names.h.
#include "model/block_writer.h"
#include "models/qwen35.h"
#include "models/qwen35_names.h"

#include <cmath>

namespace gnv {

using namespace qwen35;

namespace {

// Fields between stages: the residual stream; the sum over the chosen experts of the ranges so far; the router's
// weights and choices.
enum TextField : Field { hidden = hidden_field, routed, router_weights, router_indices };

class Qwen35Text final : public TextModel {
  public:
    // `part`: the text, or its draft head; the config is then that of the head's own layers.
    explicit Qwen35Text(Qwen35Config config, Part part = Part::text) : config_(std::move(config)), part_(part) {
        sizes_.hidden = config_.hidden;
        sizes_.vocabulary = config_.vocabulary;
        sizes_.layers = int64_t(config_.layers.size());
        sizes_.experts = config_.experts;
        sizes_.experts_per_token = config_.experts_per_token;
        sizes_.max_positions = config_.max_positions;
        sizes_.given = config_.hidden;
    }
    const TextModelSizes & sizes() const override { return sizes_; }
    Part part() const override { return part_; }
    const ModelNames & names() const override { return qwen35::names; }
    std::vector<FieldSpec> fields() const override;
    std::vector<Stage> block_stages(int32_t layer) const override;
    std::vector<WeightRef> stage_weights(const Stage & stage) const override;
    StageFields stage_fields(const Stage & stage) const override;
    std::vector<StageInput> stage_inputs(const Stage & stage) const override;
    int32_t block_kind(const Stage & stage) const override {
        return stage.layer >= 0 && is_full_attention(stage.layer) ? 1 : 0;
    }
    std::vector<StateSpec> states(int32_t layer, CacheType cache) const override;
    std::vector<StateSpec> replayed(int32_t layer) const override;
    void build(const Stage & stage, StageBuilder & builder) const override;

  private:
    bool is_full_attention(int32_t layer) const { return config_.layers[size_t(layer)] == Qwen35Attention::full; }
    bool has_experts() const { return config_.mlp == Qwen35Mlp::experts; }
    bool is_draft() const { return part_ == Part::mtp; }

    Qwen35Config config_;
    Part part_;
    TextModelSizes sizes_;
};

// --- Stages and their weights -------------------------------------------------------------------------------------------------

std::vector<Stage> Qwen35Text::block_stages(int32_t layer) const {
    if (!has_experts()) return {{StageKind::mixer, layer, 0, 0, part_}, {StageKind::combine, layer, 0, 0, part_}};
    return {{StageKind::mixer, layer, 0, 0, part_},
            {StageKind::route, layer, 0, 0, part_},
            {StageKind::experts, layer, 0, int32_t(config_.experts), part_},
            {StageKind::combine, layer, 0, 0, part_}};
}

// clang-format off
constexpr Role full_attention_roles[] = {
    Role::input_norm, Role::attention_q, Role::attention_k, Role::attention_v, Role::attention_q_norm,
    Role::attention_k_norm, Role::attention_o,
};
constexpr Role linear_attention_roles[] = {
    Role::input_norm, Role::linear_attention_in_qkv, Role::linear_attention_in_z, Role::linear_attention_in_a,
    Role::linear_attention_in_b, Role::linear_attention_conv, Role::linear_attention_a_log,
    Role::linear_attention_dt_bias, Role::linear_attention_norm, Role::linear_attention_out,
};
constexpr Role route_roles[] = {Role::post_attention_norm, Role::router};
constexpr Role expert_roles[] = {Role::expert_gate, Role::expert_up, Role::expert_down};
constexpr Role shared_roles[] = {
    Role::post_attention_norm, Role::shared_expert_gate_proj, Role::shared_expert_up, Role::shared_expert_down,
    Role::shared_expert_gate,
};
constexpr Role replay_roles[] = {
    Role::linear_attention_conv, Role::linear_attention_a_log, Role::linear_attention_dt_bias,
};
constexpr Role draft_roles[] = {Role::mtp_fc, Role::mtp_embedding_norm, Role::mtp_hidden_norm, Role::mtp_norm};
constexpr Role dense_roles[] = {Role::post_attention_norm, Role::mlp_gate, Role::mlp_up, Role::mlp_down};
// clang-format on

std::vector<WeightRef> Qwen35Text::stage_weights(const Stage & stage) const {
    std::vector<WeightRef> refs;
    const auto of_text = [&](Role role) { // shared with a draft head
        refs.push_back({role});
        refs.back().part = Part::text;
    };
    const auto add = [&](const auto & roles) {
        for (const Role role : roles) refs.push_back({role, stage.layer, -1, 0, false, part_});
    };
    switch (stage.kind) {
    case StageKind::embed:
        of_text(Role::embedding);
        if (is_draft()) of_text(Role::final_norm);
        if (is_draft()) add(draft_roles);
        break;
    case StageKind::replay: add(replay_roles); break;
    case StageKind::mixer:
        if (is_full_attention(stage.layer)) {
            add(full_attention_roles);
        } else {
            add(linear_attention_roles);
        }
        break;
    case StageKind::route: add(route_roles); break;
    case StageKind::experts:
        refs.push_back({Role::post_attention_norm, stage.layer, -1, 0, false, part_});
        for (const Role role : expert_roles)
            refs.push_back({role, stage.layer, stage.first_expert, stage.expert_count, false, part_});
        break;
    case StageKind::combine:
        if (has_experts()) {
            add(shared_roles);
        } else {
            add(dense_roles);
        }
        break;
    case StageKind::head:
        if (is_draft()) {
            refs.push_back({Role::mtp_norm, -1, -1, 0, false, part_});
        } else {
            of_text(Role::final_norm);
        }
        of_text(Role::lm_head);
        break;
    }
    return refs;
}

// --- Fields and inputs of stages ----------------------------------------------------------------------------------------------

std::vector<FieldSpec> Qwen35Text::fields() const {
    return {{"hidden", config_.hidden, DType::f32, true},
            {"routed", config_.hidden},
            {"router weights", config_.experts_per_token},
            {"router indices", config_.experts_per_token, DType::i32}};
}

StageFields Qwen35Text::stage_fields(const Stage & stage) const {
    constexpr FieldSet stream = field_bit(hidden), sum = field_bit(routed),
                       choice = field_bit(router_weights) | field_bit(router_indices);
    switch (stage.kind) {
    case StageKind::embed: return {is_draft() ? stream : 0, stream};
    case StageKind::replay: return {};
    case StageKind::mixer: return {stream, stream};
    case StageKind::route: return {stream, choice};
    case StageKind::experts: return {stream | choice | (stage.first_expert > 0 ? sum : 0), sum};
    case StageKind::combine: return {stream | (has_experts() ? sum : 0), stream, sum | choice};
    case StageKind::head: return {stream};
    }
    return {};
}

std::vector<StageInput> Qwen35Text::stage_inputs(const Stage & stage) const {
    const int64_t H = config_.hidden, I = config_.intermediate;
    switch (stage.kind) {
    case StageKind::mixer:
        if (is_full_attention(stage.layer))
            return {{mixer_input, H}, {attention_out_input, config_.attention_heads * config_.head}};
        return {{mixer_input, H}, {linear_attention_out_input, config_.value_heads * config_.value_head}};
    case StageKind::route: return {{mlp_input, H}, {chosen_experts, 1, config_.experts, 0, config_.experts}};
    case StageKind::experts:
        return {
            {expert_down_input, config_.expert_intermediate, config_.experts, stage.first_expert, stage.expert_count},
            {routed_expert_input, H, config_.experts, stage.first_expert, stage.expert_count},
            {routed_down_input, config_.expert_intermediate, config_.experts, stage.first_expert, stage.expert_count}};
    case StageKind::combine:
        if (has_experts()) return {{shared_down_input, config_.shared_intermediate}};
        return {{mlp_input, H}, {mlp_down_input, I}};
    default: return {};
    }
}

enum ReplayedRows : int32_t { replayed_qkv, replayed_a, replayed_b };
enum FullState : int32_t { cached_keys, cached_values, key_scales, value_scales };
enum LinearState : int32_t { convolution_history, delta_memory };
// In StageBuilder::shared: the input of the second half of a block, products of it, and the shared expert's output.
enum Shared : size_t { normed_stream, shared_gate, shared_up, shared_opening, shared_output };

std::vector<StateSpec> Qwen35Text::states(int32_t layer, CacheType cache) const {
    if (is_full_attention(layer)) {
        const Shape rows = {-1, config_.kv_heads * config_.head};
        if (cache == CacheType::activations) return {{"keys", rows, true, true}, {"values", rows, true, true}};
        const Shape scales = {-1, config_.kv_heads};
        return {{"keys", rows, true, false, DType::f8_e4m3},
                {"values", rows, true, false, DType::f8_e4m3},
                {"key scales", scales, true, false, DType::f8_e8m0},
                {"value scales", scales, true, false, DType::f8_e8m0}};
    }
    return {{"history", {config_.convolution - 1, config_.delta_channels()}},
            {"memory", {config_.value_heads, config_.key_head, config_.value_head}}};
}

std::vector<StateSpec> Qwen35Text::replayed(int32_t layer) const {
    if (is_full_attention(layer)) return {};
    return {{"replayed qkv", {-1, config_.delta_channels()}, true, true},
            {"replayed a", {-1, config_.value_heads}, true, true},
            {"replayed b", {-1, config_.value_heads}, true, true}};
}

// --- Building -----------------------------------------------------------------------------------------------------------------

// H hidden.
class TextWriter : public BlockWriter {
  public:
    TextWriter(const Qwen35Config & config, StageBuilder & builder, const Stage & stage)
        : BlockWriter(qwen35::names, builder, stage), config_(config) {}

    ValueId embed();
    ValueId draft_input(ValueId stream);
    ValueId full_attention(ValueId x);
    ValueId linear_attention(ValueId x);
    void replay();
    ValueId normed();
    void route();
    ValueId routed_experts(const Stage & stage);
    ValueId inputs_of_all(ValueId h, const Stage & stage, ValueId slots, ValueId offsets);
    ValueId inputs_of_routed(ValueId h, const Stage & stage, ValueId slots, ValueId offsets);
    void begin_shared_expert();
    ValueId shared_expert();
    ValueId dense_mlp(ValueId h);
    ValueId head(ValueId x);

    ValueId norm(ValueId x, Role role, Site site) { return rms_norm(x, role, site, {float(config_.norm_epsilon), 1}); }

  private:
    struct Delta { // what moves the states of a linear attention on
        ValueId qkv = no_value, a = no_value, b = no_value;
    };
    ValueId delta_rule(const Delta & x);
    ValueId plain_norm(ValueId x, WeightRef ref, const char * what) {
        return g_.add(RmsNormParams{float(config_.norm_epsilon), 1}, {x, weight_of_part(ref)}, what);
    }
    // Whether the shared expert is computed beside the router and the choice of experts: a device can run them together then,
    // which matters where each of them is too short to fill it.
    bool is_early() const { return b_.whole_blocks && b_.batch.is_step(); }
    ValueId grouped(ValueId x, Role role, const Stage & stage, ValueId slots, ValueId offsets,
                    GroupedLinearParams::Row row) {
        return grouped_linear(x, role, stage, slots, offsets, {row, config_.experts_per_token});
    }

    const Qwen35Config & config_;
};

ValueId TextWriter::embed() {
    return tapped(g_.add(EmbeddingParams{}, {ids(), weight({Role::embedding}), given()}, "embed"), site_embed);
}

// Of a draft head: fc of the embedding of the next token and the stream, each normed.
ValueId TextWriter::draft_input(ValueId stream) {
    const int64_t T = b_.batch.positions, H = config_.hidden;
    const auto of = [](Role role, Part part) { return WeightRef{role, -1, -1, 0, false, part}; };
    const ValueId table = weight_of_part(of(Role::embedding, Part::text));
    ValueId e = g_.add(EmbeddingParams{}, {ids(), table, no_value}, "draft embed");
    e = plain_norm(e, of(Role::mtp_embedding_norm, part_), "draft embedding norm");
    // The stream of the text is normed as for its head, its own as for the head of the draft.
    const WeightRef final =
        b_.batch.draft == DraftInput::own ? of(Role::mtp_norm, part_) : of(Role::final_norm, Part::text);
    ValueId h = plain_norm(stream, final, "draft final norm");
    h = plain_norm(h, of(Role::mtp_hidden_norm, part_), "draft hidden norm");
    const ValueId both = g_.add(EmbeddingParams{}, {pairs(), e, h}, "draft pairs"); // [2 T, H]
    const WeightRef fc = of(Role::mtp_fc, part_);
    return g_.add(LinearParams{b_.batch.has_few_rows()},
                  {g_.reshape(both, {T, 2 * H}), weight_of_part(fc), input_scale_of_part(fc)}, "draft fc");
}

ValueId TextWriter::full_attention(ValueId x) {
    const int64_t T = b_.batch.positions, D = config_.head;
    const int64_t query_heads = config_.attention_heads, key_heads = config_.kv_heads;
    const ValueId h = norm(x, Role::input_norm, site_input_layernorm); // [T, H]
    observe(h, mixer_input);
    // Each query head is followed by its gate.
    ValueId q_gate = linear(h, Role::attention_q, site_self_attn_q_proj); // [T, heads * 2 D]
    ValueId k = linear(h, Role::attention_k, site_self_attn_k_proj);      // [T, kv heads * D]
    const ValueId v = linear(h, Role::attention_v, site_self_attn_v_proj);
    q_gate = g_.reshape(q_gate, {T * query_heads, 2 * D});
    ValueId q = norm(q_gate, Role::attention_q_norm, site_self_attn_q_norm); // [T * heads, D]
    k = norm(g_.reshape(k, {T * key_heads, D}), Role::attention_k_norm, site_self_attn_k_norm);
    RopeParams rope;
    rope.head = D;
    rope.rotary = config_.rotary;
    rope.theta = config_.rope_theta;
    for (int i = 0; i < 3; i++) rope.section[i] = config_.rope_section[i];
    const Qwen35Yarn & yarn = config_.yarn;
    rope.yarn = {yarn.factor, yarn.low, yarn.high, yarn.attention_factor};
    q = g_.add(rope, {g_.reshape(q, {T, query_heads * D}), positions()}, where("rope of q"));
    k = g_.add(rope, {g_.reshape(k, {T, key_heads * D}), positions()}, where("rope of k"));
    const Shape cache = cache_shape(key_heads * D), scales = cache_shape(key_heads);
    const bool coded = b_.batch.cache == CacheType::fp8;
    const DType cached = coded ? DType::f8_e4m3 : g_.activation_dtype();
    const ValueId keys = state(cached_keys, "cached keys", cache, cached),
                  values = state(cached_values, "cached values", cache, cached);
    ValueId scales_of_keys = no_value, scales_of_values = no_value;
    if (coded) {
        scales_of_keys = state(key_scales, "scales of keys", scales, DType::f8_e8m0);
        scales_of_values = state(value_scales, "scales of values", scales, DType::f8_e8m0);
    }
    const bool one_position = b_.batch.is_step() || b_.batch.as_steps;
    const AttentionParams attention = {D, float(1 / std::sqrt(double(D))), true, one_position};
    ValueId o = g_.add(attention,
                       {q, k, v, segments(), mask(), keys, values, past(), pages(), scales_of_keys, scales_of_values},
                       where("attention"));
    o = g_.add(SigmoidGateParams{D}, {g_.reshape(o, {T * query_heads, D}), q_gate}, where("attention gate"));
    o = g_.reshape(o, {T, query_heads * D});
    observe(o, attention_out_input);
    o = linear(o, Role::attention_o, site_self_attn_o_proj); // [T, H]
    return tapped(o, site_self_attn);
}

ValueId TextWriter::linear_attention(ValueId x) {
    const int64_t T = b_.batch.positions, value_heads = config_.value_heads, D = config_.value_head;
    ValueId h = norm(x, Role::input_norm, site_input_layernorm); // [T, H]
    if (b_.batch.masked) h = g_.add(MaskRowsParams{}, {h, mask()}, where("mask"));
    observe(h, mixer_input);
    const ValueId qkv = linear(h, Role::linear_attention_in_qkv, site_linear_attn_in_proj_qkv); // [T, C]
    const ValueId z = linear(h, Role::linear_attention_in_z, site_linear_attn_in_proj_z);       // [T, Hv * Dv]
    const ValueId b = linear(h, Role::linear_attention_in_b, site_linear_attn_in_proj_b);       // [T, Hv]
    const ValueId a = linear(h, Role::linear_attention_in_a, site_linear_attn_in_proj_a);       // [T, Hv]
    if (!g_.status().ok()) return no_value;
    if (b_.batch.as_steps) {
        kept_rows(replayed_qkv, qkv, "replayed qkv", g_.value(qkv).shape[1]);
        kept_rows(replayed_a, a, "replayed a", value_heads);
        kept_rows(replayed_b, b, "replayed b", value_heads);
    }
    ValueId o = delta_rule({qkv, a, b});
    const GatedRmsNormParams gate = {float(config_.norm_epsilon), config_.output_gate == Qwen35OutputGate::sigmoid};
    o = tapped(g_.add(gate,
                      {g_.reshape(o, {T * value_heads, D}), weight({Role::linear_attention_norm, layer_}),
                       g_.reshape(z, {T * value_heads, D})},
                      name(site_linear_attn_norm)),
               site_linear_attn_norm);
    o = g_.reshape(o, {T, value_heads * D});
    observe(o, linear_attention_out_input);
    o = linear(o, Role::linear_attention_out, site_linear_attn_out_proj); // [T, H]
    return tapped(o, site_linear_attn);
}

ValueId TextWriter::delta_rule(const Delta & x) {
    if (!g_.status().ok()) return no_value;
    const int64_t entries = state_entries(), channels = g_.value(x.qkv).shape[1];
    const ValueId history = state(convolution_history, "history", {entries, config_.convolution - 1, channels});
    const ValueId u =
        tapped(g_.add(CausalConvParams{b_.batch.is_step()},
                      {x.qkv, weight({Role::linear_attention_conv, layer_}), segments(), history, slots()},
                      name(site_linear_attn_conv1d)),
               site_linear_attn_conv1d); // [T, C]
    GatedDeltaNetParams delta;
    delta.key_heads = config_.key_heads;
    delta.value_heads = config_.value_heads;
    delta.key_head = config_.key_head;
    delta.value_head = config_.value_head;
    delta.one_position = b_.batch.is_step();
    if (b_.batch.as_steps) delta.form = GatedDeltaNetParams::Form::recurrent;
    const ValueId memory =
        state(delta_memory, "memory", {entries, config_.value_heads, config_.key_head, config_.value_head});
    return g_.add(delta,
                  {u, x.a, x.b, weight({Role::linear_attention_a_log, layer_}),
                   weight({Role::linear_attention_dt_bias, layer_}), segments(), memory, slots()},
                  where("gated delta net")); // [T, Hv * Dv]
}

void TextWriter::replay() {
    const int64_t heads = config_.value_heads;
    delta_rule({kept_rows(replayed_qkv, no_value, "replayed qkv", config_.delta_channels()),
                kept_rows(replayed_a, no_value, "replayed a", heads),
                kept_rows(replayed_b, no_value, "replayed b", heads)});
}

ValueId TextWriter::normed() {
    if (b_.shared[normed_stream] == no_value)
        b_.shared[normed_stream] = norm(b_.fields[hidden], Role::post_attention_norm, site_post_attention_layernorm);
    return b_.shared[normed_stream];
}

void TextWriter::route() {
    const ValueId h = normed();
    observe(h, mlp_input);
    const ValueId logits = linear(h, Role::router, site_mlp_gate); // [T, E]
    if (is_early()) begin_shared_expert();
    const ValueId weights =
        tapped(g_.add(RouterParams{config_.experts_per_token}, {logits}, name(site_mlp_gate_1)), site_mlp_gate_1);
    b_.fields[router_weights] = weights;
    b_.fields[router_indices] = tapped(g_.second(weights), site_mlp_gate_2);
    count_experts(b_.fields[router_indices], chosen_experts, int32_t(config_.experts));
}

// The inputs of the experts' down projections, for each slot [n, I]; every expert of the stage sees every token.
ValueId TextWriter::inputs_of_all(ValueId h, const Stage & stage, ValueId slots, ValueId offsets) {
    const ValueId joined = joined_inputs(h, stage, slots, offsets, config_.experts_per_token, expert_down_input);
    if (joined != no_value) return joined;
    // Tiles bound the memory of the wide products.
    const auto tile = int32_t(std::min<int64_t>(b_.expert_tile, stage.expert_count));
    ValueId chosen = no_value;
    for (int32_t done = 0; done < stage.expert_count; done += tile) {
        const int32_t first = stage.first_expert + done, count = std::min(tile, stage.expert_count - done);
        const auto wide = [&](Role role) {
            const ValueId product = // [T, count * I]
                g_.add(LinearParams{}, {h, weight({role, layer_, first, count, true})}, where(role_traits(role).name));
            g_.label(product, expert_product_label);
            return product;
        };
        const ValueId gate = wide(Role::expert_gate), up = wide(Role::expert_up);
        const ValueId a = activation(gate, up, "expert activation", expert_down_input, first, count);
        chosen = g_.add(ExpertGatherParams{done, count, config_.experts_per_token}, {a, slots, offsets, chosen},
                        where("chosen of expert activation"));
    }
    return chosen;
}

// The same for experts that see only their routed tokens.
ValueId TextWriter::inputs_of_routed(ValueId h, const Stage & stage, ValueId slots, ValueId offsets) {
    const ValueId gate = grouped(h, Role::expert_gate, stage, slots, offsets, GroupedLinearParams::Row::token);
    const ValueId up = grouped(h, Role::expert_up, stage, slots, offsets, GroupedLinearParams::Row::token);
    return activation(gate, up, "expert activation", expert_down_input, stage.first_expert, stage.expert_count,
                      offsets);
}

ValueId TextWriter::routed_experts(const Stage & stage) {
    const ValueId h = normed();
    const ValueId slots = g_.add(ExpertOrderParams{stage.first_expert, stage.expert_count}, {b_.fields[router_indices]},
                                 where("expert order"));
    const ValueId offsets = g_.second(slots);
    if (is_early()) shared_expert();
    fetch_experts(stage, offsets, expert_roles);
    const ValueId a = b_.expert_tokens == ExpertTokens::all ? inputs_of_all(h, stage, slots, offsets)
                                                            : inputs_of_routed(h, stage, slots, offsets);
    const Routed routed_rows = {slots, offsets, b_.fields[router_weights], GroupedLinearParams::Row::token,
                                config_.experts_per_token};
    observe_routed(h, routed_expert_input, stage, routed_rows);
    observe_routed(
        a, routed_down_input, stage,
        {slots, offsets, b_.fields[router_weights], GroupedLinearParams::Row::own, config_.experts_per_token});
    const ValueId y = // [n, H]
        grouped(a, Role::expert_down, stage, slots, offsets, GroupedLinearParams::Row::own);
    const ValueId sum = g_.add(ExpertCombineParams{}, {b_.fields[routed], y, slots, offsets, b_.fields[router_weights]},
                               name(site_mlp_experts)); // [T, H]
    const bool complete = stage.first_expert + stage.expert_count == config_.experts;
    return complete ? tapped(sum, site_mlp_experts) : sum;
}

// What the shared expert makes of h itself.
void TextWriter::begin_shared_expert() {
    if (b_.shared[shared_gate] != no_value) return;
    const ValueId h = normed();
    b_.shared[shared_gate] = linear(h, Role::shared_expert_gate_proj, site_mlp_shared_expert_gate_proj); // [T, I]
    b_.shared[shared_up] = linear(h, Role::shared_expert_up, site_mlp_shared_expert_up_proj);
    b_.shared[shared_opening] = linear(h, Role::shared_expert_gate, site_mlp_shared_expert_gate); // [T, 1]
}

ValueId TextWriter::shared_expert() {
    if (b_.shared[shared_output] != no_value) return b_.shared[shared_output];
    begin_shared_expert();
    const ValueId a =
        activation(b_.shared[shared_gate], b_.shared[shared_up], "shared expert activation", shared_down_input);
    const ValueId y =
        tapped(linear(a, Role::shared_expert_down, site_mlp_shared_expert_down_proj), site_mlp_shared_expert);
    return b_.shared[shared_output] =
               g_.add(SigmoidGateParams{0}, {y, b_.shared[shared_opening]}, where("shared expert gate"));
}

ValueId TextWriter::dense_mlp(ValueId h) {
    observe(h, mlp_input);
    const ValueId gate = linear(h, Role::mlp_gate, site_mlp_gate_proj); // [T, I]
    const ValueId up = linear(h, Role::mlp_up, site_mlp_up_proj);
    const ValueId a = activation(gate, up, "mlp activation", mlp_down_input);
    return linear(a, Role::mlp_down, site_mlp_down_proj);
}

ValueId TextWriter::head(ValueId x) {
    if (b_.last_position_only && b_.batch.positions > 1) {                          // the only one is the last
        x = g_.add(EmbeddingParams{}, {last_positions(), x}, "last hidden states"); // [S, H]
    }
    if (part_ == Part::mtp) { // the text's head behind a norm of its own
        const ValueId h = norm(x, Role::mtp_norm, site_norm);
        const WeightRef ref = {Role::lm_head};
        return g_.add(LinearParams{b_.batch.has_few_rows()}, {h, weight_of_part(ref), input_scale_of_part(ref)},
                      "draft logits");
    }
    const ValueId h = norm(x, Role::final_norm, site_norm);
    return b_.embeds ? h : linear(h, Role::lm_head, site_logits);
}

void Qwen35Text::build(const Stage & stage, StageBuilder & builder) const {
    TextWriter block(config_, builder, stage);
    ValueId & stream = builder.fields[hidden];
    switch (stage.kind) {
    case StageKind::embed: stream = is_draft() ? block.draft_input(stream) : block.embed(); break;
    case StageKind::replay: block.replay(); break;
    case StageKind::mixer: {
        const ValueId mixed =
            is_full_attention(stage.layer) ? block.full_attention(stream) : block.linear_attention(stream);
        stream = block.add(stream, mixed, site_block);
        break;
    }
    case StageKind::route: block.route(); break;
    case StageKind::experts: builder.fields[routed] = block.routed_experts(stage); break;
    case StageKind::combine: {
        const ValueId y = has_experts() ? block.add(builder.fields[routed], block.shared_expert(), site_mlp)
                                        : block.dense_mlp(block.normed());
        stream = block.tapped(block.add(stream, block.tapped(y, site_mlp), site_block), site_block);
        builder.shared.fill(no_value);
        builder.fields[routed] = builder.fields[router_weights] = builder.fields[router_indices] = no_value;
        break;
    }
    case StageKind::head: builder.logits = block.head(stream); break;
    }
}

} // namespace

static Result<Qwen35Config> read_runnable_config(const JsonValue & config, Qwen35Mlp mlp) {
    GNV_ASSIGN(Qwen35Config read, read_qwen35_config(config, mlp));
    if (read.rope_type != "default" && read.rope_type != "yarn")
        return fail(
            Code::unsupported, config.where(), ": positions of the type \"", printable(read.rope_type),
            "\" are not computed, only \"default\" and \"yarn\"; weights alone (nvfp4a16) need no forward pass");
    return read;
}

Result<std::unique_ptr<TextModel>> make_qwen35_text(const JsonValue & config, Qwen35Mlp mlp) {
    GNV_ASSIGN(Qwen35Config read, read_runnable_config(config, mlp));
    return std::unique_ptr<TextModel>(new Qwen35Text(std::move(read)));
}

Result<std::unique_ptr<TextModel>> make_qwen35_draft(const JsonValue & config, Qwen35Mlp mlp, int64_t experts) {
    GNV_ASSIGN(Qwen35Config read, read_runnable_config(config, mlp));
    if (read.draft_layers == 0)
        return fail(Code::unsupported, config.where(), ": the model has no draft head (mtp_num_hidden_layers is 0)");
    if (read.draft_layers > 1)
        return fail(Code::unsupported, config.where(), ": the draft head has ", read.draft_layers,
                    " layers (mtp_num_hidden_layers); only those of one layer are run");
    read.layers.assign(1, Qwen35Attention::full);
    if (mlp == Qwen35Mlp::experts) read.experts = experts;
    if (mlp == Qwen35Mlp::experts && read.experts_per_token > experts)
        return fail(Code::unsupported, config.where(), ": the draft head has ", experts, " experts, a token takes ",
                    read.experts_per_token);
    return std::unique_ptr<TextModel>(new Qwen35Text(std::move(read), Part::mtp));
}

} // namespace gnv
