#include "run/weight_stream.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace gnv {

// --- Reading ------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<WeightStream>> WeightStream::create(Backend & memory, const Size & size, ThreadPool * helpers) {
    std::unique_ptr<WeightStream> stream(new WeightStream(memory, size, helpers));
    GNV_CHECK(size.readers > 0 || helpers);
    if (size.bytes > 0) GNV_TRY(stream->add_buffer());
    if (size.readers > 0) {
        GNV_ASSIGN(stream->threads_, ThreadPool::create(size.readers));
    }
    return stream;
}

Status WeightStream::add_buffer() {
    Result<HostMemory> memory = device_.allocate_host(size_.bytes);
    if (!memory.ok()) return memory.take_status().add_context("weights");
    buffers_.push_back(memory.take());
    return {};
}

WeightStream::~WeightStream() { give_up(); }

void WeightStream::give_up() {
    next_ = pieces_.size(); // no piece is left
    if (reader_.joinable()) reader_.join();
}

size_t WeightStream::next_buffer() const { return buffers_.empty() ? 0 : (turn_ + 1) % buffers_.size(); }

Status WeightStream::start(std::vector<WeightLoad> loads, void * into) {
    give_up();
    turn_ = next_buffer();
    memory_ = static_cast<uint8_t *>(into ? into : buffers_[turn_].get());
    loads_ = std::move(loads);
    pieces_.clear();
    bytes_ = 0;
    for (size_t i = 0; i < loads_.size(); i++) {
        WeightGroup & group = loads_[i].group;
        group = group.at(memory_ + bytes_);
        const auto first = ptrdiff_t(pieces_.size());
        for (const WeightGroup::Read & read : group.reads()) pieces_.push_back({i, read});
        bytes_ += group.bytes();
        // In the order of the files: a file that is fetched for this need not stay until the end.
        const std::vector<TensorInfo> & tensors = loads_[i].catalog->checkpoint().tensors();
        const auto place = [&](const Piece & piece) {
            const TensorInfo & tensor = tensors[piece.read.piece.tensor];
            return std::pair(tensor.shard, tensor.offset + piece.read.piece.offset);
        };
        std::stable_sort(pieces_.begin() + first, pieces_.end(),
                         [&](const Piece & a, const Piece & b) { return place(a) < place(b); });
    }
    GNV_CHECK(into || bytes_ <= size_.bytes);
    status_ = {};
    next_ = 0;
    number_++;
    if (!threads_) return {};
    is_done_ = false;
    try {
        reader_ = std::thread([this, number = number_] {
            Status done = guard_exceptions([this] { return read_all(*threads_); });
            const std::lock_guard<std::mutex> lock(mutex_);
            if (done.ok()) read_.store(number, std::memory_order_release);
            std::swap(status_, done);
            is_done_ = true;
            done_.notify_one();
        });
    } catch (const std::system_error & error) {
        is_done_ = true;
        return fail(Code::out_of_memory, "cannot start a thread to read weights: ", error.what());
    }
    return {};
}

Status WeightStream::read_next() {
    const size_t i = next_++;
    if (i >= pieces_.size()) return {};
    const WeightLoad & load = loads_[pieces_[i].load];
    return load.group.read(pieces_[i].read, *load.catalog, *load.files, device_.trace());
}

Status WeightStream::read_all(ThreadPool & threads) {
    Status done = threads.parallel_for(int64_t(pieces_.size()), [this](int64_t) { return read_next(); });
    if (!done.ok()) next_ = pieces_.size(); // stops the other readers
    return done;
}

Status WeightStream::wait(const std::function<Status()> & check) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!done_.wait_for(lock, std::chrono::milliseconds(100), [this] { return is_done_; })) {
        lock.unlock();
        Status status = check();
        if (!status.ok()) {
            give_up();
            return status;
        }
        lock.lock();
    }
    return {};
}

