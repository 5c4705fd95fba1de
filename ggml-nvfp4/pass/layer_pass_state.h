// The inside of a LayerPass: layer_pass.cpp allocates memory and brings weights to lanes, layer_pass_lanes.cpp is the
// work of lanes with them.
#pragma once

#include "pass/layer_pass.h"

#include <atomic>
#include <mutex>

namespace gnv {

struct LayerPass::State {
    std::vector<TextVariant> variants;
    std::vector<Backend *> devices;
    ThreadPool * threads = nullptr;
    const std::vector<TextSequence> * sequences = nullptr;
    PassOptions options;
    PassPlan plan;

    StatisticSet requested;               // without totals
    std::vector<StatisticSet> statistics; // by variant
    int32_t first_layer = 0;              // see PassHooks
    PassProgress progress;
    std::vector<double> costs;            // of a position, by group
    double cost_done = 0, cost_total = 0; // of the positions so far, and of all
    size_t touched = 0;                   // of PassHooks::logits_to

    struct Load { // weights that are loaded together, and the variants that run with them
        size_t group = 0;
        std::vector<size_t> variants; // in running order; for the head all
        bool last = false;            // of its group
    };
    struct Work { // a lane and its share
        LaneShare share;
        std::unique_ptr<Lane> lane;
        std::unique_ptr<StageRunner> runner; // keeps the prepared graphs of a group
        struct {
            size_t variant = 0;
            const PassBatch * batch = nullptr; // null: none
        } watched;                             // the batch whose maxima are being downloaded
    };
    std::unique_ptr<WeightStream> stream;  // outlives the lanes, which copy from it
    std::vector<WeightGroup> host_weights; // of the load that runs, by group
    std::vector<Work> lanes;
    struct {
        const Load * load = nullptr; // null: none, or being read
        bool reuses = false;         // overwrites host memory that a hook received
    } to_read;                       // the next weights
    std::recursive_mutex hook_mutex; // one lane at a time calls hooks and merges totals
    std::mutex given_mutex;          // one lane at a time has given rows written by the threads
    std::atomic<size_t> stop = 0;    // lanes from here on stop

    const TextModel & model() const { return *variants.front().model; }
    PassRequest request() const { return {variants, devices, *sequences, requested, options}; }
    bool observes(size_t variant) const { return request().observes(variant); }
    bool all_on_host() const { return plan.device.used() == 0; }
    // Whether totals go from lane to lane.
    bool takes_turns() const { return lanes.size() > 1 && !requested.can_be_divided(); }
    ~State() { release(); }

    // --- Memory
    Status allocate();
    Status try_to_allocate(bool & on_host, const Backend *& device);
    void release();

    // --- Rows between blocks
    FieldSet fields_between_blocks() const;
    Status for_rows(const std::function<Status(LaneRows & rows, size_t variant, Field field)> & work);

    // --- Weights
    std::vector<Load> list_loads() const; // from the first layer on
    Result<std::vector<WeightLoad>> reads_of(const Load & load) const;
    Status expect_next();
    Status start_reading(const Load & load);
    Status start_next(const PassHooks & hooks, bool wait);
    Status bring_weights();

    // --- Lanes
    Status run(const PassHooks & hooks);
    Status on_lanes(const std::function<Status(size_t lane)> & work);
    Status run_load(const Load & load, const PassHooks & hooks);
    Status run_in_turns(const Load & load, const PassHooks & hooks);
    Status run_lane(size_t lane, const Load & load, const PassHooks & hooks);
    Status run_batch(Work & work, size_t variant, const PassGroup & group, size_t batch, const PassHooks & hooks);
    Result<DeviceBatch> upload(Lane & lane, const BatchInputs & inputs);
    Status take_statistics(size_t lane, size_t variant, const PassGroup & group, const PassHooks & hooks);
    Status share_totals(size_t variant, const PassGroup & group, const PassHooks & hooks);
    Status check_watched(Work & work, const PassGroup & group);
    Status explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                   const BadInput & bad) const;
    Status run_head(const PassGroup & group, const PassHooks & hooks);
    Status compute_logits(Work & work, size_t variant, const PassGroup & group, int64_t first, int64_t count,
                          const std::function<Status(const Tensor & logits)> & take);
    Status write_logits(Work & work, const PassGroup & group, const PassHooks & hooks);
    void touch_results(const PassHooks & hooks);
    Status advance(int64_t positions, const PassHooks & hooks);
};

} // namespace gnv
