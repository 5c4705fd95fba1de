// How weights come to a device with memory of its own: threads read them into host memory in the background, and from there
// they are copied. While the device computes with what it has, the next are read.
#pragma once

#include "exec/weight_group.h"

#include <memory>
#include <thread>
#include <vector>

namespace gnv {

// A group and where it is read from; catalog and files must outlive the reader.
struct WeightLoad {
    WeightGroup group;
    const WeightCatalog * catalog = nullptr;
    const FolderFiles * files = nullptr;
};
struct LoadedWeights {
    WeightGroup host, device;
};

class WeightReader {
  public:
    struct Size {
        uint64_t bytes = 0; // of all that is loaded together, at most
        int buffers = 1;    // 2: what was read last stays in host memory while the next is read
        int threads = 0;    // see ThreadPool::create
    };
    static Result<std::unique_ptr<WeightReader>> create(Backend & device, const Size & size);
    ~WeightReader();
    WeightReader(const WeightReader &) = delete;
    WeightReader & operator=(const WeightReader &) = delete;

    // Starts reading groups, one behind the other, into the buffer whose turn it is, from which nobody reads any more. What
    // was started and not finished is given up.
    Status start(std::vector<WeightLoad> loads);
    // Waits for what start() began and for its copy to `memory` of the device; by group. Fails as WeightGroup::load does.
    Result<std::vector<LoadedWeights>> finish(void * memory);

  private:
    explicit WeightReader(Backend & device) : device_(device) {}
    Backend & device_;
    uint64_t buffer_bytes_ = 0;
    std::vector<HostMemory> buffers_;
    size_t turn_ = 0; // in buffers_: the one that is read into
    std::unique_ptr<ThreadPool> threads_;
    std::thread reader_;
    std::vector<WeightLoad> reading_;
    Status status_; // of reading
};

} // namespace gnv
