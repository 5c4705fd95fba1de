#include "cuda/fusions.cuh"
#include "cuda/gemm_lt.h"
#include "cuda/kernels.cuh"
#include "cuda/moment_pack.cuh"
#include "cuda/nvfp4_pack.cuh"
#include "cuda/pinned_memory.h"
#include "cuda/queue_times.h"
#include "cuda/recordings.h"
#include "exec/backend.h"
#include "exec/nvidia_driver.h"

#include <array>
#include <nvtx3/nvToolsExt.h>

namespace gnv {

// "13.0", from CUDA's 13000
static std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

static Status cuda_failure(cudaError_t error, const std::string & action) {
    const Code code = error == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::device;
    return fail(code, action, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

// 0 without a driver or a device.
static Result<int> device_count() {
    int driver = 0, runtime = 0, count = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        if (const std::string trace = find_nvidia_driver(); !trace.empty())
            return fail(Code::device, "this machine has NVIDIA's driver (", trace,
                        "), and its library libcuda.so.1 was not found or does not start");
        return 0;
    }
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess) return count;
    (void)cudaGetLastError(); // reported here: later calls must not see it again
    if (error == cudaErrorNoDevice) return 0;
    if (error == cudaErrorInsufficientDriver && cudaRuntimeGetVersion(&runtime) == cudaSuccess)
        return fail(Code::device, "the NVIDIA driver supports CUDA ", version_text(driver), ", this library needs ",
                    version_text(runtime), ": update the driver");
    return cuda_failure(error, "cannot list CUDA devices");
}

static Result<Device> describe_device(int index) {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess) return cuda_failure(error, concat("cannot inspect CUDA device ", index));
    Device device;
    device.kind = DeviceKind::cuda;
    device.index = index;
    device.name = properties.name;
    device.memory_bytes = properties.totalGlobalMem;
    device.compute_major = properties.major;
    device.compute_minor = properties.minor;
    return device;
}

Result<std::vector<Device>> cuda_devices() {
    GNV_ASSIGN(const int count, device_count());
    std::vector<Device> devices;
    for (int index = 0; index < count; index++) {
        GNV_ASSIGN(Device device, describe_device(index));
        devices.push_back(std::move(device));
    }
    return devices;
}

namespace {

#ifdef GNV_HAVE_HOPPER
constexpr bool have_hopper = true;
#else
constexpr bool have_hopper = false;
#endif

using Streams = std::array<cudaStream_t, size_t(Queue::count_)>;

// Destroys the streams that exist.
struct StreamOwner {
    Streams streams = {};
    StreamOwner() = default;
    ~StreamOwner() {
        for (const cudaStream_t stream : streams)
            if (stream) (void)cudaStreamDestroy(stream);
    }
    StreamOwner(const StreamOwner &) = delete;
    StreamOwner & operator=(const StreamOwner &) = delete;
};

class CudaFence final : public Fence {
  public:
    CudaFence(int device, const std::string & device_name) : device_(device), device_name_(device_name) {}
    ~CudaFence() override {
        if (event_) (void)cudaEventDestroy(event_);
    }
    cudaError_t record(cudaStream_t stream) {
        const cudaError_t error = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync);
        return error == cudaSuccess ? cudaEventRecord(event_, stream) : error;
    }
    void fail_with(Status failure) { std::swap(failure_, failure); } // of an entry before it
    const Status & failure() const { return failure_; }
    cudaEvent_t event() const { return event_; }
    Status wait() override {
        if (!failure_.ok()) return copy_of(failure_);
        cudaError_t error = cudaSetDevice(device_);
        if (error == cudaSuccess) error = cudaEventSynchronize(event_);
        if (error == cudaSuccess) return {};
        return cuda_failure(error, concat("CUDA device ", device_, " (", device_name_, "): waiting for a copy"));
    }

  private:
    const int device_;
    const std::string device_name_;
    cudaEvent_t event_ = nullptr;
    Status failure_;
};

class CudaBackend;

