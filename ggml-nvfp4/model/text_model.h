// How a text model is run: a sequence of stages, each a piece of graph with the weights that it needs.
//
//   embed -> [ mixer -> route -> experts(0, n) -> experts(n, n) ... -> combine ] per block -> head
//
// Weights come and go stage by stage; the experts of a block may be cut into ranges, because one block of a large model
// need not fit. Between stages that do not run in one graph, these fields of every position are kept:
//
//   hidden [H]        the residual stream
//   routed [H]        sum over the experts that ran so far, of those that the position chose
//   weights, indices [k]   what the router chose
//
// A stage's results do not depend on how stages are put together into graphs.
#pragma once

#include "graph/graph.h"
#include "model/model_def.h"
#include "model/weights.h"

#include <memory>
#include <vector>

namespace gnv {

enum class StageKind : uint8_t { embed, mixer, route, experts, combine, head };

struct Stage {
    StageKind kind = StageKind::embed;
    int32_t layer = -1;
    int32_t first_expert = 0, expert_count = 0; // experts
};

// An activation by the name that the reference implementation gives to the module that makes it. `Tap::site` is one of
// these; a tap names it as "layer.3.self_attn.q_norm", "embed", "norm", "logits" or "layer.3" (a block's output).
enum class Site : uint8_t {
    embed,
    norm,
    logits,
    block,
    input_layernorm,
    linear_attn_in_proj_qkv,
    linear_attn_in_proj_z,
    linear_attn_in_proj_b,
    linear_attn_in_proj_a,
    linear_attn_conv1d,
    linear_attn_norm,
    linear_attn_out_proj,
    linear_attn,
    self_attn_q_proj,
    self_attn_k_proj,
    self_attn_v_proj,
    self_attn_q_norm,
    self_attn_k_norm,
    self_attn_o_proj,
    self_attn,
    post_attention_layernorm,
    mlp_gate,   // router logits
    mlp_gate_1, // weights of the chosen experts
    mlp_gate_2, // their numbers
    mlp_experts,
    mlp_shared_expert_gate_proj,
    mlp_shared_expert_up_proj,
    mlp_shared_expert_down_proj,
    mlp_shared_expert,
    mlp_shared_expert_gate,
    mlp_gate_proj, // dense members
    mlp_up_proj,
    mlp_down_proj,
    mlp,
    count_
};
std::string tap_name(const Tap & tap);
// Code::invalid_argument, with the names that exist, when `name` is none.
Result<Tap> parse_tap(const std::string & name, int64_t layers);

// Inputs of Linears that calibration looks at. Linears that read the same activation share one.
enum class Observed : uint8_t {
    mixer_input,                // q, k, v; in_proj_*
    attention_out_input,        // o_proj
    linear_attention_out_input, // out_proj of a Gated DeltaNet
    mlp_input,                  // router, shared expert, gate and up of experts or of a dense MLP
    shared_down_input,
    expert_down_input, // one each expert
    mlp_down_input,
    count_
};
const char * observed_name(Observed observed);
// What a Linear of this role reads; count_ when no stage observes it.
Observed observed_by(Role role);

// Statistics of one layer. Maxima have one entry each, those of experts one each expert; empty where nothing was observed.
struct LayerStatistics {
    std::vector<float> maxima[size_t(Observed::count_)];
    std::vector<int64_t> tokens_per_expert; // choices by the router, pads aside
    // Statistic::magnitudes, [groups, magnitude_bins] with groups as for maxima; empty unless asked for.
    std::vector<int64_t> magnitudes[size_t(Observed::count_)];
};

// Which tokens an expert sees: for statistics of its down projection. The output is that of the chosen experts either way.
enum class ExpertTokens : uint8_t { all, routed };

struct TextModelSizes {
    int64_t hidden = 0, vocabulary = 0, layers = 0;
    int64_t experts = 0, experts_per_token = 0; // 0 for dense models
    int64_t max_positions = 0;
};

// One tensor of a cache, for each segment. Zeros at the start of a text.
struct StateSpec {
    const char * name;
    Shape shape;                  // of one segment
    bool grows_with_text = false; // the first dimension is a capacity in positions, -1 in `shape`
};

struct BatchShape {
    int64_t positions = 0; // T
    int64_t segments = 0;  // S
    bool masked = false;   // there are pads
    bool cached = false;   // states go in and out
    int64_t capacity = 0;  // of the cache, in positions
};

// What reports of time call the wide products of experts, all tokens by all of them.
inline constexpr const char * expert_product_label = "experts gate, up";

// What stages are built with, and what they leave for whoever runs the graph: which values to bind to what.
struct StageBuilder {
    Graph & graph;
    const WeightCatalog & weights;
    BatchShape batch;
    bool observe = false;
    bool observe_magnitudes = false;
    bool quantize_inputs = false; // W4A4: inputs of NVFP4 Linears with an input scale go through the codec
    const InputScales * input_scales = nullptr; // those to use; null: what `weights` has
    ExpertTokens expert_tokens = ExpertTokens::routed;
    int64_t expert_tile = 1;         // experts that share one product (ExpertTokens::all): more memory, larger products
    bool last_position_only = false; // head: the last position of each segment only [S, vocabulary]

    // Batch inputs; those that a stage does not need are never made.
    ValueId ids = no_value, positions = no_value, segments = no_value, mask = no_value, past = no_value;
    ValueId last_positions = no_value; // i32 [S]

    // Fields, see above. A stage reads those before it and sets those after it.
    ValueId hidden = no_value, routed = no_value, router_weights = no_value, router_indices = no_value;
    ValueId mlp_input = no_value; // of the block that is being built; made once a graph
    ValueId logits = no_value;

    struct BoundWeight {
        WeightRef ref;
        ValueId value;
        bool input_scale; // the scale of the Linear's input instead of its weight
    };
    struct BoundState {
        int32_t layer;
        int32_t index; // in TextModel::states(layer)
        ValueId value;
    };
    struct BoundTotal {
        int32_t layer;
        Observed observed;
        int32_t first_group, groups;
        ValueId value;
        Statistic statistic; // maximum or magnitudes
    };
    struct BoundCount { // tokens per expert, i64 [E]
        int32_t layer;
        ValueId value;
    };
    std::vector<BoundWeight> bound_weights = {};
    std::vector<BoundState> bound_states = {};
    std::vector<BoundTotal> bound_totals = {};
    std::vector<BoundCount> bound_counts = {};
};

class TextModel {
  public:
    virtual ~TextModel() = default;
    virtual const TextModelSizes & sizes() const = 0;
    // Stages of one block; with experts, all of them as one range.
    virtual std::vector<Stage> block_stages(int32_t layer) const = 0;
    // The weights of a stage, in no particular order; an experts stage lists its range.
    virtual std::vector<WeightRef> stage_weights(const Stage & stage) const = 0;
    virtual std::vector<StateSpec> states(int32_t layer) const = 0;
    // Appends the stage to builder.graph; failures stay in the graph's status.
    virtual void build(const Stage & stage, StageBuilder & builder) const = 0;
};

// The text model that config.json describes. Defined in models/registry.cpp.
Result<std::unique_ptr<TextModel>> make_text_model(const JsonValue & config);

} // namespace gnv
