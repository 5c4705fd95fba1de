// The inputs of a batch on a device: a block of its memory, and the host memory that they pass through.
#pragma once

#include "run/stage_runner.h"

namespace gnv {

class DeviceInputs {
  public:
    // Bytes for batches of up to this shape, on the device and as many on the host.
    static uint64_t bytes(const BatchShape & shape);
    static Result<DeviceInputs> create(Backend & device, uint64_t bytes);
    // After create(); apart, because who is short of which memory makes a difference.
    Status allocate_host(Backend & device);
    uint64_t bytes() const { return bytes_; }

    // Queued, after waiting for the compute queue: the last batch may still read from there.
    Result<DeviceBatch> upload(Backend & device, const BatchInputs & inputs);

  private:
    uint64_t bytes_ = 0;
    DeviceMemory memory_;
    HostMemory staging_;
};

} // namespace gnv