// The kernels of one quantizer, to NVFP4.
class CudaQuantizer : public DeviceQuantizer {
  public:
    enum class Method : uint8_t { nearest, least_squares, local_hessian, gptq };
    CudaQuantizer(CudaBackend & backend, Method method) : backend_(backend), method_(method) {}
    void measure(std::span<const WeightsToMeasure> weights) override;
    void pack(std::span<const WeightsToPack> weights) override;
    uint64_t work_bytes(int64_t columns) const override {
        return method_ < Method::local_hessian ? 0 : cuda::moment_work_bytes(columns, method_ == Method::gptq);
    }
    Status pack_units(std::span<UnitToPack> units, void * work, uint64_t bytes) override;

  private:
    CudaBackend & backend_;
    const Method method_;
};

class CudaBackend final : public Backend {
  public:
    CudaBackend(Device device, std::unique_ptr<StreamOwner> streams, int processors, int most_shared_bytes)
        : device_(std::move(device)), streams_(std::move(streams)), processors_(processors),
          most_shared_bytes_(most_shared_bytes) {}
    ~CudaBackend() override { (void)cudaSetDevice(device_.index); } // for the destructors of members

    const Device & device() const override { return device_; }

    Result<DeviceMemory> allocate(size_t bytes) override {
        void * memory = nullptr;
        cudaError_t error = cudaSetDevice(device_.index);
        if (error == cudaSuccess) error = cudaMalloc(&memory, bytes);
        if (error != cudaSuccess) {
            (void)cudaGetLastError();
            return cuda_failure(error,
                                concat("cannot allocate ", bytes_text(bytes), " on CUDA device ", device_.index));
        }
        return DeviceMemory(memory, DeviceMemoryDelete{this});
    }

    void free(void * memory) override {
        enqueue("free", [] { return cudaSuccess; }); // behind replays that wait
        (void)cudaFree(memory);
    }
    Result<HostMemory> allocate_host(size_t bytes) override {
        cudaError_t error = cudaSetDevice(device_.index);
        void * memory = error == cudaSuccess ? pinned_.allocate(bytes) : nullptr;
        if (error == cudaSuccess && !memory)
            error = cudaHostAlloc(&memory, std::max<size_t>(bytes, 1), cudaHostAllocPortable | cudaHostAllocMapped);
        if (error == cudaSuccess) return HostMemory(memory, HostMemoryDelete{this});
        (void)cudaGetLastError();
        return cuda_failure(error, concat("cannot allocate ", bytes_text(bytes), " of pinned host memory"));
    }
    void free_host(void * memory) override {
        (void)cudaSetDevice(device_.index);
        if (!pinned_.free(memory)) (void)cudaFreeHost(memory);
    }
    bool reads_host() const override {
        for (const cudaDeviceAttr needed : {cudaDevAttrUnifiedAddressing, cudaDevAttrCanMapHostMemory,
                                            cudaDevAttrCanUseHostPointerForRegisteredMem}) {
            int has = 0;
            if (cudaDeviceGetAttribute(&has, needed, device_.index) != cudaSuccess || !has) {
                (void)cudaGetLastError();
                return false;
            }
        }
        return true;
    }
    Result<uint64_t> free_bytes() override {
        size_t available = 0, total = 0;
        cudaError_t error = cudaSetDevice(device_.index);
        if (error == cudaSuccess) error = cudaMemGetInfo(&available, &total);
        if (error != cudaSuccess) return cuda_failure(error, concat("cannot inspect CUDA device ", device_.index));
        return uint64_t(available);
    }

