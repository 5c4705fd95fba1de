// A forward pass of many sequences through a text model, layer-major: each group of weights comes in once, all batches run
// through it, and it leaves. This is the one loop behind calibration and comparison.
//
//   for each group of stages                        (weights: one group in memory, on a device the next one comes ahead)
//       for each variant                            (checkpoint x arithmetic: source, W4A4, ...)
//           for each batch of whole sequences       (hidden states: in the store, a row each position)
//               build the graph, run it
//       on_group: statistics are complete, weights still there
//   the head, for some positions of all variants at a time: on_logits sees what they say side by side
//
// What is computed for a position does not depend on batches, groups, threads or the memory budget.
#pragma once

#include "run/hidden_store.h"
#include "run/stage_runner.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gnv {

// One piece of input. Segments are independent pieces of text; the first begins at 0.
struct TextSequence {
    std::vector<int32_t> ids;
    std::vector<uint8_t> mask;      // empty: all positions are real
    std::vector<int32_t> segments;  // where each begins; empty: one
    std::vector<int32_t> positions; // [3, T] (time, height, width); empty: 0, 1, 2 ... in each segment, on all axes
    int64_t length() const { return int64_t(ids.size()); }
};

// Ids below the vocabulary, segments no longer than the model's positions, masks and segments that fit. `past`: positions
// that states have seen already.
Status check_sequence(const TextSequence & sequence, size_t number, const TextModelSizes & sizes, int64_t past = 0);

// The inputs of a batch that holds some sequences, one after another.
BatchInputs make_batch(const TextSequence * sequences, size_t count);

struct PassOptions {
    uint64_t ram_bytes = 0;                   // for everything that the plan lists; 0: most of what is free
    uint64_t device_bytes = 0;                // of a device with memory of its own; 0: most of what is free there
    std::string scratch_folder;               // for hidden states that do not fit; empty: they must fit
    std::vector<StatisticRequest> statistics; // of variants that observe
    ExpertTokens expert_tokens = ExpertTokens::routed;
    bool head = false;           // run to the logits
    int64_t batch_positions = 0; // wanted in a batch of whole sequences; 0: chosen
    // Where the budget is a part of a larger one: that one, of which this pass gets so much. For messages.
    std::function<uint64_t(uint64_t)> whole_budget;
};

// Everything that is decided before a weight is read.
struct PassGroup {
    std::vector<Stage> stages;
    uint64_t weight_bytes = 0; // of the largest variant; of the head, of all that are held together
};
struct PassBatch {
    size_t first = 0, count = 0;      // sequences
    int64_t begin = 0, positions = 0; // rows of the store
};
inline int32_t layer_of(const PassGroup & group) { return group.stages.front().layer; } // -1 outside of blocks

// Bytes by what they hold.
struct PassMemory {
    // Of one group; of a device with memory of its own of PassPlan::weight_buffers, and on its host of two.
    uint64_t weights = 0;
    uint64_t activations = 0;   // of one batch, with the scratch memory of kernels
    uint64_t hidden_states = 0; // of all positions, or of a batch on its way to where they are and back
    uint64_t inputs = 0;        // ids, positions and masks of a batch, input scales
    uint64_t statistics = 0;
    uint64_t logits = 0; // of a few positions of all variants; on the CPU they are among the activations
    uint64_t packed = 0; // weights that were quantized on their way to the disk: of whoever does that, none of the pass
    uint64_t context = 0; // what the device's driver and libraries take
    uint64_t total() const {
        return weights + activations + hidden_states + inputs + statistics + logits + packed + context;
    }
};
struct PassPlan {
    std::vector<PassGroup> groups;
    std::vector<PassBatch> batches;
    HiddenStore::Layout store; // of each variant
    StorePlace store_place = StorePlace::host;
    int64_t expert_tile = 1;
    int64_t head_positions = 0;       // that go through the head at a time
    uint64_t head_arena_bytes = 0;    // of one variant's
    int64_t largest_batch = 0;        // in positions
    uint64_t weight_bytes = 0;        // of the largest group
    int weight_buffers = 1;           // of that size on the device; 2: the next group is copied while one computes
    uint64_t arena_bytes = 0;         // of the batch that needs most
    StatisticWindow::Size statistics; // of the group that needs most
    PassMemory host, device;          // device: nothing where host memory is the device's
    uint64_t host_budget = 0, device_budget = 0;
    uint64_t reading_bytes = 0; // of host memory that reading the sequences took at most, before the pass
};

// The plan for people: what runs, where hidden states are, memory by kind against the budgets. And as a JSON object for
// programs (`calibration` in docs/json.md). `device`: its name.
std::string pass_plan_text(const PassPlan & plan, const Device & device);
std::string pass_plan_json(const PassPlan & plan, const Device & device);

struct PassProgress {
    size_t group = 0, groups = 0;
    int64_t positions = 0, positions_total = 0; // of all groups
};

struct PassHooks {
    // A group's stages are done for all variants. The weights of the first variant are still there: in host memory until
    // before_reuse is called, and, where the device has memory of its own, on it (else null) for what the hook queues there.
    std::function<Status(const PassGroup & group, const WeightGroup & host, const WeightGroup * device)> on_group;
    // Called before on_group: the batches of a group are done for a variant that observes. Totals that are not kept are in
    // the window, in memory of the device, and nowhere else; those of the first variant still in on_group.
    std::function<Status(size_t variant, const PassGroup & group, const StatisticWindow & totals)> on_statistics;
    // Called after on_group and before the host memory that it saw is overwritten: whoever still reads there must end. Not
    // after the last group, whose memory stays.
    std::function<Status()> before_reuse;
    // Whether before_reuse would not have to wait. A device with memory of its own goes on with the next group until it says
    // so, as long as there are batches; empty: it is not asked.
    std::function<bool()> may_reuse;
    // What it sees is in host memory, F32 or I32. Of a device with memory of its own that is a copy: let it see no more than
    // it wants.
    std::function<Status(size_t variant, const PassBatch & batch, const Tap & tap, const Tensor & tensor)> on_tap;
    std::function<bool(const Tap & tap)> wants_tap; // empty: all
    // Rows [first, first + logits[0].shape[0]) of the store, f32 [n, vocabulary] of every variant; in order.
    std::function<Status(int64_t first, const std::vector<Tensor> & logits)> on_logits;
    std::function<bool(const PassProgress &)> progress; // false stops the run
};

class TextPass {
  public:
    // `devices`: one for now. Fails when the budget is too small, with the smallest that would do, and on sequences that
    // the model cannot take. What is passed in must outlive the pass. All variants are of one architecture.
    static Result<std::unique_ptr<TextPass>> create(std::vector<TextVariant> variants, std::vector<Backend *> devices,
                                                    ThreadPool & threads, const std::vector<TextSequence> & sequences,
                                                    const PassOptions & options);
    ~TextPass();

    const PassPlan & plan() const;
    Status run(const PassHooks & hooks);
    // Rows of a field as the last group left them, for hooks: the store's own memory, or `buffer` (f32 or i32 [count,
    // columns]) after reading them. One thread at a time, unless has_rows().
    bool has_rows() const; // in host memory as they are: rows() needs no buffer
    Result<const void *> rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const;
    const StatisticSet & statistics(size_t variant) const; // those that are kept

  private:
    struct State;
    explicit TextPass(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
