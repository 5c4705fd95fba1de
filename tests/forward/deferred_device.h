// A device with memory of its own, made of the CPU: what is queued runs when somebody waits for it and not before, queue by
// queue, in no order but what was asked for; and its memory can be touched then alone. Whoever forgets to wait, or reads a
// device's memory, fails here as on a GPU, or harder. With eager copies, so does whoever forgets what must come before one.
#pragma once

#include "exec/backend.h"
#include "graph/graph.h"
#include "quant/quantizers/quantizer.h"

#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace gnv::test {

class DeferredDevice : public Backend {
  public:
    explicit DeferredDevice(ThreadPool & threads, int index = 0) : cpu_(open_cpu(threads)) {
        device_.kind = DeviceKind::cuda;
        device_.index = index;
        device_.name = "deferred device";
    }

    uint64_t memory = uint64_t(16) << 30;      // of the device
    uint64_t host_memory = uint64_t(16) << 30; // that it can copy from
    uint64_t taken = 0, host_taken = 0;        // by others, who do not show in free_bytes() yet
    bool joins = false;                        // expert_inputs as one op
    bool eager_copies = false; // what comes into a queue for copies runs at once, after what it waits for
    uint64_t uploads = 0;      // so far, of the upload queue
    size_t waiting(Queue queue) const { return queues_[size_t(queue)].work.size() - queues_[size_t(queue)].done; }
    uint64_t used() const { return used_; }
    uint64_t peak() const { return peak_; }
    uint64_t host_peak() const { return host_peak_; }
    void reset_peaks() { peak_ = used_, host_peak_ = host_used_; }

    const Device & device() const override { return device_; }
    Device & change() { return device_; }
    Result<DeviceMemory> allocate(size_t bytes) override {
        const size_t size = (bytes + page - 1) / page * page;
        if (used_ + taken + bytes > memory) return fail(Code::out_of_memory, "cannot allocate ", bytes_text(bytes));
        void * const block = map_pages(std::max(size, page));
        blocks_[block] = {bytes, std::max(size, page)};
        used_ += bytes;
        peak_ = std::max(peak_, used_);
        return DeviceMemory(block, {this});
    }
    void free(void * block) override {
        GNV_CHECK(idle()); // nothing is to work with it any more
        used_ -= blocks_.at(block).first;
        munmap(block, blocks_.at(block).second);
        blocks_.erase(block);
    }
    Result<HostMemory> allocate_host(size_t bytes) override {
        if (host_used_ + host_taken + bytes > host_memory)
            return fail(Code::out_of_memory, "cannot allocate ", bytes_text(bytes), " of host memory");
        GNV_ASSIGN(HostMemory block, cpu_->allocate_host(bytes));
        host_blocks_[block.get()] = bytes;
        host_used_ += bytes;
        host_peak_ = std::max(host_peak_, host_used_);
        return HostMemory(block.release(), {this});
    }
    void free_host(void * block) override {
        GNV_CHECK(idle());
        host_used_ -= host_blocks_.at(block);
        host_blocks_.erase(block);
        cpu_->free_host(block);
    }
    bool sees_host = true; // kernels read the host's memory
    bool reads_host() const override { return sees_host; }
    Result<uint64_t> free_bytes() override { return memory - used_; }

