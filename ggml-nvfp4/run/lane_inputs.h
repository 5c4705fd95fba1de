// The inputs of a batch on a device: a block of its memory, and host memory on their way to it. On the CPU, without
// either, the device reads them in place; only given rows are gathered in a block. In a block their places stay the same,
// so that prepared graphs can be replayed.
#pragma once

#include "core/memory.h"
#include "core/thread_pool.h"
#include "run/stage_runner.h"

#include <vector>

namespace gnv {

class LaneInputs {
  public:
    // Bytes for batches of up to this shape, on the device and as many on the host.
    static uint64_t bytes(const BatchShape & shape);
    static Result<LaneInputs> create(Backend & device, uint64_t bytes);
    // For a device that reads host memory: only `given_bytes` for given rows, of batches of up to a shape.
    static uint64_t given_bytes(const BatchShape & shape);
    static LaneInputs in_place(uint64_t given_bytes);
    // After create(); separate, so that callers know which of the two memories is short.
    Status allocate_host(Backend & device);
    uint64_t bytes() const { return bytes_; }

    // Queued, after waiting for the compute queue: the last batch may still read from there. `inputs` must live until
    // the next upload. `threads` write given rows; a failure of their writer is the result.
    Result<DeviceBatch> upload(Backend & device, const BatchInputs & inputs, ThreadPool & threads);

  private:
    Status write_given(const BatchInputs & inputs, DType dtype, void * to, ThreadPool & threads);

    uint64_t bytes_ = 0, given_bytes_ = 0;
    DeviceMemory memory_;
    HostMemory staging_;
    AlignedBlock given_;        // in place
    std::vector<float> pieces_; // rows of a piece, by thread, before they are rounded
};

} // namespace gnv
