// The inputs of a batch on a device: a block of its memory, and host memory on their way to it. On the CPU, without
// either, the device reads them in place; only given rows are gathered in a block. In a block their places stay the same,
// so that prepared graphs can be replayed.
//
// With two blocks of host memory, which batches take in turns, the host writes the inputs of a batch while the device
// computes the one before: the copy to the device is queued behind that work.
#pragma once

#include "core/memory.h"
#include "core/thread_pool.h"
#include "run/stage_runner.h"

#include <memory>
#include <vector>

namespace gnv {

class LaneInputs {
  public:
    // Bytes for batches of up to this shape, on the device and in each block of the host, for activations of `dtype`.
    static uint64_t bytes(const BatchShape & shape, DType dtype);
    static Result<LaneInputs> create(Backend & device, uint64_t bytes, size_t host_blocks = 1);
    // For a device that reads host memory: only `given_bytes` for given rows, of batches of up to a shape.
    static uint64_t given_bytes(const BatchShape & shape, DType dtype);
    static LaneInputs in_place(uint64_t given_bytes);
    // After create(); separate, so that callers know which of the two memories is short.
    Status allocate_host(Backend & device);
    uint64_t bytes() const { return bytes_; }

    // Queued. Waits until a block of the host is free again: with one block for the compute queue, with two for the copy
    // of the batch before the last. On the CPU `inputs` must live until the next upload. `threads` write given rows; a
    // failure of their writer is the result.
    Result<DeviceBatch> upload(Backend & device, const BatchInputs & inputs, ThreadPool & threads);

  private:
    struct HostBlock {
        HostMemory memory;
        std::unique_ptr<Fence> copied; // of the last batch that used it
    };
    Status write_given(const BatchInputs & inputs, DType dtype, void * to, ThreadPool & threads);
    Status take_turn(Backend & device);

    uint64_t bytes_ = 0, given_bytes_ = 0;
    DeviceMemory memory_;
    std::vector<HostBlock> host_blocks_;
    size_t turn_ = 0;           // of the last batch
    AlignedBlock given_;        // in place
    std::vector<float> pieces_; // rows of a piece, by thread, before they are rounded
};

} // namespace gnv