Status WeightStream::finish() {
    GNV_CHECK(number_ > 0);
    Status helped = helpers_ ? read_all(*helpers_) : Status();
    if (reader_.joinable()) reader_.join();
    GNV_TRY(std::exchange(status_, Status()));
    GNV_TRY(std::move(helped));
    read_.store(number_, std::memory_order_release);
    return {};
}

// --- Upload -------------------------------------------------------------------------------------------------------------------

void WeightUpload::follow(WeightUpload & first) {
    GNV_CHECK(!aliases_ && !first.aliases_ && !first.first_ && number_ == 0);
    first_ = &first;
    first.followers_.push_back(this);
}

// The memory that this upload writes to next may be what followers still copy from.
void WeightUpload::wait_for_followers() {
    for (WeightUpload * const follower : followers_) {
        if (follower->followed_) device_.wait(Queue::upload, *follower->followed_);
        follower->followed_.reset();
    }
}

Status WeightUpload::expect(const WeightStream & stream, void * target) {
    const size_t buffer = stream.next_buffer();
    if (buffer < copied_.size() && copied_[buffer]) {
        GNV_TRY(copied_[buffer]->wait());
        copied_[buffer].reset();
    }
    target_ = target;
    number_ = stream.number() + 1;
    sent_ = 0;
    if (target_ && !aliases_) {
        device_.order(Queue::compute, Queue::upload);
        wait_for_followers();
    }
    return {};
}

void WeightUpload::queue_copy(const WeightStream & stream, void * memory, uint64_t bytes) {
    if (bytes == 0) return;
    device_.upload(static_cast<uint8_t *>(memory) + sent_, stream.memory() + sent_, bytes, Queue::upload);
    sent_ += bytes;
    if (copied_.size() <= stream.buffer()) copied_.resize(stream.buffer() + 1);
    copied_[stream.buffer()] = device_.fence(Queue::upload);
    if (followers_.empty()) return;
    Arrived now = {number_, sent_, static_cast<const uint8_t *>(memory), device_.fence(Queue::upload)};
    const std::lock_guard<std::mutex> lock(arrived_mutex_);
    std::swap(arrived_, now);
}

// All of the present load that the first device has by now.
void WeightUpload::queue_copy_of_first(void * memory) {
    Arrived there;
    {
        const std::lock_guard<std::mutex> lock(first_->arrived_mutex_);
        there = first_->arrived_;
    }
    if (there.number != number_ || there.bytes == sent_) return;
    device_.wait(Queue::upload, *there.when);
    device_.copy_from(first_->device_, static_cast<uint8_t *>(memory) + sent_, there.memory + sent_,
                      there.bytes - sent_, Queue::upload);
    sent_ = there.bytes;
    followed_ = device_.fence(Queue::upload);
}

void WeightUpload::send(const WeightStream & stream, size_t calls) {
    if (!target_ || aliases_) return;
    if (first_) return queue_copy_of_first(target_);
    if (!stream.has_read(number_)) return;
    const uint64_t left = stream.bytes() - sent_;
    queue_copy(stream, target_, std::min(left, device_aligned((left + calls - 1) / calls)));
}

std::vector<WeightGroup> WeightUpload::finish(const WeightStream & stream, void * memory) {
    GNV_CHECK(stream.has_read(stream.number()) && number_ == stream.number());
    std::vector<WeightGroup> groups;
    uint64_t used = 0;
    for (const WeightLoad & load : stream.loads()) {
        groups.push_back(aliases_ ? load.group : load.group.at(static_cast<uint8_t *>(memory) + used));
        used += load.group.bytes();
    }
    if (aliases_) return groups;
    const void * const target = std::exchange(target_, nullptr);
    GNV_CHECK(!target || target == memory);
    if (!target) {
        device_.order(Queue::compute, Queue::upload);
        wait_for_followers();
    }
    if (first_) {
        queue_copy_of_first(memory);
        GNV_CHECK(sent_ == stream.bytes());
    } else {
        queue_copy(stream, memory, stream.bytes() - sent_);
    }
    device_.order(Queue::upload, Queue::compute);
    return groups;
}

} // namespace gnv
