// A model as a sequence of stages, each a piece of graph with its weights.
//
//   embed -> [ mixer -> route -> experts(0, n) -> experts(n, n) ... -> combine ] per block -> head
//
// Weights are loaded stage by stage; the experts of a block may be split into ranges, because one block of a large
// model need not fit into memory. Between stages that do not run in one graph the pass keeps fields: rows of every
// position that one stage sets and another reads. The model defines them; the first is the stream from block to block.
//
// A draft head (MTP) is a model of the same kind: its embed stage joins the embedding of the token that follows a position with
// the stream of that position, the text's or its own, and its head is the text's behind a norm.
//
// A vision tower is a model of the same kind: its embed stage makes the stream from rows of pixels that come with the batch,
// and its head joins the patches of a square to a row of the text model's size.
//
// A stage's results do not depend on how stages are put together into graphs.
#pragma once

#include "graph/graph.h"
#include "model/model_def.h"
#include "model/model_names.h"
#include "model/statistic_set.h"
#include "model/weights.h"

#include <array>
#include <memory>
#include <vector>

namespace gnv {

// replay: of a mixer only what moves its states on, from rows that an earlier pass kept (BatchShape::as_steps).
enum class StageKind : uint8_t { embed, mixer, route, experts, combine, head, replay };

struct Stage {
    StageKind kind = StageKind::embed;
    int32_t layer = -1;
    int32_t first_expert = 0, expert_count = 0; // experts
    Part part = Part::text;
    friend bool operator==(const Stage &, const Stage &) = default;
};

// A field, as a position in TextModel::fields().
using Field = int32_t;
inline constexpr Field hidden_field = 0; // the stream from block to block, which heads read
inline constexpr int max_fields = 8;
struct FieldSpec {
    const char * name;
    int64_t columns;
    DType dtype = DType::f32;
    bool is_activation = false; // has the device's dtype of activations instead of `dtype`
};
// A set of fields: bit n is field n.
using FieldSet = uint32_t;
constexpr FieldSet field_bit(Field field) { return FieldSet(1) << field; }
// The fields that a stage reads, those that it sets, and those that no later stage reads.
struct StageFields {
    FieldSet reads = 0, makes = 0, ends = 0;
};

// An input of Linears that a stage computes, for statistics.
struct StageInput {
    int32_t input;           // in ModelNames::inputs
    int64_t width;           // columns of a row
    int64_t groups = 1;      // of the layer
    int32_t first_group = 0; // this stage has groups [first_group, first_group + count)
    int64_t count = 1;
};

// The tokens that an expert sees for statistics of its down projection. The output uses the chosen experts in both
// cases.
enum class ExpertTokens : uint8_t { all, routed };
constexpr const char * expert_tokens_name(ExpertTokens tokens) {
    return tokens == ExpertTokens::all ? "all" : "routed";
}

struct TextModelSizes {
    int64_t hidden = 0, layers = 0;
    int64_t vocabulary = 0;                     // columns that the head makes
    int64_t experts = 0, experts_per_token = 0; // 0 for dense models
    int64_t max_positions = 0;
    int64_t given = 0;     // columns of rows that come with a batch; 0: none ever do
    int64_t head_rows = 1; // positions that become one row of the head's
};

// One tensor of a cache, for each segment. Zeros at the start of a text.
struct StateSpec {
    const char * name;
    Shape shape;                  // of one segment
    bool grows_with_text = false; // the first dimension is a capacity in positions, -1 in `shape`
    bool is_activation = false;   // holds values of activations, in their dtype; else:
    DType dtype = DType::f32;
};
// How the keys and values of a text are kept: as activations, or as E4M3 codes with scales (graph/ops.h: AttentionParams).
enum class CacheType : uint8_t { activations, fp8 };
constexpr const char * cache_type_name(CacheType type) { return type == CacheType::fp8 ? "fp8" : "auto"; }

// The stream that the embed stage of a draft head reads.
enum class DraftInput : uint8_t { none, of_text, own };

struct BatchShape {
    int64_t positions = 0; // T
    int64_t segments = 0;  // S
    bool masked = false;   // has pads
    bool cached = false;   // reads and writes states
    int64_t capacity = 0;  // of the cache, in positions of a text
    CacheType cache = CacheType::activations;
    // States of so many texts and pages (graph/ops.h: cache_page), of which slots and pages say the segments' own; 0: there is
    // one state for each segment.
    int64_t slots = 0, pages = 0;
    int64_t asked = -1; // last positions that the head gets; -1: those of all segments
    // Rows that come with the batch, for the embed stage: of a text those of some positions, of pictures all.
    int64_t given_rows = 0, given_columns = 0;
    // Each position has the bits that it has in a step of its own. For few positions, on devices that can (exec/backend.h).
    bool as_steps = false;
    DraftInput draft = DraftInput::none;
    // Experts come to a cache of so many places when they are chosen (graph/ops.h: expert_fetch); 0: all are in memory.
    int64_t expert_places = 0;
    // A step of decoding: each text goes on by one position, with caches.
    bool is_step() const { return cached && positions == segments; }
    bool has_few_rows() const { return is_step() || as_steps; } // of linears: graph/ops.h
    friend bool operator==(const BatchShape &, const BatchShape &) = default;
};

// The name of the products of all tokens with all experts in tables of times.
inline constexpr const char * expert_product_label = "experts gate, up";

// The inputs of TextModel::build, and its result for the runner of the graph: the values to bind, and their meaning.
struct StageBuilder {
    Graph & graph;
    const WeightCatalog & weights;
    BatchShape batch;
    const StatisticSet * statistics = nullptr; // to take; null: none
    bool quantize_inputs = false;              // W4A4: inputs of NVFP4 Linears with an input scale go through the codec
    const InputScales * input_scales = nullptr; // null: those of `weights`
    ExpertTokens expert_tokens = ExpertTokens::routed;
    int64_t expert_tile = 1; // experts that share one product (ExpertTokens::all): more memory, larger products
    bool joins_expert_inputs = false; // use expert_inputs where it fits (exec/backend.h)
    Screening screening = Screening::off;
    bool last_position_only = false; // head: the last position of each segment only [S, vocabulary]
    bool whole_blocks = false;       // the graph has all stages of the blocks that it has a stage of
    bool embeds = false;             // head: the normed hidden states that logits are made of, in their place

