// The way of weights from their files to the devices of a pass. A stream reads them into host memory, in the background
// where there is a second buffer; an upload takes them from there to a device, in shares beside the device's other work.
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

// A group and where it is read from; catalog and files must outlive the stream.
struct WeightLoad {
    WeightGroup group;
    const WeightCatalog * catalog = nullptr;
    const FolderFiles * files = nullptr;
};

class WeightStream {
  public:
    struct Size {
        uint64_t bytes = 0; // of a buffer: what is loaded together at most; 0: start() gets memory
        int readers = 0;    // threads that read in the background; 0: finish() reads everything
    };
    // With one buffer, in host memory that `memory` copies from at full speed. `helpers` (may be null) read, too, while
    // finish() waits.
    static Result<std::unique_ptr<WeightStream>> create(Backend & memory, const Size & size, ThreadPool * helpers);
    ~WeightStream(); // uploads from its buffers must have ended
    WeightStream(const WeightStream &) = delete;
    WeightStream & operator=(const WeightStream &) = delete;

    // One more buffer: with two, the last load stays in host memory while the next is read. Apart from create(), because
    // the first may be read into while memory for the second is found.
    Status add_buffer();
    size_t buffers() const { return buffers_.size(); }
    size_t next_buffer() const; // that the next load is read into

    // Starts to read groups, one behind the other, into the next buffer or `into` (aligned to 64), which must not be in
    // use. A load that was started and not finished is given up.
    Status start(std::vector<WeightLoad> loads, void * into = nullptr);
    // Waits for the threads that read and asks `check` a few times a second meanwhile. Where it fails, reading is given up and
    // the failure returned: start() has to come next, not finish().
    Status wait(const std::function<Status()> & check);
    // Waits until everything is read. Fails as WeightGroup::read does.
    Status finish();

    // Of what was started last; `number` counts loads from 1.
    uint64_t number() const { return number_; }
    bool has_read(uint64_t number) const { return read_.load(std::memory_order_acquire) >= number; }
    const uint8_t * memory() const { return memory_; }
    uint64_t bytes() const { return bytes_; }
    size_t buffer() const { return turn_; }
    const std::vector<WeightLoad> & loads() const { return loads_; }

  private:
    struct Piece {
        size_t load;
        WeightGroup::Read read;
    };
    WeightStream(Backend & memory, const Size & size, ThreadPool * helpers)
        : device_(memory), size_(size), helpers_(helpers) {}
    void give_up();
    Status read_next(); // the next piece, if there is one; any thread
    Status read_all(ThreadPool & threads);

    Backend & device_;
    const Size size_;
    ThreadPool * const helpers_;
    std::vector<HostMemory> buffers_;
    std::unique_ptr<ThreadPool> threads_;
    std::thread reader_;

    size_t turn_ = 0; // in buffers_
    std::vector<WeightLoad> loads_;
    std::vector<Piece> pieces_;
    uint8_t * memory_ = nullptr;
    uint64_t bytes_ = 0, number_ = 0;
    std::atomic<uint64_t> read_ = 0; // number of the last load that is read without a failure
    std::atomic<size_t> next_ = 0;   // in pieces_
    std::mutex mutex_;               // with done_ it tells wait() of is_done_
    std::condition_variable done_;
    bool is_done_ = true; // the reader has nothing left to do
    Status status_;       // of the reader
};

// A lane's end of a stream.
class WeightUpload {
  public:
    explicit WeightUpload(Backend & device) : device_(device), aliases_(!device.device().has_own_memory()) {}
    ~WeightUpload() { (void)device_.synchronize(Queue::upload); } // it may still copy from a buffer
    WeightUpload(const WeightUpload &) = delete;
    WeightUpload & operator=(const WeightUpload &) = delete;

    bool aliases() const { return aliases_; } // the device's memory is the host's

    // Before the stream starts its next load: waits for copies from the buffer that it will read into. `target`: where
    // finish() will want that load, if what is queued so far is the last that uses this memory of the device; else null.
    Status expect(const WeightStream & stream, void * target = nullptr);
    // Queues a share of the copy to the target, if there is one and all is read: what is left, divided by `calls`, of which
    // this is the first. In shares, so that other uploads do not wait for all of it.
    void send(const WeightStream & stream, size_t calls);
    // After the stream's finish(): queues what is left of the copy to `memory` of the device, behind what computes so far
    // unless that is the target; what is queued to compute after it finds the weights there. By group. Where the device's
    // memory is the host's the groups are those of the stream.
    std::vector<WeightGroup> finish(const WeightStream & stream, void * memory);

  private:
    void queue_copy(const WeightStream & stream, void * memory, uint64_t bytes);

    Backend & device_;
    const bool aliases_;
    void * target_ = nullptr;
    uint64_t number_ = 0, sent_ = 0;             // of the load that is sent: its number, and bytes whose copy is queued
    std::vector<std::unique_ptr<Fence>> copied_; // by buffer, after the last copy from it; null: none was queued
};

} // namespace gnv
