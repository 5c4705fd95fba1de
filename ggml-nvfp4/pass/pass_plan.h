// The plan of a pass (pass/layer_pass.h), made before a weight is read: groups of stages, batches, the lane of each
// batch, the place of hidden states, and the use of memory.
#pragma once

#include "core/budget.h"
#include "pass/lane.h"

#include <string>
#include <vector>

namespace gnv {

struct PassOptions {
    Budget host;                // for everything that the plan lists; undecided: most of the free memory
    Budget device;              // of each device with memory of its own; undecided: most of its free memory
    std::string scratch_folder; // for hidden states that do not fit; empty: they must fit
    std::vector<StatisticRequest> statistics; // of variants that observe
    ExpertTokens expert_tokens = ExpertTokens::routed;
    bool head = false;                    // run to the logits
    Screening screening = Screening::off; // of experts that see every token, on devices that can
    int64_t batch_positions = 0;          // wanted in a batch of whole sequences; 0: automatic
};

struct PassGroup {
    std::vector<Stage> stages;
    uint64_t weight_bytes = 0; // of the largest variant; for the head, of all variants
};
inline int32_t layer_of(const PassGroup & group) { return group.stages.front().layer; } // -1 outside of blocks
inline bool is_head(const PassGroup & group) { return group.stages.front().kind == StageKind::head; }

struct PassBatch {
    size_t first = 0, count = 0;      // sequences
    int64_t begin = 0, positions = 0; // of all positions of the pass
};

// Consecutive batches that one lane runs; their hidden states stay with it.
struct LaneShare {
    size_t device = 0;           // in the list of the pass
    size_t first = 0, count = 0; // batches
    int64_t begin = 0, positions = 0;
};

struct PassPlan {
    std::vector<PassGroup> groups;
    std::vector<PassBatch> batches;
    std::vector<LaneShare> lanes; // without devices that get no batch
    RowLayout store;              // of each variant, all positions
    StorePlace store_place = StorePlace::host;
    int64_t expert_tile = 1;
    int64_t head_positions = 0;    // in the head at a time
    uint64_t head_arena_bytes = 0; // of one variant's
    int64_t largest_batch = 0;     // in positions
    uint64_t weight_bytes = 0;     // of the largest group
    // Of that size on each device; 2: the next group is uploaded while one computes. A device with memory of its own
    // also has two in host memory; if all memory is the host's, this is their number there.
    int weight_buffers = 1;
    uint64_t arena_bytes = 0;         // of the batch that needs most
    StatisticWindow::Size statistics; // of the group that needs most
    // The reservations: "weights", "activations" (with the scratch memory of kernels), "hidden states" (of all
    // positions, or of a batch on its way to their place and back), "inputs", "statistics", "logits" (on the CPU among
    // the activations), "driver, libraries"; of the caller: "pictures", "packed weights", "search for scales". `device`: of
    // the device with least memory left; empty if all memory is the host's.
    Budget host, device;
    bool uses_device() const { return device.used() > 0; } // with memory of its own
    uint64_t reading_bytes = 0; // host memory for reading the sequences, before the pass: a bound
    uint64_t state_bytes = 0;   // of disk, to go on with if the pass is stopped
};

struct PassRequest {
    const std::vector<TextVariant> & variants;
    const std::vector<Backend *> & devices;
    const std::vector<TextSequence> & sequences;
    const StatisticSet & statistics; // requested by the options, without totals
    const PassOptions & options;

    const TextModel & model() const { return *variants.front().model; }
    bool observes(size_t variant) const { return !statistics.empty() && variants[variant].observe; }
    StageOptions stage_options(const PassPlan & plan) const {
        StageOptions stage = {&statistics, options.expert_tokens, plan.expert_tile, false};
        stage.joins_expert_inputs = devices.front()->joins_expert_inputs();
        stage.screening = options.screening;
        return stage;
    }
};

// The fastest plan that fits the budgets. Fails with the smallest sufficient budget.
Result<PassPlan> plan_pass(const PassRequest & request);
LaneSize lane_size(const PassRequest & request, const PassPlan & plan, const LaneShare & share);

// The plan for people (batches, places, memory by purpose against the budgets), and as a JSON object for programs
// (`calibration` in docs/json.md). `device`: its name.
std::string pass_plan_text(const PassPlan & plan, const Device & device);
std::string pass_plan_json(const PassPlan & plan, const Device & device);

} // namespace gnv
