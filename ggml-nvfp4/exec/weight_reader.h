// Reads groups of weights into one buffer of host memory, in the background: while a device computes with the group that it
// has copied, threads read the next.
#pragma once

#include "exec/weight_group.h"

#include <memory>
#include <thread>

namespace gnv {

class WeightReader {
  public:
    // `bytes`: of the largest group.
    static Result<std::unique_ptr<WeightReader>> create(Backend & device, uint64_t bytes, int threads);
    ~WeightReader();
    WeightReader(const WeightReader &) = delete;
    WeightReader & operator=(const WeightReader &) = delete;

    // Nobody reads from the buffer any more. What was being read and not asked for is given up.
    Status start(const WeightGroup & group, const WeightCatalog & catalog, const FolderFiles & files);
    // Waits for what start() began, and queues its copy to `memory` of the device. The group there.
    Result<WeightGroup> finish(void * memory);

  private:
    explicit WeightReader(Backend & device) : device_(device) {}
    Backend & device_;
    HostMemory buffer_;
    std::unique_ptr<ThreadPool> threads_;
    std::thread reader_;
    WeightGroup reading_;
    Status status_;
};

} // namespace gnv
