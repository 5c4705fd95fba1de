// Calibration of a planned quantization: the opened model of the plan's source, and the units of the plan that can be
// written once a group of its weights is in memory.
#pragma once

#include "pass/layer_pass.h"
#include "quant/calibration_statistics.h"
#include "quant/plan.h"
#include "quantize/packing/device_packer.h"
#include "quantize/packing/source_reads.h"
#include "quantize/packing/unit_statistics.h"
#include "quantize/quantize.h"
#include "report/device_limits.h"
#include "run/device_list.h"
#include "run/open_model.h"

#include <memory>
#include <vector>

namespace gnv {

// The failure for calibration data with a plan that does not use them.
Status no_input_scales();
bool can_calibrate(const Plan & plan);

class Calibration {
  public:
    // Opens the model and plans the forward pass: every problem of sequences or budget is found here. All arguments
    // must outlive it.
    static Result<std::unique_ptr<Calibration>> create(const Plan & plan, const FolderFiles & shards,
                                                       ThreadPool & threads, const CalibrationData & data,
                                                       const QuantizeOptions & options);

    // Plans the forward pass and adds it to the plan's texts; runs nothing. Fails as a run would.
    static Status describe(Plan & plan, ThreadPool & threads, const CalibrationData & data,
                           const QuantizeOptions & options);

    // Units of the plan (positions in Plan::units) whose weights are all in this group, each in one group only.
    std::vector<uint32_t> take_units(const PassGroup & group);
    std::vector<uint32_t> take_units_of_no_group(); // units without weights in any group of the pass
    std::vector<uint32_t> remaining_units() const;  // units not taken yet
    // What the rest of the run reads of the source: the pass from `first_layer` on and, where it `quantizes`, all units but
    // those `left_out` (empty: none).
    Result<SourceReads> reads(int32_t first_layer, bool quantizes,
                              const std::function<bool(uint32_t unit)> & left_out = {}) const;

    // Before the pass: measures the limits of the first device, and sends the times of all to `trace`, which must outlive
    // this.
    Status start_measuring(Trace & trace);
    // Before the pass: loads what the devices compute with, while no other thread uses them. What fails, fails again in the
    // pass, which tells it.
    void load_products();
    // Before the pass: the vision tower makes rows of the pictures in the data. `go_on`: false stops.
    Status encode_pictures(const std::function<bool()> & go_on);
    LayerPass & pass() { return *pass_; }
    const LayerPass & pass() const { return *pass_; }
    const Device & device() const { return devices_.first().device(); } // all are of its model
    size_t device_count() const { return devices_.count(); }
    Backend & backend() { return devices_.first(); }
    // What the devices of lanes pack with. Packers are for devices with memory of their own, if the budgets leave room.
    std::vector<PackingLane> packing_lanes(const std::vector<LaneWeights> & weights);
    // Gives the totals of a lane to what it packs with.
    Status take_totals(const StatisticWindow & window) {
        return unit_statistics_[devices_.find(window.backend())].take(window);
    }
    // What the units' quantizer asked for.
    const std::vector<StatisticRequest> & requests() const { return unit_statistics_.front().requests(); }
    StatisticSet requested() const { return StatisticSet::plan(*model_->model, requests()); }
    const DeviceLimits & limits() const { return limits_; }
    // Whether a device with memory of its own computes while the host packs and writes.
    bool uses_device() const { return pass_->plan().uses_device(); }
    // The average share of used slots of grouped_linear: see its flops. Less than 1 for a pass with ranges of experts.
    double slots_in_use() const;
    const ScreeningCounts & screening() const { return screening_; } // of the pass, after finish()
    // After the pass: completes the trace. Fails if Screening::check found a difference. Returns the bytes of the fullest
    // device's memory in use by all processes; 0 without memory of its own.
    Result<uint64_t> finish();
    Result<Statistics> statistics() const;                                        // after the pass
    const UnitStatistics & unit_statistics() { return unit_statistics_.front(); } // of the CPU, or of the first device

  private:
    explicit Calibration(const Plan & plan) : plan_(plan) {}
    bool holds(const PassGroup & group, const PlanUnit & unit) const;
    std::vector<uint32_t> units_of(const PassGroup & group, std::vector<bool> & taken) const;
    Result<std::unique_ptr<LayerPass>> plan_pass(uint64_t device_bytes, const DevicePacker::Size & packer) const;
    DevicePacker::Size packer_size(const PassPlan & alone) const;
    Status make_packers();
    Status create_packers(const DevicePacker::Size & size);
    Result<bool> has_room_for_search(uint64_t device_bytes) const;
    Status no_room_for_search() const;
    Status plan_pictures();
    PictureRows::Limits picture_limits() const;
    const std::vector<TextSequence> & sequences() const { return pictures_ ? texts_ : data_->sequences; }
    Status check_searches() const;
    void find_units();

    const Plan & plan_;
    const FolderFiles * shards_ = nullptr;
    const CalibrationData * data_ = nullptr;
    QuantizeOptions options_;
    std::unique_ptr<OpenModel> model_;
    DeviceList devices_;
    std::vector<UnitStatistics> unit_statistics_;        // by device
    std::vector<std::unique_ptr<DevicePacker>> packers_; // by device; empty: the CPU packs
    ThreadPool * threads_ = nullptr;
    std::vector<TextSequence> texts_; // with the rows of their pictures; empty without pictures
    std::unique_ptr<PictureRows> pictures_;
    std::unique_ptr<LayerPass> pass_;
    ScreeningCounts screening_; // before the pass what an estimate made
    DeviceLimits limits_;
    std::vector<bool> taken_;                           // by unit
    std::vector<std::vector<uint32_t>> units_of_layer_; // layer + 1; units of no layer first
};

} // namespace gnv
