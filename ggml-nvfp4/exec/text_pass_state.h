// The inside of a TextPass, shared by its parts: text_pass.cpp plans and starts, text_pass_host.cpp runs where weights and
// hidden states are in host memory, text_pass_device.cpp where the device has memory of its own.
#pragma once

#include "core/memory.h"
#include "exec/device_pass.h"
#include "exec/text_pass.h"

namespace gnv {

struct TextPass::State {
    std::vector<TextVariant> variants;
    Backend * device = nullptr;
    ThreadPool * threads = nullptr;
    const std::vector<TextSequence> * sequences = nullptr;
    PassOptions options;
    PassPlan plan;

    std::unique_ptr<DevicePass> remote; // on a device with memory of its own; what follows is then empty
    AlignedBlock weight_memory, arena, staging;
    std::vector<HiddenStore> stores;                      // by variant
    std::vector<std::vector<LayerStatistics>> statistics; // by variant, by layer
    PassProgress progress;

    bool is_remote() const { return device->device().kind != DeviceKind::cpu; }
    DevicePassSize device_size() const;
    Status choose_remote_plan();
    Status run_remote(const PassHooks & hooks);
    Status run_remote_group(const PassGroup & group, const WeightGroup & host, const PassHooks & hooks);
    const TextModel & model() const { return *variants.front().model; }
    StageOptions stage_options() const {
        return {options.observe, options.observe_magnitudes && !is_remote(), options.expert_tokens, plan.expert_tile,
                false};
    }
    Result<uint64_t> weight_bytes(const std::vector<Stage> & stages) const;
    Status plan_head(uint64_t logits_bytes);
    Result<std::vector<PassGroup>> cut_groups(int64_t expert_ranges) const;
    void cut_batches(int64_t wanted);
    Status make_plan(int64_t expert_ranges, int64_t batch_positions, bool in_file, uint64_t logits_bytes);
    Status choose_plan();
    Status allocate();

    Status run_group(const PassGroup & group, const PassHooks & hooks);
    Status run_head(const PassGroup & group, const PassHooks & hooks);
    Status run_batch(size_t variant, const PassGroup & group, const WeightGroup & weights, const PassBatch & batch,
                     const PassHooks & hooks);
    Status explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                   const BadInput & bad) const;
};

inline bool is_head(const PassGroup & group) { return group.stages.front().kind == StageKind::head; }

} // namespace gnv
