// The check of codes on a device: each reading thread has a slot of device memory and of host memory.
#pragma once

#include "exec/backend.h"
#include "verify/measure.h"

#include <memory>
#include <mutex>

namespace gnv {

class DeviceRecomputer final : public verify::Recomputer {
  public:
    // `device` must outlive it.
    static Result<std::unique_ptr<DeviceRecomputer>> create(Backend & device, int slots);
    ~DeviceRecomputer() override;

    int slots() const override { return slots_; }
    std::string device() const override { return device_.device().name; }
    uint16_t * weights(int slot) override;
    Result<Packed> pack(int slot, int64_t blocks, float global_scale) override;

  private:
    DeviceRecomputer(Backend & device, int slots) : device_(device), slots_(slots) {}

    Backend & device_;
    const int slots_;
    DeviceQuantizer * quantizer_ = nullptr;
    std::mutex queueing_;
    DeviceMemory device_memory_;
    HostMemory host_memory_;
};

} // namespace gnv