    // Batch inputs; only those that a stage reads exist.
    ValueId ids = no_value, positions = no_value, segments = no_value, mask = no_value, past = no_value;
    ValueId last_positions = no_value; // i32 [S], or of the segments that are asked for
    ValueId slots = no_value;          // i32 [S]
    ValueId pages = no_value;          // i32 [S, pages of a text]
    ValueId given = no_value;          // [given rows, given columns]
    ValueId extents = no_value;        // i32 [2, T]: rows and columns of the grid that a position of a picture is in
    ValueId pairs = no_value;          // i32 [2 T]: t, -1 - t of each position, which join two streams

    // A stage reads the fields of earlier stages and sets its own.
    std::array<ValueId, max_fields> fields;
    static constexpr size_t max_shared = 5;
    std::array<ValueId, max_shared>
        shared;                // what a stage of a block leaves to later ones; which values, the model says
    ValueId logits = no_value; // what the head made

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
    // Rows from which a replay stage moves states on: with as_steps made and kept, in a replay read.
    struct BoundRows {
        int32_t layer;
        int32_t index; // in TextModel::replayed(layer)
        ValueId value; // [T, ..]
    };
    struct BoundTotal {
        StatisticKey key;
        int32_t first_group;
        ValueId value; // [groups, ...]
    };
    // Of a cache of experts: the places of a stack, or without a role the layer's table.
    struct BoundCache {
        WeightRef ref;
        ValueId value;
    };
    std::vector<BoundWeight> bound_weights = {};
    std::vector<BoundCache> bound_caches = {};
    std::vector<BoundState> bound_states = {};
    std::vector<BoundRows> bound_rows = {};
    std::vector<BoundTotal> bound_totals = {};

    StageBuilder(Graph & in, const WeightCatalog & of, const BatchShape & shape)
        : graph(in), weights(of), batch(shape) {
        fields.fill(no_value);
        shared.fill(no_value);
    }
};

class TextModel {
  public:
    virtual ~TextModel() = default;
    virtual const TextModelSizes & sizes() const = 0;
    virtual Part part() const { return Part::text; } // of all its stages
    virtual const ModelNames & names() const = 0;
    virtual std::vector<FieldSpec> fields() const = 0; // max_fields at most
    // Stages of one block; with experts, all of them as one range.
    virtual std::vector<Stage> block_stages(int32_t layer) const = 0;
    // The weights of a stage, in any order; an experts stage lists its range.
    virtual std::vector<WeightRef> stage_weights(const Stage & stage) const = 0;
    virtual StageFields stage_fields(const Stage & stage) const = 0;
    virtual std::vector<StageInput> stage_inputs(const Stage & stage) const = 0;
    // Stages of one kind (StageKind) and one block kind make activations of the same shapes.
    virtual int32_t block_kind(const Stage & stage) const = 0;
    virtual std::vector<StateSpec> states(int32_t layer, CacheType cache) const = 0;
    // Rows that a replay stage of this layer reads; none: the layer has no states that a position cannot be taken back from.
    virtual std::vector<StateSpec> replayed(int32_t) const { return {}; }
    // Appends the stage to builder.graph; failures stay in the graph's status.
    virtual void build(const Stage & stage, StageBuilder & builder) const = 0;
};

inline Stage embed_stage(const TextModel & model) { return {StageKind::embed, -1, 0, 0, model.part()}; }
inline Stage head_stage(const TextModel & model) { return {StageKind::head, -1, 0, 0, model.part()}; }
inline Stage replay_stage(const TextModel & model, int32_t layer) {
    return {StageKind::replay, layer, 0, 0, model.part()};
}

// The text model that config.json describes. Defined in models/registry.cpp.
Result<std::unique_ptr<TextModel>> make_text_model(const JsonValue & config);
// Its draft head, of so many experts (0 for a dense one). Code::unsupported if config.json has none that can be run.
Result<std::unique_ptr<TextModel>> make_draft_model(const JsonValue & config, int64_t experts);

} // namespace gnv
