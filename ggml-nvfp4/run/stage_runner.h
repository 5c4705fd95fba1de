// Runs some stages of a text model for one batch: prepares their graph, or takes that of an earlier run, binds it to
// weights, fields, states and statistics, and runs it.
#pragma once

#include "exec/prepared.h"
#include "model/sequences.h"
#include "run/host_experts.h"
#include "run/statistic_window.h"
#include "run/text_states.h"
#include "run/weight_group.h"

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace gnv {

// One variant of a pass: a model with its weights and its arithmetic.
struct TextVariant {
    const TextModel * model = nullptr;
    const WeightCatalog * weights = nullptr;
    const FolderFiles * files = nullptr;
    Precision precision = Precision::f32;
    bool quantize_inputs = false;               // W4A4 if the checkpoint has input scales
    const InputScales * input_scales = nullptr; // replace the checkpoint's, also for Linears that are not quantized
    bool observe = true;                        // if the pass observes
    friend bool operator==(const TextVariant &, const TextVariant &) = default;
};

// With StageOptions::top_logits: of each text at least so many of the largest logits, unless more than most_top_logits of them are
// equal or near (graph/ops.h: TopParams).
inline constexpr int64_t wanted_top_logits = 128, most_top_logits = 512;

// All weights of these stages.
std::vector<WeightRef> weights_of(const TextModel & model, const std::vector<Stage> & stages);

struct StageOptions {
    const StatisticSet * statistics = nullptr; // of variants that observe; null: none
    ExpertTokens expert_tokens = ExpertTokens::routed;
    int64_t expert_tile = 1;
    bool last_position_only = false;
    bool largest_logit = false;       // instead of logits: on_largest of a call
    bool top_logits = false;          // the same: on_top
    bool draws = false;               // the same: on_largest has the tokens drawn with `inputs.draws`
    bool embeds = false;              // instead of logits: what they are made of [S, H]
    bool joins_expert_inputs = false; // with ExpertTokens::all, on devices that can (exec/backend.h)
    Screening screening = Screening::off;
};

// Memory of the batch's rows of each field; null for fields that the stages do not use.
struct BatchFields : std::array<void *, max_fields> {
    BatchFields() { fill(nullptr); }
};

// Whether stages read the rows that come with a batch.
bool read_given(const std::vector<Stage> & stages);

// Which fields stages read from before and leave for after.
struct FieldUse {
    FieldSet reads = 0, makes = 0;
};
FieldUse field_use(const std::vector<Stage> & stages, const TextModel & model);

// The place of a NaN or Inf among the activations.
struct BadInput {
    int64_t position = -1; // row of the batch; -1: not known
    int32_t input = -1;    // in ModelNames::inputs
};

// The inputs of a batch in memory of a device.
struct DeviceBatch {
    const int32_t * ids = nullptr;
    const int32_t * positions = nullptr;
    const int32_t * segments = nullptr;
    const uint8_t * mask = nullptr;
    const int32_t * past = nullptr;
    const int32_t * last_positions = nullptr;
    const int32_t * slots = nullptr;
    const int32_t * pages = nullptr;
    const void * given = nullptr; // in the dtype of the device's activations
    const int32_t * extents = nullptr;
    const int32_t * pairs = nullptr;
    const Draw * draws = nullptr;
    const uint8_t * allowed = nullptr; // [vocabulary], for largest_logit, top_logits and draws
    friend bool operator==(const DeviceBatch &, const DeviceBatch &) = default;
};

struct StageCall {
    const TextVariant & variant;
    const std::vector<Stage> & stages;
    const WeightGroup & weights; // loaded
    const BatchShape & shape;
    const DeviceBatch & inputs;
    BatchFields fields = {};
    TextStates * states = nullptr;                  // when the shape says cached
    TextStates * kept_rows = nullptr;               // of TextModel::replayed(), with as_steps and for replay stages
    int64_t kept_begin = 0;                         // the first of its rows that is this batch's
    std::span<const WeightGroup> more_weights = {}; // loaded: those that `weights` does not hold
    const HostExperts * experts = nullptr;          // with BatchShape::expert_places: whose caches they are
    const StatisticWindow * statistics = nullptr;   // of these stages, when observing
    OnTap on_tap = {};
    // What the head made: [T or S, vocabulary] (StageOptions::embeds: [T or S, H]), of a vision tower [T / head rows, vocabulary]; activations of the device.
    std::function<Status(const Tensor & logits)> on_logits = {};
    // With StageOptions::largest_logit, instead: ids i32 [S] that `inputs.allowed` allows, and their logits f32 [S].
    std::function<Status(const Tensor & ids, const Tensor & logits)> on_largest = {};
    // With StageOptions::top_logits, instead: ids i32 [S, 1 + most_top_logits] of which the first is how many there are, and their
    // logits f32 [S, most_top_logits]; and all logits.
    std::function<Status(const Tensor & ids, const Tensor & logits, const Tensor & all)> on_top = {};
    BadInput * bad_input = nullptr; // receives where it was when that is why the run failed
    // The host looks at what the device observes, which need not fail at a NaN or Inf.
    bool looks_for_bad_input = false;
};

// The ops of these stages for a batch, by their names in tables of times (of nodes: a device may run several at once).
struct OpWork {
    const char * name;
    Work work;
};
Result<std::vector<OpWork>> stage_operations(const TextVariant & variant, const std::vector<Stage> & stages,
                                             const BatchShape & shape, const StageOptions & options, DType activation);

// Of the weights of these stages those that a batch does nothing with but multiply by them; never the embedding, which other
// stages look up even where it is the head.
Result<std::vector<WeightRef>> multiplied_weights(const TextVariant & variant, const std::vector<Stage> & stages,
                                                  const BatchShape & shape, const StageOptions & options,
                                                  DType activation);

class StageRunner {
  public:
    // `kept`: the number of prepared graphs to keep, for different variants, stages or batch shapes; the least recently
    // used is dropped first. The targets of a variant must outlive the runner.
    StageRunner(Backend & device, const StageOptions & options, size_t kept = 1);
    ~StageRunner();
    // Bytes of the arena for a batch of this shape.
    Result<uint64_t> arena_bytes(const TextVariant & variant, const std::vector<Stage> & stages,
                                 const BatchShape & shape);
    Status run(const StageCall & call, void * arena, uint64_t arena_bytes);

  private:
    struct Prepared;
    // `apart`: with every observed tensor in memory, where options may join ops.
    Result<Prepared *> prepare(const TextVariant & variant, const std::vector<Stage> & stages, const BatchShape & shape,
                               bool apart = false);

    Backend & device_;
    StageOptions options_;
    size_t kept_;
    std::vector<std::unique_ptr<Prepared>> prepared_;
    size_t next_ = 0; // behind the one that was used last
    uint64_t uses_ = 0;
};

} // namespace gnv