    void upload(void * to, const void * from, size_t bytes, Queue queue = Queue::compute) override {
        uploads += queue == Queue::upload;
        push_copy(to, from, bytes, queue);
    }
    void download(void * to, const void * from, size_t bytes, Queue queue = Queue::compute) override {
        push_copy(to, from, bytes, queue);
    }
    void copy(void * to, const void * from, size_t bytes) override { push_copy(to, from, bytes, Queue::compute); }
    void clear(void * to, size_t bytes) override {
        push(Queue::compute, [=] { return memset(to, 0, bytes), Status(); });
    }
    void order(Queue earlier, Queue later) override {
        const size_t count = queues_[size_t(earlier)].work.size();
        push(later, [=, this] { return run(earlier, count), Status(); });
    }
    bool connected = true; // to other devices of this kind
    uint64_t copied = 0;   // bytes so far, from other devices
    bool reaches(const Backend & other) override {
        const auto * const there = dynamic_cast<const DeferredDevice *>(&other);
        return there && connected && there->connected;
    }
    void wait(Queue later, const Fence & fence) override {
        const DeferredFence point = static_cast<const DeferredFence &>(fence);
        push(later, [point] { return point.pass(), Status(); });
    }
    void copy_from(Backend & other, void * to, const void * from, size_t bytes, Queue queue) override {
        auto * const there = dynamic_cast<DeferredDevice *>(&other);
        if (!there) return Backend::copy_from(other, to, from, bytes, queue);
        copied += bytes;
        push(queue, [=] {
            const Open open(*there);
            return memcpy(to, from, bytes), Status();
        });
    }
    std::unique_ptr<Fence> fence(Queue queue) override {
        return std::make_unique<DeferredFence>(*this, queue, queues_[size_t(queue)].work.size());
    }
    Status synchronize(Queue queue = Queue::compute) override {
        return wait(queue, queues_[size_t(queue)].work.size());
    }

    DType activation = DType::f32; // another one: to plan with, not to run
    DType activation_dtype() const override { return activation; }
    Status supports(const KernelCall & call) const override { return cpu_->supports(call); }
    bool joins_expert_inputs() const override { return joins; }
    bool steps = true; // positions of a pass ahead have the bits of single ones
    bool runs_as_steps() const override { return steps; }
    uint64_t scratch_bytes(const KernelCall & call) const override { return cpu_->scratch_bytes(call); }
    Status launch(KernelCall & call) override {
        struct Copy {
            OpParams params;
            Precision precision;
            std::array<Tensor, Node::max_inputs> inputs;
            std::array<Tensor, Node::max_outputs> outputs;
            void * scratch;
        };
        const auto copy = std::make_shared<Copy>(Copy{call.params, call.precision, {}, {}, call.scratch});
        std::copy_n(call.inputs, copy->inputs.size(), copy->inputs.begin());
        std::copy_n(call.outputs, copy->outputs.size(), copy->outputs.begin());
        push(Queue::compute, [this, copy]() -> Status {
            KernelCall now{copy->params};
            now.precision = copy->precision;
            now.inputs = copy->inputs.data();
            now.outputs = copy->outputs.data();
            now.scratch = copy->scratch;
            Status status = cpu_->launch(now);
            if (status.code() != Code::bad_value) return status;
            const size_t maxima = op_of(copy->params) == Op::observe ? 1 : 2; // or those of what an op makes
            *copy->inputs[maxima].as<float>() = INFINITY;                     // a device goes on
            return {};
        });
        return {};
    }
    bool records = false; // else graphs are launched op by op
    int64_t refusals = 0; // of the next recordings, so many
    int64_t recorded = 0; // so far
    bool can_record() const override { return records; }
    std::unique_ptr<Recording> record(std::function<Status()> launches) override {
        Queued & queue = queues_[size_t(Queue::compute)];
        const size_t before = queue.work.size();
        const bool ok = launches().ok() && refusals-- <= 0;
        auto recording = std::make_unique<DeferredRecording>();
        recording->work.assign(queue.work.begin() + ptrdiff_t(before), queue.work.end());
        queue.work.resize(before);
        if (!ok) return nullptr;
        recorded++;
        recording->launches = std::move(launches);
        return recording;
    }
    bool quantizes = false; // as the CPU's quantizers do
    std::function<uint64_t(int64_t columns)> work_of = [](int64_t columns) { return uint64_t(columns) * 16; };
    DeviceQuantizer * quantizer(std::string_view name, const Format & format) override {
        for (const Quantizer * const one : all_quantizers())
            if (quantizes && name == one->name())
                return &quantizers_.try_emplace({std::string(name), &format}, *this, *one, format).first->second;
        return nullptr;
    }
    Status replay(const Recording & recording) override {
        const auto & recorded_here = static_cast<const DeferredRecording &>(recording);
        if (replayed++ % 2 == 1) return recorded_here.launches(); // as a device does that joins recordings
        for (const auto & work : recorded_here.work) push(Queue::compute, work);
        return {};
    }
    int64_t replayed = 0; // so far

