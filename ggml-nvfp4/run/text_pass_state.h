// The inside of a TextPass, shared by its parts: text_pass.cpp plans and starts, text_pass_host.cpp runs where weights and
// hidden states are in host memory; where the device has memory of its own, text_pass_device_plan.cpp divides it and
// text_pass_device.cpp runs.
#pragma once

#include "core/memory.h"
#include "run/device_pass.h"
#include "run/device_rows.h"
#include "run/text_pass.h"

namespace gnv {

struct TextPass::State {
    std::vector<TextVariant> variants;
    Backend * device = nullptr;
    ThreadPool * threads = nullptr;
    const std::vector<TextSequence> * sequences = nullptr;
    PassOptions options;
    PassPlan plan;

    // Budgets that a plan keeps to; 0: what options and the machine give.
    uint64_t host_limit = 0, device_limit = 0;

    StatisticSet requested;               // without totals
    std::vector<HiddenStore> stores;      // by variant
    std::vector<StatisticSet> statistics; // by variant
    StatisticWindow window;               // of the group and variant that run
    PassProgress progress;

    // Where host memory is the device's.
    AlignedBlock weight_memory, arena, staging;

    // Where the device has memory of its own.
    struct Load { // weights that come in together, and what runs with them
        size_t group = 0;
        std::vector<size_t> variants; // in the order in which they run; of the head all
        bool last = false;            // of its group
    };
    std::unique_ptr<DevicePass> remote;
    std::unique_ptr<DeviceRows> batch_rows;
    std::vector<std::unique_ptr<InputScales>> remote_scales;
    std::vector<TextVariant> remote_variants; // with scales that are on the device
    AlignedBlock logits_memory;               // f32 of a few positions of all variants
    struct {
        size_t variant = 0;
        const PassBatch * batch = nullptr; // null: none
    } watched;                             // whose maxima are on their way to the host
    struct {
        const Load * load = nullptr; // null: none, or being read
        bool reuses = false;         // host memory that a hook was given
    } to_read;                       // the next weights

    const TextModel & model() const { return *variants.front().model; }
    bool is_remote() const { return device->device().has_own_memory(); }
    StageOptions stage_options() const { return {&requested, options.expert_tokens, plan.expert_tile, false}; }
    bool observes(size_t variant) const { return !requested.empty() && variants[variant].observe; }

    // --- Plan
    Result<uint64_t> weight_bytes(const std::vector<Stage> & stages) const;
    Status plan_head(uint64_t logits_bytes);
    Result<std::vector<PassGroup>> cut_groups(int64_t expert_ranges) const;
    void cut_batches(int64_t wanted);
    Status make_plan(const std::vector<PassGroup> & groups, int64_t batch_positions, StorePlace place,
                     uint64_t logits_bytes);
    void add_host_memory();
    void add_device_memory();
    Status choose_plan();
    Status choose_remote_plan();
    uint64_t host_budget() const;

    // --- Memory
    Status allocate();
    Status create_stores();
    Status allocate_on_device();
    Status try_to_allocate_on_device(bool & on_host);
    void release_device();
    DevicePassSize device_size() const;
    DeviceRowsSize rows_size() const;
    uint64_t largest_input_bytes() const;
    uint64_t scale_bytes() const;

    // --- Run where host memory is the device's
    Status run_on_host(const PassHooks & hooks);
    Status run_group(const PassGroup & group, const PassHooks & hooks);
    Status run_head(const PassGroup & group, const PassHooks & hooks);
    Status run_batch(size_t variant, const PassGroup & group, const WeightGroup & weights, const PassBatch & batch,
                     const PassHooks & hooks);
    Status take_statistics(size_t variant, const PassGroup & group, const PassHooks & hooks);
    Status explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                   const BadInput & bad) const;

    // --- Run where the device has memory of its own
    std::vector<Load> list_loads() const;
    Status start_reading(const Load & load);
    Status start_next(const PassHooks & hooks, bool wait);
    Status run_remote(const PassHooks & hooks);
    Status run_remote_load(const Load & load, const std::vector<LoadedWeights> & weights, const PassHooks & hooks);
    Status run_remote_batch(size_t variant, const PassGroup & group, const WeightGroup & weights,
                            const PassBatch & batch, const PassBatch * next, const PassHooks & hooks);
    Status check_watched(const PassGroup & group, const WeightGroup & weights);
    Status run_remote_head(const PassGroup & group, const std::vector<LoadedWeights> & weights,
                           const PassHooks & hooks);
    Status remote_logits(size_t variant, const PassGroup & group, const WeightGroup & weights, int64_t first,
                         int64_t count, float * to);
    Status advance(int64_t positions, const PassHooks & hooks);
};

inline bool is_head(const PassGroup & group) { return group.stages.front().kind == StageKind::head; }

} // namespace gnv
