// The inputs of a batch on a device: a block of its memory, and host memory on their way to it. On the CPU, without
// either, the device reads them in place. In a block their places stay the same, so that prepared graphs can be
// replayed.
#pragma once

#include "run/stage_runner.h"

namespace gnv {

class LaneInputs {
  public:
    // Bytes for batches of up to this shape, on the device and as many on the host.
    static uint64_t bytes(const BatchShape & shape);
    static Result<LaneInputs> create(Backend & device, uint64_t bytes); // 0: no block
    // After create(); separate, so that callers know which of the two memories is short.
    Status allocate_host(Backend & device);
    uint64_t bytes() const { return bytes_; }

    // Queued, after waiting for the compute queue: the last batch may still read from there. `inputs` must live until
    // the next upload.
    Result<DeviceBatch> upload(Backend & device, const BatchInputs & inputs);

  private:
    uint64_t bytes_ = 0;
    DeviceMemory memory_;
    HostMemory staging_;
};

} // namespace gnv
