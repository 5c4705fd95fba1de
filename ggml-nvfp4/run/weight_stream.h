// The way of weights from their files to the devices of a pass. A stream reads them into host memory, in the background
// with a second buffer; an upload copies them from there to a device, in shares beside the device's other work. Uploads
// of further devices follow the first: they copy from its memory, so that weights leave the host once.
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

// A group and its source; catalog and files must outlive the stream.
struct WeightLoad {
    WeightGroup group;
    const WeightCatalog * catalog = nullptr;
    const FolderFiles * files = nullptr;
};

class WeightStream {
  public:
    struct Size {
        uint64_t bytes = 0; // of a buffer: the largest load; 0: start() gets memory
        int readers = 0;    // threads that read in the background; 0: finish() reads everything
    };
    // With one buffer, in host memory that `memory` copies from at full speed. `helpers` (may be null) also read while
    // finish() waits.
    static Result<std::unique_ptr<WeightStream>> create(Backend & memory, const Size & size, ThreadPool * helpers);
    ~WeightStream(); // uploads from its buffers must have ended
    WeightStream(const WeightStream &) = delete;
    WeightStream & operator=(const WeightStream &) = delete;

    // One more buffer: with two, the last load stays in host memory while the next is read. Separate from create(),
    // because the first buffer can be filled while the second is allocated.
    Status add_buffer();
    size_t buffers() const { return buffers_.size(); }
    size_t next_buffer() const; // of the next load

    // Starts to read consecutive groups into the next buffer or `into` (aligned to 64), which must not be in use. Drops
    // an unfinished load.
    Status start(std::vector<WeightLoad> loads, void * into = nullptr);
    // Waits for the reading threads and calls `check` a few times a second. If that fails, the load is dropped and the
    // failure returned: the next call must be start(), not finish().
    Status wait(const std::function<Status()> & check);
    // Waits until everything is read. Fails as WeightGroup::read does.
    Status finish();

    // Of the last started load; `number` counts loads from 1.
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
    Status read_next(); // the next piece, if any; any thread
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
    std::atomic<uint64_t> read_ = 0; // number of the last completely read load
    std::atomic<size_t> next_ = 0;   // in pieces_
    std::mutex mutex_;               // with done_, for wait() on is_done_
    std::condition_variable done_;
    bool is_done_ = true; // the reader is idle
    Status status_;       // of the reader
};

// A lane's end of a stream. expect() and finish() are for one thread, with all lanes idle and a followed upload first;
// send() is for the lane's own.
class WeightUpload {
  public:
    explicit WeightUpload(Backend & device) : device_(device), aliases_(!device.device().has_own_memory()) {}
    ~WeightUpload() { (void)device_.synchronize(Queue::upload); } // copies from a buffer may be running
    WeightUpload(const WeightUpload &) = delete;
    WeightUpload & operator=(const WeightUpload &) = delete;

    bool aliases() const { return aliases_; } // the device's memory is the host's
    // Before the first load: copies come from the memory of `first`, whose device this one reaches. Both must have the
    // same loads, with targets for the same ones, and no upload may be destroyed while another has work to do.
    void follow(WeightUpload & first);

    // Before the stream starts its next load: waits for copies from the buffer of that load. `target`: the memory for
    // that load in finish(), if all work that uses it is queued; else null.
    Status expect(const WeightStream & stream, void * target = nullptr);
    // Queues a share of the copy to the target, if one is set and the load is read: the rest divided by `calls`, of
    // which this is the first. Shares keep other uploads from waiting for the whole copy.
    void send(const WeightStream & stream, size_t calls);
    // After the stream's finish(): queues the rest of the copy to `memory` of the device, after the queued computation
    // unless that is the target; computation queued later finds the weights there. By group. If the device's memory is
    // the host's, the groups are those of the stream.
    std::vector<WeightGroup> finish(const WeightStream & stream, void * memory);

  private:
    // What a device has, or will have when the fence is passed: other devices copy it.
    struct Arrived {
        uint64_t number = 0, bytes = 0; // of a load
        const uint8_t * memory = nullptr;
        std::shared_ptr<const Fence> when;
    };
    void wait_for_followers();
    void queue_copy(const WeightStream & stream, void * memory, uint64_t bytes);
    void queue_copy_of_first(void * memory);

    Backend & device_;
    const bool aliases_;
    void * target_ = nullptr;
    uint64_t number_ = 0, sent_ = 0;             // of the present load: its number, and bytes with a queued copy
    std::vector<std::unique_ptr<Fence>> copied_; // by buffer, after the last copy from it; null: none
    WeightUpload * first_ = nullptr;             // that this one follows
    std::vector<WeightUpload *> followers_;
    std::unique_ptr<Fence> followed_; // after the last copy from the memory of first_
    std::mutex arrived_mutex_;
    Arrived arrived_; // if there are followers
};

} // namespace gnv
