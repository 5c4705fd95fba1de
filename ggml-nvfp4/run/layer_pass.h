// A forward pass of many sequences through a model, layer-major: each group of weights comes in once, all batches run
// through it, and it leaves. This is the one loop behind calibration and comparison.
//
//   for each group of stages                        (weights: in host memory once, from there to every lane)
//       for each lane                               (a device with its share of the batches; lanes run side by side)
//           for each variant                        (checkpoint x arithmetic: source, W4A4, ...)
//               for each batch of whole sequences   (hidden states: a row each position, with the lane)
//                   build the graph, run it
//       on_group: statistics are complete, weights still there
//   the head, for some positions of all variants at a time: on_logits sees what they say side by side
//
// What is computed for a position does not depend on batches, lanes, groups, threads or the memory budget.
#pragma once

#include "run/pass_plan.h"

#include <functional>
#include <memory>
#include <vector>

namespace gnv {

struct PassProgress {
    size_t group = 0, groups = 0;
    int64_t positions = 0, positions_total = 0; // of all groups
};

// on_tap, on_statistics and progress are called from the threads of lanes, by one lane at a time; the others between the
// work of lanes, from the thread of run().
struct PassHooks {
    // A group's stages are done for all variants. The weights of the first variant are still there: in host memory until
    // before_reuse is called, and, where the device has memory of its own, on it (else null) for what the hook queues there.
    std::function<Status(const PassGroup & group, const WeightGroup & host, const WeightGroup * device)> on_group;
    // Called before on_group: the batches of a group are done for a variant that observes. Totals that are not kept are in
    // the window, in memory of the device, and nowhere else; those of the first variant still in on_group.
    std::function<Status(size_t variant, const PassGroup & group, const StatisticWindow & totals)> on_statistics;
    // Called after on_group, by the first lane, before the host memory that on_group saw is overwritten: all reading there
    // must end. Not after the last group, whose memory stays.
    std::function<Status()> before_reuse;
    // Whether before_reuse would not have to wait. With a second buffer lanes go on with the next group until it says so, as
    // long as there are batches; empty: it is not asked.
    std::function<bool()> may_reuse;
    // The tensor is in host memory, F32 or I32. Of a device with memory of its own it is a copy: let wants_tap choose.
    std::function<Status(size_t variant, const PassBatch & batch, const Tap & tap, const Tensor & tensor)> on_tap;
    std::function<bool(const Tap & tap)> wants_tap; // empty: all
    // What the head made of the positions from `first` on, f32 [n, vocabulary] of every variant; in order.
    std::function<Status(int64_t first, const std::vector<Tensor> & logits)> on_logits;
    std::function<bool(const PassProgress &)> progress; // false stops the run
};

class LayerPass {
  public:
    // A lane each device: batches are dealt out to them in stretches, by position. CPU backends compute with threads of
    // their own. Fails when a budget is too small, with the least that would do, and on sequences that the model cannot
    // take. What is passed in must outlive the pass. All variants are of one architecture.
    static Result<std::unique_ptr<LayerPass>> create(std::vector<TextVariant> variants, std::vector<Backend *> devices,
                                                     ThreadPool & threads, const std::vector<TextSequence> & sequences,
                                                     const PassOptions & options);
    ~LayerPass();

    const PassPlan & plan() const;
    Status run(const PassHooks & hooks);
    // Rows of a field as the last group left them, for hooks: the store's own memory, or `buffer` (f32 or i32 [count,
    // columns]) after reading them. One thread at a time, unless has_rows().
    bool has_rows() const; // in host memory as they are: rows() needs no buffer
    Result<const void *> rows(size_t variant, Field field, int64_t first, int64_t count, void * buffer) const;
    const StatisticSet & statistics(size_t variant) const; // those that are kept

  private:
    struct State;
    explicit LayerPass(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
