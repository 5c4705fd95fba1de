// How weights come to a device with memory of its own: threads read them into host memory in the background, and from there
// they are copied on the upload queue. While the device computes with what it has, the next are read and, where they have
// memory of their own there, copied.
#pragma once

#include "run/weight_group.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
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
    // With one buffer of host memory, for `bytes` that are loaded together at most. `threads`: see ThreadPool::create.
    static Result<std::unique_ptr<WeightReader>> create(Backend & device, uint64_t bytes, int threads);
    ~WeightReader();
    WeightReader(const WeightReader &) = delete;
    WeightReader & operator=(const WeightReader &) = delete;

    // One more buffer: with two, what was read last stays in host memory while the next is read. Apart from create(), because
    // the first may be read into while memory for the second is found.
    Status add_buffer();

    // Starts reading groups, one behind the other, into the buffer whose turn it is, from which nobody reads any more; waits
    // for the copy that was queued from there. What was started and not finished is given up. `target`: where finish() will
    // want them, if what is queued so far is the last that uses that memory of the device; else null.
    Status start(std::vector<WeightLoad> loads, void * target = nullptr);
    // Queues a share of the copy to the target, if there is one and all is read: what is left, divided by `calls`, of which
    // this is the first. In shares, so that what else is uploaded does not wait for all of it.
    void send(size_t calls);
    // Waits until what start() began is read and asks `check` a few times a second meanwhile. Where it fails, reading is given
    // up and the failure returned: start() has to come next, not finish().
    Status wait(const std::function<Status()> & check);
    // Waits until what start() began is read, and queues what is left of its copy to `memory` of the device, behind what
    // computes so far unless that is the target; what is queued to compute after it finds the weights there. By group. Fails
    // as WeightGroup::load does.
    Result<std::vector<LoadedWeights>> finish(void * memory);

  private:
    struct Buffer {
        HostMemory memory;
        std::unique_ptr<Fence> copied; // after the last copy from here; null: none was queued
    };
    WeightReader(Backend & device, uint64_t bytes) : device_(device), buffer_bytes_(bytes) {}
    void give_up();
    void queue_copy(void * memory, uint64_t bytes);

    Backend & device_;
    const uint64_t buffer_bytes_;
    std::vector<Buffer> buffers_;
    size_t turn_ = 0; // in buffers_: the one that is read into
    std::unique_ptr<ThreadPool> threads_;
    std::thread reader_;
    std::mutex mutex_; // with done_ it tells wait() of has_read_
    std::condition_variable done_;
    std::atomic<bool> gives_up_ = false;
    std::atomic<bool> has_read_ = false; // the thread is done with what follows
    std::vector<WeightLoad> reading_;
    Status status_; // of reading
    void * target_ = nullptr;
    uint64_t bytes_ = 0, sent_ = 0; // of what is read: all, and those whose copy is queued
};

} // namespace gnv