  private:
    static constexpr size_t page = 4096;
    struct Queued {
        std::vector<std::function<Status()>> work;
        size_t done = 0;
    };
    struct DeferredRecording final : Recording {
        std::vector<std::function<Status()>> work;
        std::function<Status()> launches;
    };
    // The device's memory can be touched while one of these lives.
    class Open {
      public:
        explicit Open(DeferredDevice & device) : lock_(mutex()), device_(device) {
            if (device_.opened_++ == 0) device_.protect(PROT_READ | PROT_WRITE);
        }
        ~Open() {
            if (--device_.opened_ == 0) device_.protect(PROT_NONE);
        }
        Open(const Open &) = delete;
        Open & operator=(const Open &) = delete;

      private:
        const std::lock_guard<std::recursive_mutex> lock_;
        DeferredDevice & device_;
    };
    class DeferredFence final : public Fence { // any thread may wait
      public:
        DeferredFence(DeferredDevice & device, Queue queue, size_t count)
            : device_(device), queue_(queue), count_(count) {}
        Status wait() override { return device_.wait(queue_, count_, false); }
        void pass() const { // in work of any device
            const Open open(device_);
            device_.run(queue_, count_);
        }

      private:
        DeferredDevice & device_;
        const Queue queue_;
        const size_t count_;
    };
    // A device belongs to one thread at a time; fences are waited for beside it.
    class Use {
      public:
        explicit Use(DeferredDevice & device, bool owns = true) : device_(device), owns_(owns) {
            GNV_CHECK(!owns_ || !device_.in_use_.exchange(true));
            mutex().lock();
        }
        ~Use() {
            mutex().unlock();
            if (owns_) device_.in_use_ = false;
        }
        Use(const Use &) = delete;
        Use & operator=(const Use &) = delete;

      private:
        DeferredDevice & device_;
        const bool owns_;
    };
    // The CPU's quantizer, in the queue.
    class DeferredQuantizer final : public DeviceQuantizer {
      public:
        DeferredQuantizer(DeferredDevice & device, const Quantizer & quantizer, const Format & format)
            : device_(device), quantizer_(quantizer), format_(format) {}
        void measure(std::span<const WeightsToMeasure> weights) override {
            device_.push(Queue::compute, [list = std::vector(weights.begin(), weights.end())] {
                for (const WeightsToMeasure & one : list)
                    *one.largest = std::max<uint32_t>(
                        *one.largest, absolute_maximum_bf16(InstructionSet::portable, one.weights, one.count));
                return Status();
            });
        }
        void pack(std::span<const WeightsToPack> weights) override {
            device_.push(Queue::compute, [this, list = std::vector(weights.begin(), weights.end())]() -> Status {
                for (const WeightsToPack & one : list) GNV_TRY(pack_one(one, {one.scale, nullptr}, nullptr));
                return {};
            });
        }
        uint64_t work_bytes(int64_t columns) const override {
            return quantizer_.needs().empty() ? 0 : device_.work_of(columns);
        }
        Status pack_units(std::span<UnitToPack> units, void *, uint64_t bytes) override {
            for (UnitToPack & unit : units) {
                unit.choices.assign(unit.weights.size(), {});
                GNV_CHECK(work_bytes(unit.weights.front().packed.columns) <= bytes);
                device_.push(Queue::compute, [this, &unit]() -> Status {
                    const int64_t columns = unit.weights.front().packed.columns;
                    const UnitInputs inputs = {columns, statistics_of(unit.own), statistics_of(unit.layer)};
                    GNV_ASSIGN(UnitScale scale, quantizer_.prepare(format_, DType::bf16, {1, true}, inputs));
                    for (size_t i = 0; i < unit.weights.size(); i++) {
                        scale.value = unit.weights[i].scale;
                        GNV_TRY(pack_one(unit.weights[i], scale, &unit.choices[i]));
                    }
                    return {};
                });
            }
            return device_.synchronize();
        }

