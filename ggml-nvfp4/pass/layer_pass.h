// A forward pass of many sequences through a model, layer by layer: each group of weights is loaded once, all batches
// run through it, and it is dropped. Calibration and comparison share this loop.
//
//   for each group of stages                        (weights: in host memory once, from there to every lane)
//       for each lane                               (a device with its share of the batches; lanes run side by side)
//           for each variant                        (checkpoint x arithmetic: source, W4A4, ...)
//               for each batch of whole sequences   (hidden states: a row each position, with the lane)
//                   build the graph, run it
//       on_group: statistics are complete, weights still loaded
//   the head, for some positions of all variants at a time: on_logits gets their logits side by side
//
// The results for a position do not depend on batches, lanes, groups, threads or the memory budget.
#pragma once

#include "pass/pass_operations.h"

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace gnv {

struct PassProgress {
    size_t group = 0, groups = 0;
    int64_t positions = 0, positions_total = 0; // of all groups
    double share = 0;                           // of the operations, done
    int32_t layer = 0, layers = 0;              // the block that runs, from 1 on, and all; 0: none
    int64_t tokens = 0;                         // positions of all sequences
};

// A group's weights in memory of the device of a lane.
struct LaneWeights {
    Backend * device = nullptr;
    const WeightGroup * group = nullptr;
};

// The threads of lanes call on_tap, on_statistics and progress, one lane at a time; the thread of run() calls the
// others between the work of lanes.
struct PassHooks {
    // A group's stages are done for all variants. The weights of the first variant are still loaded: in host memory
    // until before_reuse is called, and on the devices with memory of their own, by lane, for work that the hook queues.
    std::function<Status(const PassGroup & group, const WeightGroup & host, const std::vector<LaneWeights> & devices)>
        on_group;
    // Called before on_group, for each lane: the batches of a group are done for a variant that observes. Totals that
    // are not kept exist only in windows, in memory of devices; those of the first variant still in on_group. Every
    // lane's window has those of all positions.
    std::function<Status(size_t variant, const PassGroup & group, const StatisticWindow & totals)> on_statistics;
    // Called by the first lane after on_group, before the host memory of on_group is overwritten: all reading there
    // must have ended when it returns. Not called after the last group, whose memory stays.
    std::function<Status()> before_reuse;
    // Whether before_reuse would return at once. With a second buffer, lanes work on the next group until this is true
    // or its batches end; empty: not used.
    std::function<bool()> may_reuse;
    // The tensor is in host memory, F32 or I32; from a device with memory of its own it is a copy, so select with
    // wants_tap.
    std::function<Status(size_t variant, const PassBatch & batch, const Tap & tap, const Tensor & tensor)> on_tap;
    std::function<bool(const Tap & tap)> wants_tap; // empty: all
    // What the head made of the positions from `first` on, f32 [n, vocabulary] of every variant; in order.
    std::function<Status(int64_t first, const std::vector<Tensor> & logits)> on_logits;
    // Of a pass with one variant: what the head makes of all positions stays here. Empty: not.
    std::span<float> logits_to;
    std::function<bool(const PassProgress &)> progress; // false stops the run

    // To go on with a pass that ended after a block: the first block to run, and what brings the rows (restore_rows())
    // and totals (restore_statistics()) of that moment back; memory is allocated then. 0: all.
    int32_t first_layer = 0;
    std::function<Status()> restore;
    // Called after on_group at the end of each block but the last: save_rows() and statistics() are those after it.
    std::function<Status(int32_t layers)> on_layer;
};

class LayerPass {
  public:
    // A lane for each device: batches are dealt out to them in stretches, by position. Lanes run side by side, but one
    // after another in each group if a statistic depends on the order of positions or is not kept (see
    // StatisticSet::can_be_divided). CPU backends compute with threads of their own. Fails if a budget is too small, with the smallest sufficient one, and on sequences that the
    // model cannot take. All arguments must outlive the pass. All variants have one architecture.
    static Result<std::unique_ptr<LayerPass>> create(std::vector<TextVariant> variants, std::vector<Backend *> devices,
                                                     ThreadPool & threads, const std::vector<TextSequence> & sequences,
                                                     const PassOptions & options);
    ~LayerPass();

    const PassPlan & plan() const;
    // What the plan computes, and what it takes here: see run/pass_operations.h. Before run().
    Result<WorkByOp> operations() const;
    Result<PassProbe> probe(double seconds) const;
    Status run(const PassHooks & hooks);
    // Rows of a field after the last group, for hooks: the store's own memory, or `buffer` (f32 or i32 [count,
    // columns]). One thread at a time, unless has_rows().
    bool has_rows() const; // rows are in host memory: rows() needs no buffer
    Result<const void *> rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const;
    const StatisticSet & requested_statistics() const;                  // without totals
    const StatisticSet & statistics(size_t variant) const;              // the kept ones
    Status restore_statistics(size_t variant, std::string_view packed); // see StatisticSet::packed()

    // The rows between two blocks, of all positions and variants: what later blocks read. The bytes depend on sequences
    // and device only. Pieces come in order.
    uint64_t row_bytes() const;
    Status save_rows(const std::function<Status(const void *, uint64_t)> & take) const;
    Status restore_rows(const std::function<Status(void *, uint64_t)> & give);

  private:
    struct State;
    explicit LayerPass(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
