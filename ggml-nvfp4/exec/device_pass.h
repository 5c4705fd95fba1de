// What a forward pass keeps on a device with memory of its own: weights of the group that computes, activations, hidden
// states, inputs of the batch, statistics. And the two host buffers that weights pass through: while the device works on one
// group, threads read the next.
#pragma once

#include "exec/hidden_store.h"
#include "exec/stage_runner.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace gnv {

// Bytes on the device, for planning.
struct DevicePassSize {
    uint64_t weight_bytes = 0, arena_bytes = 0, input_bytes = 0;
    HiddenStore::Layout store; // one of each variant
    size_t variants = 1;
    int64_t layers = 0, experts = 0;

    uint64_t hidden_bytes() const; // of one variant's hidden states
    uint64_t store_bytes() const;  // of one variant's fields
    uint64_t statistic_bytes() const;
    uint64_t total() const;
};

class DevicePass {
  public:
    static Result<std::unique_ptr<DevicePass>> create(Backend & device, const DevicePassSize & size);
    ~DevicePass();

    // Starts reading a group's weights into the other host buffer, in the background.
    Status start_reading(const WeightGroup & group, const WeightCatalog & catalog, const FolderFiles & files);
    // Waits for what start_reading() began, and copies it to the device. The host copy stays until the next but one call.
    Result<WeightGroup> finish_reading();
    WeightGroup on_device(const WeightGroup & host) const { return host.copy_at(weights_.get()); }

    Result<DeviceBatch> upload(const BatchInputs & inputs);
    BatchFields fields(size_t variant, int64_t begin) const;
    void * arena() const { return arena_.get(); }

    // Adds what the device measured of a layer to `statistics`, where there is room for it. Code::bad_value when an
    // activation was NaN or Inf; *where tells which.
    Status take_statistics(int32_t layer, LayerStatistics & statistics, Observed & where);

  private:
    DevicePass(Backend & device, const DevicePassSize & size) : device_(device), size_(size) {}
    float * maxima(int32_t layer, Observed observed) const;
    int64_t * tokens_per_expert(int32_t layer) const;

    Backend & device_;
    const DevicePassSize size_;
    DeviceMemory weights_, arena_, store_, inputs_, statistics_;
    HostMemory host_weights_[2], host_inputs_;
    int slot_ = 0;
    WeightGroup reading_;
    Status read_status_;
    std::unique_ptr<ThreadPool> readers_;
    std::thread reader_;
};

} // namespace gnv
