#include "run/weight_reader.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace gnv {

Result<std::unique_ptr<WeightReader>> WeightReader::create(Backend & device, uint64_t bytes, int threads) {
    std::unique_ptr<WeightReader> reader(new WeightReader(device, bytes));
    GNV_TRY(reader->add_buffer());
    GNV_ASSIGN(reader->threads_, ThreadPool::create(threads));
    return reader;
}

Status WeightReader::add_buffer() {
    GNV_ASSIGN(HostMemory memory, device_.allocate_host(buffer_bytes_));
    buffers_.push_back({std::move(memory), nullptr});
    return {};
}

// What is read and not wanted any more.
void WeightReader::give_up() {
    if (!reader_.joinable()) return;
    gives_up_.store(true, std::memory_order_relaxed);
    reader_.join();
}

WeightReader::~WeightReader() {
    give_up();
    (void)device_.synchronize(Queue::upload); // it may still copy from a buffer
}

Status WeightReader::start(std::vector<WeightLoad> loads, void * target) {
    give_up();
    turn_ = (turn_ + 1) % buffers_.size();
    Buffer & buffer = buffers_[turn_];
    if (buffer.copied) GNV_TRY(buffer.copied->wait());
    buffer.copied.reset();
    reading_ = std::move(loads);
    bytes_ = sent_ = 0;
    for (const WeightLoad & load : reading_) bytes_ += load.group.bytes();
    GNV_CHECK(bytes_ <= buffer_bytes_);
    target_ = target;
    if (target_) device_.order(Queue::compute, Queue::upload);
    has_read_.store(false, std::memory_order_relaxed);
    gives_up_.store(false, std::memory_order_relaxed);
    const auto read = [this, memory = static_cast<uint8_t *>(buffer.memory.get()),
                       trace = device_.trace()]() -> Status {
        const ThreadPool::Watch watch(*threads_, [this] { return !gives_up_.load(std::memory_order_relaxed); });
        uint64_t used = 0;
        for (WeightLoad & load : reading_) {
            GNV_TRY(load.group.load(*load.catalog, *load.files, memory + used, *threads_, trace));
            used += load.group.bytes();
        }
        return {};
    };
    try {
        reader_ = std::thread([this, read] {
            status_ = guard_exceptions(read);
            const std::lock_guard<std::mutex> lock(mutex_);
            has_read_.store(true, std::memory_order_release);
            done_.notify_one();
        });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread to read weights: ", error.what());
    }
    return {};
}

void WeightReader::queue_copy(void * memory, uint64_t bytes) {
    if (bytes == 0) return;
    Buffer & buffer = buffers_[turn_];
    device_.upload(static_cast<uint8_t *>(memory) + sent_, static_cast<const uint8_t *>(buffer.memory.get()) + sent_,
                   bytes, Queue::upload);
    sent_ += bytes;
    buffer.copied = device_.fence(Queue::upload);
}

void WeightReader::send(size_t calls) {
    if (!target_ || !has_read_.load(std::memory_order_acquire) || !status_.ok()) return;
    const uint64_t left = bytes_ - sent_;
    queue_copy(target_, std::min(left, device_aligned((left + calls - 1) / calls)));
}

Status WeightReader::wait(const std::function<Status()> & check) {
    GNV_CHECK(reader_.joinable());
    const auto is_done = [this] { return has_read_.load(std::memory_order_acquire); };
    std::unique_lock<std::mutex> lock(mutex_);
    while (!done_.wait_for(lock, std::chrono::milliseconds(100), is_done)) {
        lock.unlock();
        Status status = check();
        if (!status.ok()) {
            gives_up_.store(true, std::memory_order_relaxed);
            return status;
        }
        lock.lock();
    }
    return {};
}

Result<std::vector<LoadedWeights>> WeightReader::finish(void * memory) {
    GNV_CHECK(reader_.joinable());
    reader_.join();
    const void * const target = std::exchange(target_, nullptr);
    GNV_TRY(std::move(status_));
    GNV_CHECK(!target || target == memory);
    if (!target) device_.order(Queue::compute, Queue::upload);
    std::vector<LoadedWeights> loaded;
    uint64_t used = 0;
    for (const WeightLoad & load : reading_) {
        loaded.push_back({load.group, load.group.copy_at(static_cast<uint8_t *>(memory) + used)});
        used += load.group.bytes();
    }
    queue_copy(memory, bytes_ - sent_);
    device_.order(Queue::upload, Queue::compute);
    return loaded;
}

} // namespace gnv
