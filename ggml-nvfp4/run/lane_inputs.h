// The inputs of a batch on a device: a block of its memory, and the host memory that they pass through. Without either, on
// the CPU, the device reads them where they are; in a block they stay in the same places, as prepared graphs like it.
#pragma once

#include "run/stage_runner.h"

namespace gnv {

class LaneInputs {
  public:
    // Bytes for batches of up to this shape, on the device and as many on the host.
    static uint64_t bytes(const BatchShape & shape);
    static Result<LaneInputs> create(Backend & device, uint64_t bytes); // 0: no block
    // After create(); apart, because it matters which of the two memories is short.
    Status allocate_host(Backend & device);
    uint64_t bytes() const { return bytes_; }

    // Queued, after waiting for the compute queue: the last batch may still read from there. `inputs` must live until the
    // next upload.
    Result<DeviceBatch> upload(Backend & device, const BatchInputs & inputs);

  private:
    uint64_t bytes_ = 0;
    DeviceMemory memory_;
    HostMemory staging_;
};

} // namespace gnv