    void upload(void * target, const void * host, size_t bytes, Queue queue) override {
        measured("upload", queue, bytes,
                 [&](cudaStream_t s) { return cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, s); });
    }
    void download(void * host, const void * source, size_t bytes, Queue queue) override {
        measured("download", queue, bytes,
                 [&](cudaStream_t s) { return cudaMemcpyAsync(host, source, bytes, cudaMemcpyDeviceToHost, s); });
    }
    void copy(void * to, const void * from, size_t bytes) override {
        measured("copy", Queue::compute, 2 * bytes,
                 [&](cudaStream_t s) { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, s); });
    }
    void clear(void * target, size_t bytes) override {
        enqueue("clear", [&] { return cudaMemsetAsync(target, 0, bytes, stream(Queue::compute)); });
    }
    void order(Queue earlier, Queue later) override {
        enqueue("order", [&] {
            cudaEvent_t & event = order_event_.event;
            cudaError_t error = event ? cudaSuccess : cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
            if (error == cudaSuccess) error = cudaEventRecord(event, stream(earlier));
            return error == cudaSuccess ? cudaStreamWaitEvent(stream(later), event, 0) : error;
        });
    }
    std::unique_ptr<Fence> fence(Queue queue) override {
        auto fence = std::make_unique<CudaFence>(device_.index, device_.name);
        enqueue("fence", [&] { return fence->record(stream(queue)); });
        if (!failure_.ok()) fence->fail_with(copy_of(failure_));
        return fence;
    }
    Status synchronize(Queue queue) override {
        const Span span(trace_, "host", "wait for the device");
        enqueue("synchronize", [&] { return cudaStreamSynchronize(stream(queue)); });
        if (failure_.ok()) times_[size_t(queue)].read_all();
        return copy_of(failure_);
    }

    bool reaches(const Backend & other) override {
        if (other.device().kind != DeviceKind::cuda || other.device().index == device_.index) return false;
        return connect(device_.index, other.device().index) && connect(other.device().index, device_.index);
    }
    // An entry before a fence that failed never ran: what comes after it must not, either.
    void wait(Queue later, const Fence & fence) override {
        const auto & there = static_cast<const CudaFence &>(fence);
        if (failure_.ok() && !there.failure().ok()) keep(copy_of(there.failure()));
        enqueue("wait", [&] { return cudaStreamWaitEvent(stream(later), there.event(), 0); });
    }
    void copy_from(Backend & other, void * to, const void * from, size_t bytes, Queue queue) override {
        if (other.device().kind != DeviceKind::cuda) return Backend::copy_from(other, to, from, bytes, queue);
        measured("copy from another device", queue, bytes, [&](cudaStream_t s) {
            return cudaMemcpyPeerAsync(to, device_.index, from, other.device().index, bytes, s);
        });
    }

    void set_trace(Trace * trace) override {
        trace_ = nullptr;
        for (size_t queue = 0; queue < times_.size(); queue++) {
            (void)synchronize(Queue(queue)); // a failure stays until the next call reports it
            times_[queue].stop();
            if (trace) enqueue("set_trace", [&] { return times_[queue].start(trace); });
        }
        trace_ = trace;
    }
    Trace * trace() const override { return trace_; }
    void begin_span(const char * name, const Work & work) override {
        (void)nvtxRangePushA(name);
        if (trace_) enqueue("begin_span", [&] { return times_[size_t(Queue::compute)].begin(name, work); });
    }
    void end_span() override {
        if (trace_) enqueue("end_span", [&] { return times_[size_t(Queue::compute)].end(); });
        (void)nvtxRangePop();
    }
    void begin_range(const char * name) override { (void)nvtxRangePushA(name); }
    void end_range() override { (void)nvtxRangePop(); }

    DType activation_dtype() const override { return DType::bf16; }
    bool runs_as_steps() const override { return true; }
    bool joins_expert_inputs() const override { return is_hopper(); }
    Status add_screening(ScreeningCounts & counts) override {
        if (!context_.screened) return copy_of(failure_);
        ScreeningCounts own;
        download(&own, context_.screened, sizeof own, Queue::compute);
        GNV_TRY(synchronize(Queue::compute));
        counts += own;
        return {};
    }
    Status supports(const KernelCall & call) const override {
        return supports_call(cuda::kernel(op_of(call.params)), call);
    }
    uint64_t scratch_bytes(const KernelCall & call) const override {
        const KernelEntry & entry = cuda::kernel(op_of(call.params));
        return entry.scratch_bytes ? entry.scratch_bytes(call) : 0;
    }
    Status launch(KernelCall & call) override {
        enqueue("launch", [] { return cudaSuccess; }); // selects the device, where the library allocates
        if (failure_.ok()) keep(run(call).add_context(device_.name));
        return copy_of(failure_);
    }

    Fusion fusion(const Graph & graph, size_t first) const override { return cuda::fusion(graph, first); }
    Status launch(const FusedKernel & kernel, std::span<KernelCall> calls) override {
        enqueue("launch", [] { return cudaSuccess; });
        if (failure_.ok()) keep(run(kernel, calls).add_context(device_.name));
        return copy_of(failure_);
    }

    // Events that time single ops would become a part of the recording, and the library of products allocates memory
    // when it is loaded, which a capture does not allow.
    bool can_record() const override { return failure_.ok() && !trace_ && gemm_; }
    std::unique_ptr<Recording> record(std::function<Status()> launches) override {
        enqueue("record", [] { return cudaSuccess; }); // behind replays that wait
        return failure_.ok() ? recordings_.record(std::move(launches)) : nullptr;
    }
    Status replay(const Recording & recording) override {
        if (!failure_.ok()) return copy_of(failure_);
        cudaError_t error = cudaSetDevice(device_.index);
        if (error == cudaSuccess) error = recordings_.replay(recording, stream(Queue::compute));
        check("replay", error);
        return copy_of(failure_);
    }

    DeviceQuantizer * quantizer(std::string_view name, const Format & format) override {
        constexpr std::string_view names[] = {round_to_nearest_name, "mse", "hessian", "gptq"}; // CudaQuantizer::Method
        for (size_t method = 0; method < quantizers_.size(); method++)
            if (name == names[method] && format.codec == std::string_view("nvfp4")) return &quantizers_[method];
        return nullptr;
    }

  private:
    friend class CudaQuantizer;
    // Lets device `from` read the memory of device `to`.
    static bool connect(int from, int to) {
        int can = 0;
        cudaError_t error = cudaDeviceCanAccessPeer(&can, from, to);
        if (error == cudaSuccess && can) error = cudaSetDevice(from);
        if (error == cudaSuccess && can) error = cudaDeviceEnablePeerAccess(to, 0);
        if (error == cudaErrorPeerAccessAlreadyEnabled) error = cudaSuccess;
        (void)cudaGetLastError(); // later calls must not see it
        return error == cudaSuccess && can;
    }
    bool is_hopper() const { return have_hopper && device_.compute_major == 9; }
    Status load() {
        if (gemm_) return {};
        GNV_ASSIGN(gemm_, cuda::GemmLt::load());
        context_.stream = stream(Queue::compute);
        context_.gemm = gemm_.get();
        context_.processors = processors_;
        context_.most_shared_bytes = most_shared_bytes_;
        context_.chains = device_.compute_major >= 9;
        context_.hopper = is_hopper();
        if (!context_.hopper) return {};
        GNV_ASSIGN(screened_, allocate(sizeof(ScreeningCounts)));
        context_.screened = static_cast<ScreeningCounts *>(screened_.get());
        clear(context_.screened, sizeof(ScreeningCounts));
        GNV_ASSIGN(made_, allocate(sizeof(uint32_t)));
        context_.made = static_cast<uint32_t *>(made_.get());
        clear(context_.made, sizeof(uint32_t));
        return copy_of(failure_);
    }
    // Null if the launches can't be recorded. Nothing was executed then: launched without a capture, the same ops succeed or report
    // the failure.
    cudaGraphExec_t capture(const std::function<Status()> & launches) {
        const cudaStream_t queue = stream(Queue::compute);
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t executable = nullptr;
        // Other threads may allocate and copy meanwhile.
        cudaError_t error = cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal);
        if (error == cudaSuccess) {
            const Status launched = launches();
            error = cudaStreamEndCapture(queue, &graph);
            if (error == cudaSuccess && launched.ok()) error = cudaGraphInstantiate(&executable, graph, 0);
            if (graph) (void)cudaGraphDestroy(graph);
            if (error == cudaSuccess && executable) return executable;
            keep({});
        }
        (void)cudaGetLastError();
        return nullptr;
    }
    Status run(KernelCall & call) {
        GNV_TRY(load());
        call.context = &context_;
        return cuda::kernel(op_of(call.params)).run(call);
    }
    Status run(const FusedKernel & kernel, std::span<KernelCall> calls) {
        GNV_TRY(load());
        for (KernelCall & call : calls) call.context = &context_;
        return kernel.run(calls);
    }

    template <class Call>
    void enqueue(const char * name, const Call & call) {
        if (!failure_.ok()) return;
        // The current device belongs to the thread, not to this object.
        cudaError_t error = cudaSetDevice(device_.index);
        if (error == cudaSuccess) error = recordings_.flush();
        if (error == cudaSuccess) error = call();
        check(name, error);
    }
    void check(const char * name, cudaError_t error) {
        if (error == cudaSuccess) return;
        (void)cudaGetLastError(); // kept here: other devices of this thread must not see it
        keep(cuda_failure(error, concat("CUDA device ", device_.index, " (", device_.name, "): ", name)));
    }
    void keep(Status failure) { std::swap(failure_, failure); }

    // One call as one span of its queue.
    template <class Call>
    void measured(const char * name, Queue queue, size_t bytes, const Call & call) {
        enqueue(name, [&] {
            cuda::QueueTimes & times = times_[size_t(queue)];
            cudaError_t error = times.begin(name, {0, double(bytes)});
            if (error == cudaSuccess) error = call(stream(queue));
            return error == cudaSuccess ? times.end() : error;
        });
    }
    cudaStream_t stream(Queue queue) const { return streams_->streams[size_t(queue)]; }

    struct Event {
        cudaEvent_t event = nullptr;
        ~Event() {
            if (event) (void)cudaEventDestroy(event);
        }
    };

    Device device_;
    std::unique_ptr<StreamOwner> streams_;
    std::array<cuda::QueueTimes, size_t(Queue::count_)> times_ = {
        {{stream(Queue::compute), {"compute", {}, device_.index}},
         {stream(Queue::upload), {"upload", {}, device_.index}},
         {stream(Queue::download), {"download", {}, device_.index}}}};
    Event order_event_;
    cuda::PinnedBlocks pinned_; // the large ones
    Trace * trace_ = nullptr;
    int processors_, most_shared_bytes_;
    std::unique_ptr<cuda::GemmLt> gemm_; // loaded by the first op
    DeviceMemory screened_, made_;       // of context_
    cuda::CudaContext context_;
    Status failure_; // the first
    cuda::Recordings recordings_ = {device_.index,
                                    [this](const std::function<Status()> & launches) { return capture(launches); }};
    std::array<CudaQuantizer, 4> quantizers_ = {{{*this, CudaQuantizer::Method::nearest},
                                                 {*this, CudaQuantizer::Method::least_squares},
                                                 {*this, CudaQuantizer::Method::local_hessian},
                                                 {*this, CudaQuantizer::Method::gptq}}};
};

