// Numbers that several runs read, in memory of the host and of the device; on the CPU once. They go to the device at once.
#pragma once

#include "exec/backend.h"

#include <span>

namespace gnv {

class InputBlock {
  public:
    static Result<InputBlock> create(Backend & device, uint64_t bytes);
    // For so many numbers in so many lists.
    static uint64_t bytes(uint64_t numbers, uint64_t lists) {
        return numbers * sizeof(int32_t) + lists * device_aligned(1);
    }
    void clear() { used_ = sent_ = 0; } // all work with the last ones is done
    // Where the numbers are for what is queued after send().
    const int32_t * add(std::span<const int32_t> numbers);
    void send(Backend & device); // queued

  private:
    HostMemory host_;
    DeviceMemory memory_; // of a device with memory of its own
    uint64_t bytes_ = 0, used_ = 0, sent_ = 0;
};

} // namespace gnv
