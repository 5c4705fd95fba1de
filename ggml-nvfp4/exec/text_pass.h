// A forward pass of many sequences through a text model, layer-major: each group of weights comes in once, all batches run
// through it, and it leaves. This is the one loop behind calibration and comparison.
//
//   for each group of stages                        (weights: one group in memory, the system reads the next one ahead)
//       for each variant                            (checkpoint x arithmetic: source, W4A4, ...)
//           for each batch of whole sequences       (hidden states: in the store, a row each position)
//               build the graph, run it
//       on_group: statistics are complete, weights still there
//   the head, for some positions of all variants at a time: on_logits sees what they say side by side
//
// What is computed for a position does not depend on batches, groups, threads or the memory budget.
#pragma once

#include "exec/hidden_store.h"
#include "exec/stage_runner.h"

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
    uint64_t ram_bytes = 0;          // for everything that the plan lists; 0: most of what is free
    uint64_t device_bytes = 0;       // of a device with memory of its own; 0: most of what is free there
    std::string scratch_folder;      // for hidden states that do not fit; empty: they must fit
    bool observe = false;            // largest inputs of Linears, tokens per expert
    bool observe_magnitudes = false; // how often each magnitude of an input occurs, too; on the CPU alone
    ExpertTokens expert_tokens = ExpertTokens::routed;
    bool head = false;           // run to the logits
    int64_t batch_positions = 0; // wanted in a batch of whole sequences; 0: chosen
    // Where the budget is a part of a larger one: that one, of which this pass gets so much. For messages.
    std::function<uint64_t(uint64_t)> whole_budget;
};

// Everything that is decided before a weight is read.
struct PassGroup {
    std::vector<Stage> stages;
    uint64_t weight_bytes = 0; // of the largest variant
};
struct PassBatch {
    size_t first = 0, count = 0;      // sequences
    int64_t begin = 0, positions = 0; // rows of the store
};
struct PassPlan {
    std::vector<PassGroup> groups;
    std::vector<PassBatch> batches;
    HiddenStore::Layout store;
    int64_t expert_tile = 1;
    int64_t head_positions = 0;    // that go through the head at a time
    uint64_t head_arena_bytes = 0; // of one variant's
    bool store_in_file = false;
    uint64_t weight_bytes = 0;  // the group in memory
    uint64_t arena_bytes = 0;   // activations and scratch memory of one batch
    uint64_t store_bytes = 0;   // hidden states of all variants
    uint64_t staging_bytes = 0; // of a batch on its way from and to a scratch file
    uint64_t statistic_bytes = 0;
    // On a device with memory of its own: what it holds. The host then holds weights twice, and no activations.
    uint64_t device_bytes = 0;
    uint64_t memory_bytes() const {
        if (device_bytes > 0) return 2 * weight_bytes + statistic_bytes;
        return weight_bytes + arena_bytes + (store_in_file ? 0 : store_bytes) + staging_bytes + statistic_bytes;
    }
};

struct PassProgress {
    size_t group = 0, groups = 0;
    int64_t positions = 0, positions_total = 0; // of all groups
};

struct PassHooks {
    // A group's stages are done for all variants. The weights of the first variant are still there: in host memory until
    // before_reuse is called, and, where the device has memory of its own, on it (else null) for what the hook queues there.
    std::function<Status(const PassGroup & group, const WeightGroup & host, const WeightGroup * device)> on_group;
    // Called after on_group and before the host memory that it saw is overwritten: whoever still reads there must end. The
    // next group may have been computed, and its on_group not yet called, by then.
    std::function<Status()> before_reuse;
    std::function<Status(size_t variant, const PassBatch & batch, const Tap & tap, const Tensor & tensor)> on_tap;
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
    // columns]) after reading them.
    Result<const void *> rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const;
    const std::vector<LayerStatistics> & statistics(size_t variant) const; // by layer

  private:
    struct State;
    explicit TextPass(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
