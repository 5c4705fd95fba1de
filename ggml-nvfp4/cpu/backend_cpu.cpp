#include "core/memory.h"
#include "cpu/compact_bf16.h"
#include "cpu/fusions.h"
#include "cpu/kernels.h"
#include "cpu/loops.h"
#include "exec/backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <sys/mman.h>

namespace gnv {

namespace {

constexpr size_t huge_page = 2 << 20;

class NoFence final : public Fence {
  public:
    Status wait() override { return {}; }
};

// Any format of the table, rounded to nearest.
class CpuQuantizer final : public DeviceQuantizer {
  public:
    CpuQuantizer(const Format & format, InstructionSet set) : format_(format), set_(set) {}
    void measure(std::span<const WeightsToMeasure> weights) override {
        for (const WeightsToMeasure & one : weights)
            *one.largest = std::max<uint32_t>(*one.largest, absolute_maximum_bf16(set_, one.weights, one.count));
    }
    void pack(std::span<const WeightsToPack> weights) override {
        for (const WeightsToPack & one : weights)
            format_.pack(set_, {DType::bf16, one.weights, one.packed.rows, one.packed.columns}, one.scale, one.packed);
    }

  private:
    const Format & format_;
    const InstructionSet set_;
};

class CpuBackend final : public Backend {
  public:
    explicit CpuBackend(ThreadPool & threads) : threads_(threads) {
        device_.kind = DeviceKind::cpu;
        device_.name = concat("CPU (", cpu::loops(threads_.instructions()).name, ")");
    }

    const Device & device() const override { return device_; }

    Result<DeviceMemory> allocate(size_t bytes) override {
        // Weights are read once for each token, and rows of activations lie far apart: with pages of 4 KB the processor would
        // look up many of them.
        const bool is_large = bytes >= 2 * huge_page;
        const size_t size =
            is_large ? bytes / huge_page * huge_page + huge_page : device_aligned(std::max<size_t>(bytes, 1));
        void * const memory = std::aligned_alloc(is_large ? huge_page : device_alignment, size);
        if (!memory) return fail(Code::out_of_memory, "cannot allocate ", bytes_text(bytes), " of memory");
#ifdef MADV_HUGEPAGE
        if (is_large) (void)madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE); // a wish
#endif
        return DeviceMemory(memory, {this});
    }
    void free(void * memory) override { std::free(memory); }
    Result<HostMemory> allocate_host(size_t bytes) override {
        GNV_ASSIGN(DeviceMemory memory, allocate(bytes));
        return HostMemory(memory.release(), {this});
    }
    void free_host(void * memory) override { std::free(memory); }
    bool reads_host() const override { return true; }
    Result<uint64_t> free_bytes() override { return available_memory(); }
    bool runs_as_steps() const override { return true; }

    void upload(void * device, const void * host, size_t bytes, Queue) override {
        const Span span(trace_, "compute", "upload", {0, double(bytes)});
        memcpy(device, host, bytes);
    }
    void download(void * host, const void * device, size_t bytes, Queue) override {
        const Span span(trace_, "compute", "download", {0, double(bytes)});
        memcpy(host, device, bytes);
    }
    void copy(void * to, const void * from, size_t bytes) override { memcpy(to, from, bytes); }
    void clear(void * device, size_t bytes) override { memset(device, 0, bytes); }
    void order(Queue, Queue) override {}
    std::unique_ptr<Fence> fence(Queue) override { return std::make_unique<NoFence>(); }
    Status synchronize(Queue) override { return {}; }

    bool arranges_weights() const override { return true; }
    Status arrange(Tensor & weight) override { return cpu::make_compact(weight, threads_); }

    void set_trace(Trace * trace) override { trace_ = trace; }
    Trace * trace() const override { return trace_; }
    void begin_span(const char * name, const Work & work) override {
        span_name_ = name;
        span_work_ = work;
        if (trace_) span_begin_ = Clock::now();
    }
    void end_span() override {
        if (!trace_) return;
        const std::chrono::duration<double> seconds = Clock::now() - span_begin_;
        trace_->add({"compute", {}}, span_name_, span_begin_, seconds.count(), span_work_);
    }

    DType activation_dtype() const override { return DType::f32; }
    Status supports(const KernelCall & call) const override {
        return supports_call(cpu::kernel(op_of(call.params)), call);
    }
    uint64_t scratch_bytes(const KernelCall & call) const override {
        const KernelEntry & entry = cpu::kernel(op_of(call.params));
        if (!entry.scratch_bytes) return 0;
        KernelCall with_threads = call;
        with_threads.threads = &threads_;
        return entry.scratch_bytes(with_threads);
    }
    Status launch(KernelCall & call) override {
        call.threads = &threads_;
        return cpu::kernel(op_of(call.params)).run(call);
    }
    Fusion fusion(const Graph & graph, size_t first) const override { return cpu::fusion(graph, first); }
    Status launch(const FusedKernel & kernel, std::span<KernelCall> calls) override {
        for (KernelCall & call : calls) call.threads = &threads_;
        return kernel.run(calls);
    }

    DeviceQuantizer * quantizer(std::string_view name, const Format & format) override {
        if (name != round_to_nearest_name) return nullptr;
        return &quantizers_.try_emplace(&format, format, threads_.instructions()).first->second;
    }

  private:
    ThreadPool & threads_;
    Device device_;
    Trace * trace_ = nullptr;
    const char * span_name_ = ""; // of the open span
    Work span_work_;
    Clock::time_point span_begin_;
    std::map<const Format *, CpuQuantizer> quantizers_;
};

} // namespace

std::unique_ptr<Backend> open_cpu(ThreadPool & threads) { return std::make_unique<CpuBackend>(threads); }

} // namespace gnv
