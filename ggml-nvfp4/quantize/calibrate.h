// Calibration of a planned quantization: the model of the plan's source, opened to be run, and which units of the plan can
// be written once a group of its weights is in memory.
#pragma once

#include "quant/calibration_statistics.h"
#include "quant/plan.h"
#include "quantize/device_packer.h"
#include "quantize/quantize.h"
#include "quantize/unit_statistics.h"
#include "report/device_limits.h"
#include "run/layer_pass.h"
#include "run/open_model.h"

#include <memory>
#include <vector>

namespace gnv {

// The error of calibration data for a plan that has no use for them.
Status no_input_scales(const Plan & plan);
bool can_calibrate(const Plan & plan);

class Calibration {
  public:
    // Opens the model and plans the forward pass: everything that can be wrong with sequences or budget shows here. What is
    // passed in must outlive it.
    static Result<std::unique_ptr<Calibration>> create(const Plan & plan, const FolderFiles & shards,
                                                       ThreadPool & threads, const CalibrationData & data,
                                                       const QuantizeOptions & options);

    // Plans the forward pass and says so in the plan; nothing runs. Fails as a run would.
    static Status describe(Plan & plan, ThreadPool & threads, const CalibrationData & data,
                           const QuantizeOptions & options);

    // Units of the plan (positions in Plan::units) whose weights are all in this group, each in one group only.
    std::vector<uint32_t> take_units(const PassGroup & group);
    std::vector<uint32_t> take_units_of_no_group(); // those of which no group of the pass has anything
    std::vector<uint32_t> remaining_units() const;  // those that nobody took

    // Before the pass: measures what the device can reach, and gives its times to `trace`, which must outlive this.
    Status start_measuring(Trace & trace);
    LayerPass & pass() { return *pass_; }
    // Of a device with memory of its own, when the budgets leave room for it; else null.
    DevicePacker * packer() { return packer_.get(); }
    const Device & device() const { return device_->device(); }
    const DeviceLimits & limits() const { return limits_; }
    // A device with memory of its own computes, beside which the host packs and writes.
    bool uses_device() const { return pass_->plan().uses_device(); }
    // The part of the slots of grouped_linear that are in use on average: see its flops. Less than 1 where a pass takes the
    // experts in ranges.
    double slots_in_use() const;
    // After the pass: all its times are in the trace. Bytes of the device's memory that are in use, by any process; 0 where
    // the device has none of its own.
    Result<uint64_t> finish();
    Result<Statistics> statistics() const; // after the pass
    UnitStatistics & unit_statistics() { return *unit_statistics_; }

  private:
    explicit Calibration(const Plan & plan) : plan_(plan) {}
    bool holds(const PassGroup & group, const PlanUnit & unit) const;
    Result<std::unique_ptr<LayerPass>> plan_pass(ThreadPool & threads) const;
    Status make_packer(ThreadPool & threads);
    void find_units();

    const Plan & plan_;
    const FolderFiles * shards_ = nullptr;
    const CalibrationData * data_ = nullptr;
    QuantizeOptions options_;
    std::unique_ptr<OpenModel> model_;
    std::unique_ptr<UnitStatistics> unit_statistics_;
    std::unique_ptr<Backend> device_;
    std::unique_ptr<DevicePacker> packer_;
    std::unique_ptr<LayerPass> pass_;
    DeviceLimits limits_;
    std::vector<bool> taken_;                           // by unit
    std::vector<std::vector<uint32_t>> units_of_layer_; // layer + 1; units of no layer first
};

} // namespace gnv
