// What a pass measures of the inputs of a plan's units, for quantizers that need it: which statistics to ask for, and those that
// are there while the units of a group are quantized.
#pragma once

#include "exec/backend.h"
#include "quant/plan.h"
#include "quant/quantizers/moment_file.h"
#include "run/statistic_window.h"

#include <vector>

namespace gnv {

class UnitStatistics {
  public:
    // Asks nothing where the plan's quantizer needs nothing. Code::unsupported for a family whose router's choices cannot be
    // observed. The plan must outlive it.
    static Result<UnitStatistics> create(const Plan & plan);
    const std::vector<StatisticRequest> & requests() const { return requests_; }
    // Host memory that take() needs at most, beside the window.
    uint64_t kept_bytes(const TextModel & model) const;

    // The totals of a group. Those of experts stay in the window: they are to be used by its device, before the window is
    // opened again. Others are copied to host memory, for later groups of the layer.
    Status take(const StatisticWindow & window);
    UnitInputs find(const PlanUnit & unit) const; // of the CPU's window
    // The same from files; `own` and `layer` receive the memory.
    static Result<UnitInputs> read(const Plan & plan, const PlanUnit & unit, const MomentFiles & files,
                                   MomentFiles::Totals & own, MomentFiles::Totals & layer);
    // For kernels: in the memory of the device or the host.
    static InputMoments moments_of(const std::vector<UnitStatistic> & statistics);

  private:
    struct Total {
        StatisticKey key;
        int32_t first_group = 0;
        int64_t groups = 0;
        uint64_t bytes = 0; // of a group
        std::vector<uint64_t> own;
        const void * data = nullptr; // elsewhere; null: `own`
    };
    explicit UnitStatistics(const Plan & plan) : plan_(&plan) {}
    bool is_routed(int32_t input) const { return plan_->layout.names->inputs[size_t(input)].is_routed; }
    std::vector<UnitStatistic> find(int32_t layer, int32_t input, int32_t group) const;

    const Plan * plan_;
    std::vector<StatisticRequest> requests_;
    std::vector<Total> totals_; // of one layer
};

} // namespace gnv