      private:
        Status pack_one(const WeightsToPack & one, const UnitScale & scale, MethodChoices * choices) const {
            const WeightRows rows = {DType::bf16, one.weights, one.packed.rows, one.packed.columns};
            return quantizer_.pack(InstructionSet::portable, format_, rows, scale, one.packed, nullptr, choices);
        }
        std::vector<UnitStatistic> statistics_of(const InputMoments & moments) const {
            std::vector<UnitStatistic> list;
            const auto needs = quantizer_.needs();
            if (moments.fitted) list.push_back({needs[0], moments.fitted});
            if (moments.held) list.push_back({needs[1], moments.held});
            if (moments.weights) list.push_back({needs[2], moments.weights});
            return list;
        }
        DeferredDevice & device_;
        const Quantizer & quantizer_;
        const Format & format_;
    };
    // Pages without access. Large blocks ask for large pages: all of them are opened and closed for every piece of work.
    static void * map_pages(size_t size) {
        constexpr size_t large = 2 << 20;
        const bool is_large = size >= large / 4;
        const size_t room = is_large ? (size + large - 1) / large * large + large : size;
        void * const all = mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        GNV_CHECK(all != MAP_FAILED);
        if (!is_large) return all;
        auto * const begin = static_cast<uint8_t *>(all);
        const size_t before = (large - reinterpret_cast<uintptr_t>(begin) % large) % large;
        if (before > 0) munmap(begin, before);
        munmap(begin + before + size, room - before - size);
        (void)madvise(begin + before, size, MADV_HUGEPAGE);
        return begin + before;
    }
    void push(Queue queue, std::function<Status()> work) {
        const Use use(*this);
        queues_[size_t(queue)].work.push_back(std::move(work));
        if (eager_copies && queue != Queue::compute) run_open(queue, queues_[size_t(queue)].work.size());
    }
    void push_copy(void * to, const void * from, size_t bytes, Queue queue) {
        push(queue, [=] { return memcpy(to, from, bytes), Status(); });
    }
    Status wait(Queue queue, size_t count, bool owns = true) {
        const Use use(*this, owns);
        run_open(queue, count);
        return copy_of(status_);
    }
    void run_open(Queue queue, size_t count) { // with the device's memory open
        if (queues_[size_t(queue)].done >= count) return;
        const Open open(*this);
        run(queue, count);
    }
    void run(Queue queue, size_t count) { // the first `count` that the queue ever had
        Queued & here = queues_[size_t(queue)];
        while (here.done < count) {
            const std::function<Status()> work = std::move(here.work[here.done++]);
            Status status = status_.ok() ? work() : Status();
            if (status_.ok()) status_ = std::move(status);
        }
    }
    bool idle() const {
        for (const Queued & queue : queues_)
            if (queue.done < queue.work.size()) return false;
        return true;
    }
    void protect(int how) {
        for (const auto & [block, sizes] : blocks_) GNV_CHECK(mprotect(block, sizes.second, how) == 0);
    }

    std::atomic<bool> in_use_ = false;
    static std::recursive_mutex & mutex() { // of all devices: work of one may be work of another
        static std::recursive_mutex all;
        return all;
    }
    int opened_ = 0;
    std::map<std::pair<std::string, const Format *>, DeferredQuantizer> quantizers_;
    std::unique_ptr<Backend> cpu_;
    Device device_;
    std::map<void *, std::pair<size_t, size_t>> blocks_; // asked for, mapped
    std::map<void *, size_t> host_blocks_;
    Queued queues_[size_t(Queue::count_)];
    Status status_; // the first failure
    uint64_t used_ = 0, peak_ = 0, host_used_ = 0, host_peak_ = 0;
};

// Devices that run side by side need threads of their own.
struct OwnThreads {
    std::unique_ptr<ThreadPool> own_threads = ThreadPool::create(1).take();
};
struct DeferredAlone : OwnThreads, DeferredDevice {
    explicit DeferredAlone(int index) : DeferredDevice(*own_threads, index) { quantizes = true; }
};
inline OpenDevice open_deferred(int index) {
    return [index](ThreadPool &) -> Result<std::unique_ptr<Backend>> {
        return std::unique_ptr<Backend>(std::make_unique<DeferredAlone>(index));
    };
}

} // namespace gnv::test
