// The text model of the Qwen3.5 family as stages of ops. Formulas: graph/ops.h; which module makes what: graph/text_model.h.
#include "model/text_model.h"
#include "models/qwen35.h"

#include <cmath>

namespace gnv {

namespace {

class Qwen35Text final : public TextModel {
  public:
    explicit Qwen35Text(Qwen35Config config) : config_(std::move(config)) {
        sizes_.hidden = config_.hidden;
        sizes_.vocabulary = config_.vocabulary;
        sizes_.layers = int64_t(config_.layers.size());
        sizes_.experts = config_.experts;
        sizes_.experts_per_token = config_.experts_per_token;
        sizes_.max_positions = config_.max_positions;
    }
    const TextModelSizes & sizes() const override { return sizes_; }
    std::vector<Stage> block_stages(int32_t layer) const override;
    std::vector<WeightRef> stage_weights(const Stage & stage) const override;
    std::vector<StateSpec> states(int32_t layer) const override;
    void build(const Stage & stage, StageBuilder & builder) const override;

  private:
    bool is_full_attention(int32_t layer) const { return config_.layers[size_t(layer)] == Qwen35Attention::full; }
    bool has_experts() const { return config_.mlp == Qwen35Mlp::experts; }

    Qwen35Config config_;
    TextModelSizes sizes_;
};

// --- Stages and their weights -------------------------------------------------------------------------------------------------

std::vector<Stage> Qwen35Text::block_stages(int32_t layer) const {
    if (!has_experts()) return {{StageKind::mixer, layer}, {StageKind::combine, layer}};
    return {{StageKind::mixer, layer},
            {StageKind::route, layer},
            {StageKind::experts, layer, 0, int32_t(config_.experts)},
            {StageKind::combine, layer}};
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
constexpr Role dense_roles[] = {Role::post_attention_norm, Role::mlp_gate, Role::mlp_up, Role::mlp_down};
// clang-format on

std::vector<WeightRef> Qwen35Text::stage_weights(const Stage & stage) const {
    std::vector<WeightRef> refs;
    const auto add = [&](const auto & roles) {
        for (const Role role : roles) refs.push_back({role, stage.layer});
    };
    switch (stage.kind) {
    case StageKind::embed: refs.push_back({Role::embedding}); break;
    case StageKind::mixer:
        if (is_full_attention(stage.layer)) {
            add(full_attention_roles);
        } else {
            add(linear_attention_roles);
        }
        break;
    case StageKind::route: add(route_roles); break;
    case StageKind::experts:
        refs.push_back({Role::post_attention_norm, stage.layer});
        for (const Role role : expert_roles)
            refs.push_back({role, stage.layer, stage.first_expert, stage.expert_count});
        break;
    case StageKind::combine:
        if (has_experts()) {
            add(shared_roles);
        } else {
            add(dense_roles);
        }
        break;
    case StageKind::head:
        refs.push_back({Role::final_norm});
        refs.push_back({Role::lm_head});
        break;
    }
    return refs;
}

enum FullState : int32_t { cached_keys, cached_values };
enum LinearState : int32_t { convolution_history, delta_memory };

std::vector<StateSpec> Qwen35Text::states(int32_t layer) const {
    if (is_full_attention(layer)) {
        const Shape rows = {-1, config_.kv_heads * config_.head};
        return {{"keys", rows, true}, {"values", rows, true}};
    }
    const int64_t channels = 2 * config_.key_heads * config_.key_head + config_.value_heads * config_.value_head;
    return {{"history", {config_.convolution - 1, channels}},
            {"memory", {config_.value_heads, config_.key_head, config_.value_head}}};
}

// --- Building -----------------------------------------------------------------------------------------------------------------

// One block's values under construction. T positions, H hidden.
class BlockWriter {
  public:
    BlockWriter(const Qwen35Config & config, StageBuilder & builder, int32_t layer)
        : config_(config), b_(builder), g_(builder.graph), layer_(layer) {}

    ValueId embed();
    ValueId full_attention(ValueId x);
    ValueId linear_attention(ValueId x);
    void route(ValueId h);
    ValueId routed_experts(ValueId h, const Stage & stage);
    ValueId inputs_of_all(ValueId h, const Stage & stage, ValueId slots, ValueId offsets);
    ValueId inputs_of_routed(ValueId h, const Stage & stage, ValueId slots, ValueId offsets);
    ValueId shared_expert(ValueId h);
    ValueId dense_mlp(ValueId h);
    ValueId head(ValueId x);

    ValueId norm(ValueId x, Role role, Site site, float weight_offset = 1) {
        const RmsNormParams params = {float(config_.norm_epsilon), weight_offset};
        return tapped(g_.add(params, {x, weight({role, layer_})}, name(site)), site);
    }
    ValueId tapped(ValueId value, Site site) {
        g_.tap(value, {is_outside(site) ? -1 : layer_, int32_t(site)});
        return value;
    }
    ValueId add(ValueId a, ValueId b, Site site) { return g_.add(AddParams{}, {a, b}, name(site)); }
    ValueId maxima(Observed observed, int32_t first_group, int32_t groups) {
        const ValueId total = g_.state(observed_name(observed), DType::f32, {groups});
        b_.bound_totals.push_back({layer_, observed, first_group, groups, total, Statistic::maximum});
        return total;
    }
    void observe(ValueId x, Observed observed, int32_t first_group = 0, int32_t groups = 1,
                 ValueId offsets = no_value) {
        if (!b_.observe) return;
        const ValueId total = maxima(observed, first_group, groups);
        g_.add(ObserveParams{Statistic::maximum, groups}, {x, total, offsets}, where(observed_name(observed)));
        if (!b_.observe_magnitudes) return;
        const ValueId bins = g_.state("magnitudes", DType::i64, {groups, magnitude_bins});
        b_.bound_totals.push_back({layer_, observed, first_group, groups, bins, Statistic::magnitudes});
        g_.add(ObserveParams{Statistic::magnitudes, groups}, {x, bins, offsets}, where(observed_name(observed)));
    }

    // SiLU(gate) * up, observed: in the same pass where nothing but the maximum is asked for.
    ValueId activation(ValueId gate, ValueId up, const char * what, Observed observed, int32_t first_group = 0,
                       int32_t groups = 1, ValueId offsets = no_value) {
        if (b_.observe && !b_.observe_magnitudes)
            return g_.add(SiluMulParams{groups}, {gate, up, maxima(observed, first_group, groups), offsets},
                          where(what));
        const ValueId a = g_.add(SiluMulParams{}, {gate, up, no_value, no_value}, where(what));
        observe(a, observed, first_group, groups, offsets);
        return a;
    }

  private:
    static bool is_outside(Site site) { return site == Site::embed || site == Site::norm || site == Site::logits; }
    std::string where(const char * what) const { return concat("layer ", layer_, " ", what); }
    std::string name(Site site) const { return tap_name({is_outside(site) ? -1 : layer_, int32_t(site)}); }

    ValueId weight(const WeightRef & ref) {
        const Result<WeightSpec> spec = b_.weights.spec(ref);
        if (!spec.ok()) {
            g_.refuse(Status(spec.status().code(), spec.status().message()));
            return g_.weight(role_traits(ref.role).name, DType::f32, {1});
        }
        const ValueId value = g_.weight(role_traits(ref.role).name, spec.value().dtype, spec.value().shape);
        b_.bound_weights.push_back({ref, value, false});
        return value;
    }
    ValueId input_scale(const WeightRef & ref) {
        const Result<WeightSpec> spec = b_.weights.spec(ref);
        if (!b_.quantize_inputs || !spec.ok()) return no_value;
        if (b_.input_scales ? !b_.input_scales->has(ref.role, ref.layer) : !spec.value().has_input_scale)
            return no_value;
        const ValueId value = g_.weight("input scale", DType::f32, {std::max(ref.expert_count, 1)});
        b_.bound_weights.push_back({ref, value, true});
        return value;
    }
    ValueId linear(ValueId x, Role role, Site site) {
        const WeightRef ref = {role, layer_};
        return tapped(g_.add(LinearParams{}, {x, weight(ref), input_scale(ref)}, name(site)), site);
    }
    // Of a stage's experts.
    ValueId grouped(ValueId x, Role role, const Stage & stage, ValueId slots, ValueId offsets,
                    GroupedLinearParams::Row row) {
        const WeightRef ref = {role, layer_, stage.first_expert, stage.expert_count};
        const GroupedLinearParams params = {row, config_.experts_per_token};
        return g_.add(params, {x, weight(ref), slots, offsets, input_scale(ref)}, where(role_traits(role).name));
    }
    ValueId state(int32_t index, const char * state_name, Shape shape) {
        if (!b_.batch.cached) return no_value;
        const ValueId value = g_.state(state_name, DType::f32, shape);
        b_.bound_states.push_back({layer_, index, value});
        return value;
    }
    ValueId positions() { return batch_input(b_.positions, "positions", DType::i32, {3, b_.batch.positions}); }
    ValueId segments() { return batch_input(b_.segments, "segments", DType::i32, {b_.batch.segments + 1}); }
    ValueId mask() {
        return b_.batch.masked ? batch_input(b_.mask, "mask", DType::u8, {b_.batch.positions}) : no_value;
    }
    ValueId past() {
        return b_.batch.cached ? batch_input(b_.past, "past", DType::i32, {b_.batch.segments}) : no_value;
    }
    ValueId batch_input(ValueId & value, const char * input_name, DType dtype, Shape shape) {
        if (value == no_value) value = g_.input(input_name, dtype, shape);
        return value;
    }

    const Qwen35Config & config_;
    StageBuilder & b_;
    Graph & g_;
    const int32_t layer_;
};

ValueId BlockWriter::embed() {
    const ValueId ids = batch_input(b_.ids, "ids", DType::i32, {b_.batch.positions});
    return tapped(g_.add(EmbeddingParams{}, {ids, weight({Role::embedding})}, "embed"), Site::embed);
}

ValueId BlockWriter::full_attention(ValueId x) {
    const int64_t T = b_.batch.positions, S = b_.batch.segments, D = config_.head;
    const int64_t query_heads = config_.attention_heads, key_heads = config_.kv_heads;
    const ValueId h = norm(x, Role::input_norm, Site::input_layernorm); // [T, H]
    observe(h, Observed::mixer_input);
    // Each query head is followed by its gate.
    ValueId q_gate = linear(h, Role::attention_q, Site::self_attn_q_proj); // [T, heads * 2 D]
    ValueId k = linear(h, Role::attention_k, Site::self_attn_k_proj);      // [T, kv heads * D]
    const ValueId v = linear(h, Role::attention_v, Site::self_attn_v_proj);
    q_gate = g_.reshape(q_gate, {T * query_heads, 2 * D});
    ValueId q = norm(q_gate, Role::attention_q_norm, Site::self_attn_q_norm); // [T * heads, D]
    k = norm(g_.reshape(k, {T * key_heads, D}), Role::attention_k_norm, Site::self_attn_k_norm);
    RopeParams rope;
    rope.head = D;
    rope.rotary = config_.rotary;
    rope.theta = config_.rope_theta;
    for (int i = 0; i < 3; i++) rope.section[i] = config_.rope_section[i];
    q = g_.add(rope, {g_.reshape(q, {T, query_heads * D}), positions()}, where("rope of q"));
    k = g_.add(rope, {g_.reshape(k, {T, key_heads * D}), positions()}, where("rope of k"));
    const Shape cache = {S, b_.batch.capacity, key_heads * D};
    const ValueId keys = state(cached_keys, "cached keys", cache),
                  values = state(cached_values, "cached values", cache);
    const AttentionParams attention = {D, float(1 / std::sqrt(double(D)))};
    ValueId o = g_.add(attention, {q, k, v, segments(), mask(), keys, values, past()}, where("attention"));
    o = g_.add(SigmoidGateParams{D}, {g_.reshape(o, {T * query_heads, D}), q_gate}, where("attention gate"));
    o = g_.reshape(o, {T, query_heads * D});
    observe(o, Observed::attention_out_input);
    o = linear(o, Role::attention_o, Site::self_attn_o_proj); // [T, H]
    return tapped(o, Site::self_attn);
}

ValueId BlockWriter::linear_attention(ValueId x) {
    const int64_t T = b_.batch.positions, S = b_.batch.segments;
    const int64_t value_heads = config_.value_heads, D = config_.value_head;
    ValueId h = norm(x, Role::input_norm, Site::input_layernorm); // [T, H]
    if (b_.batch.masked) h = g_.add(MaskRowsParams{}, {h, mask()}, where("mask"));
    observe(h, Observed::mixer_input);
    const ValueId qkv = linear(h, Role::linear_attention_in_qkv, Site::linear_attn_in_proj_qkv); // [T, C]
    const ValueId z = linear(h, Role::linear_attention_in_z, Site::linear_attn_in_proj_z);       // [T, Hv * Dv]
    const ValueId b = linear(h, Role::linear_attention_in_b, Site::linear_attn_in_proj_b);       // [T, Hv]
    const ValueId a = linear(h, Role::linear_attention_in_a, Site::linear_attn_in_proj_a);       // [T, Hv]
    if (!g_.status().ok()) return no_value;
    const int64_t channels = g_.value(qkv).shape[1];
    const ValueId history = state(convolution_history, "history", {S, config_.convolution - 1, channels});
    const ValueId u =
        tapped(g_.add(CausalConvParams{}, {qkv, weight({Role::linear_attention_conv, layer_}), segments(), history},
                      name(Site::linear_attn_conv1d)),
               Site::linear_attn_conv1d); // [T, C]
    GatedDeltaNetParams delta;
    delta.key_heads = config_.key_heads;
    delta.value_heads = value_heads;
    delta.key_head = config_.key_head;
    delta.value_head = D;
    const ValueId memory = state(delta_memory, "memory", {S, value_heads, config_.key_head, D});
    ValueId o = g_.add(delta,
                       {u, a, b, weight({Role::linear_attention_a_log, layer_}),
                        weight({Role::linear_attention_dt_bias, layer_}), segments(), memory},
                       where("gated delta net")); // [T, Hv * Dv]
    const GatedRmsNormParams gate = {float(config_.norm_epsilon), config_.output_gate == Qwen35OutputGate::sigmoid};
    o = tapped(g_.add(gate,
                      {g_.reshape(o, {T * value_heads, D}), weight({Role::linear_attention_norm, layer_}),
                       g_.reshape(z, {T * value_heads, D})},
                      name(Site::linear_attn_norm)),
               Site::linear_attn_norm);
    o = g_.reshape(o, {T, value_heads * D});
    observe(o, Observed::linear_attention_out_input);
    o = linear(o, Role::linear_attention_out, Site::linear_attn_out_proj); // [T, H]
    return tapped(o, Site::linear_attn);
}

void BlockWriter::route(ValueId h) {
    observe(h, Observed::mlp_input);
    const ValueId logits = linear(h, Role::router, Site::mlp_gate); // [T, E]
    b_.router_weights =
        tapped(g_.add(RouterParams{config_.experts_per_token}, {logits}, name(Site::mlp_gate_1)), Site::mlp_gate_1);
    b_.router_indices = tapped(g_.second(b_.router_weights), Site::mlp_gate_2);
    if (!b_.observe) return;
    const ValueId counts = g_.state("tokens per expert", DType::i64, {config_.experts});
    b_.bound_counts.push_back({layer_, counts});
    g_.add(CountExpertsParams{}, {b_.router_indices, mask(), counts}, where("tokens per expert"));
}

// The inputs of the experts' down projections, for each slot [n, I]; every expert of the stage sees every token.
ValueId BlockWriter::inputs_of_all(ValueId h, const Stage & stage, ValueId slots, ValueId offsets) {
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
        const ValueId a = activation(gate, up, "expert activation", Observed::expert_down_input, first, count);
        chosen = g_.add(ExpertGatherParams{done, count, config_.experts_per_token}, {a, slots, offsets, chosen},
                        where("chosen of expert activation"));
    }
    return chosen;
}

// The same where experts see what is routed to them.
ValueId BlockWriter::inputs_of_routed(ValueId h, const Stage & stage, ValueId slots, ValueId offsets) {
    const ValueId gate = grouped(h, Role::expert_gate, stage, slots, offsets, GroupedLinearParams::Row::token);
    const ValueId up = grouped(h, Role::expert_up, stage, slots, offsets, GroupedLinearParams::Row::token);
    return activation(gate, up, "expert activation", Observed::expert_down_input, stage.first_expert,
                      stage.expert_count, offsets);
}

ValueId BlockWriter::routed_experts(ValueId h, const Stage & stage) {
    const ValueId slots =
        g_.add(ExpertOrderParams{stage.first_expert, stage.expert_count}, {b_.router_indices}, where("expert order"));
    const ValueId offsets = g_.second(slots);
    const ValueId a = b_.expert_tokens == ExpertTokens::all ? inputs_of_all(h, stage, slots, offsets)
                                                            : inputs_of_routed(h, stage, slots, offsets);
    const ValueId y = // [n, H]
        grouped(a, Role::expert_down, stage, slots, offsets, GroupedLinearParams::Row::own);
    const ValueId sum = g_.add(ExpertCombineParams{}, {b_.routed, y, slots, offsets, b_.router_weights},
                               name(Site::mlp_experts)); // [T, H]
    const bool complete = stage.first_expert + stage.expert_count == config_.experts;
    return complete ? tapped(sum, Site::mlp_experts) : sum;
}

ValueId BlockWriter::shared_expert(ValueId h) {
    const ValueId gate = linear(h, Role::shared_expert_gate_proj, Site::mlp_shared_expert_gate_proj); // [T, I]
    const ValueId up = linear(h, Role::shared_expert_up, Site::mlp_shared_expert_up_proj);
    const ValueId a = activation(gate, up, "shared expert activation", Observed::shared_down_input);
    const ValueId y =
        tapped(linear(a, Role::shared_expert_down, Site::mlp_shared_expert_down_proj), Site::mlp_shared_expert);
    const ValueId opening = linear(h, Role::shared_expert_gate, Site::mlp_shared_expert_gate); // [T, 1]
    return g_.add(SigmoidGateParams{0}, {y, opening}, where("shared expert gate"));
}

ValueId BlockWriter::dense_mlp(ValueId h) {
    observe(h, Observed::mlp_input);
    const ValueId gate = linear(h, Role::mlp_gate, Site::mlp_gate_proj); // [T, I]
    const ValueId up = linear(h, Role::mlp_up, Site::mlp_up_proj);
    const ValueId a = activation(gate, up, "mlp activation", Observed::mlp_down_input);
    return linear(a, Role::mlp_down, Site::mlp_down_proj);
}

ValueId BlockWriter::head(ValueId x) {
    if (b_.last_position_only) {
        const ValueId rows = batch_input(b_.last_positions, "last positions", DType::i32, {b_.batch.segments});
        x = g_.add(EmbeddingParams{}, {rows, x}, "last hidden states"); // [S, H]
    }
    const ValueId h = norm(x, Role::final_norm, Site::norm);
    return linear(h, Role::lm_head, Site::logits);
}

void Qwen35Text::build(const Stage & stage, StageBuilder & builder) const {
    BlockWriter block(config_, builder, stage.layer);
    const auto mlp_input = [&] { // once for all stages of a block that share a graph
        if (builder.mlp_input == no_value)
            builder.mlp_input = block.norm(builder.hidden, Role::post_attention_norm, Site::post_attention_layernorm);
        return builder.mlp_input;
    };
    switch (stage.kind) {
    case StageKind::embed: builder.hidden = block.embed(); break;
    case StageKind::mixer: {
        const ValueId mixed = is_full_attention(stage.layer) ? block.full_attention(builder.hidden)
                                                             : block.linear_attention(builder.hidden);
        builder.hidden = block.add(builder.hidden, mixed, Site::block);
        break;
    }
    case StageKind::route: block.route(mlp_input()); break;
    case StageKind::experts: builder.routed = block.routed_experts(mlp_input(), stage); break;
    case StageKind::combine: {
        const ValueId h = mlp_input();
        ValueId y;
        if (has_experts()) {
            y = block.add(builder.routed, block.shared_expert(h), Site::mlp);
        } else {
            y = block.dense_mlp(h);
        }
        builder.hidden = block.tapped(block.add(builder.hidden, block.tapped(y, Site::mlp), Site::block), Site::block);
        builder.mlp_input = builder.routed = builder.router_weights = builder.router_indices = no_value;
        break;
    }
    case StageKind::head: builder.logits = block.head(builder.hidden); break;
    }
}

} // namespace

Result<std::unique_ptr<TextModel>> make_qwen35_text(const JsonValue & config, Qwen35Mlp mlp) {
    GNV_ASSIGN(Qwen35Config read, read_qwen35_config(config, mlp));
    return std::unique_ptr<TextModel>(new Qwen35Text(std::move(read)));
}

} // namespace gnv