void CudaQuantizer::measure(std::span<const WeightsToMeasure> weights) {
    backend_.enqueue("nvfp4_absolute_maximum", [&] {
        return cuda::nvfp4_absolute_maximum(backend_.stream(Queue::compute), backend_.processors_, weights);
    });
}

void CudaQuantizer::pack(std::span<const WeightsToPack> weights) {
    GNV_CHECK(method_ < Method::local_hessian);
    const auto kernel = method_ == Method::nearest ? cuda::nvfp4_pack : cuda::nvfp4_pack_least_squares;
    backend_.enqueue("nvfp4_pack",
                     [&] { return kernel(backend_.stream(Queue::compute), backend_.processors_, weights); });
}

Status CudaQuantizer::pack_units(std::span<UnitToPack> units, void * work, uint64_t bytes) {
    backend_.enqueue("nvfp4_pack_by_moments", [&] {
        return cuda::nvfp4_pack_by_moments(backend_.stream(Queue::compute), backend_.processors_,
                                           method_ == Method::gptq, units, work, bytes);
    });
    return copy_of(backend_.failure_);
}

} // namespace

Result<std::unique_ptr<Backend>> open_cuda(int index) {
    GNV_ASSIGN(const int count, device_count());
    if (index < 0 || index >= count)
        return fail(Code::not_found, "CUDA device ", index, " does not exist: this machine has ", count);
    GNV_ASSIGN(Device device, describe_device(index));
    auto streams = std::make_unique<StreamOwner>();
    cudaError_t error = cudaSetDevice(index);
    for (cudaStream_t & stream : streams->streams)
        if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) return cuda_failure(error, concat("cannot use CUDA device ", index));
    int processors = 0, most_shared_bytes = 0;
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&most_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
    if (error != cudaSuccess) return cuda_failure(error, concat("cannot inspect CUDA device ", index));
    return std::unique_ptr<Backend>(
        new CudaBackend(std::move(device), std::move(streams), processors, most_shared_bytes));
}

} // namespace gnv
