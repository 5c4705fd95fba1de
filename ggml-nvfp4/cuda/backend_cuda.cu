#include "cuda/gemm_lt.h"
#include "cuda/kernels.cuh"
#include "cuda/nvfp4_pack.cuh"
#include "exec/backend.h"

namespace gnv {

// "13.0", from CUDA's 13000
static std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

static Status cuda_failure(cudaError_t error, const std::string & action) {
    const Code code = error == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::device;
    return fail(code, action, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

// 0 where there is no driver or no device.
static Result<int> device_count() {
    int driver = 0, runtime = 0, count = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess) return count;
    (void)cudaGetLastError(); // it is told here; later calls shall not meet it again
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

class CudaBackend final : public Backend {
  public:
    CudaBackend(Device device, cudaStream_t stream, int processors)
        : device_(std::move(device)), stream_(stream), processors_(processors) {}
    ~CudaBackend() override {
        (void)cudaSetDevice(device_.index);
        (void)cudaStreamDestroy(stream_);
    }

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

    void free(void * memory) override { (void)cudaFree(memory); }
    Result<HostMemory> allocate_host(size_t bytes) override {
        void * memory = nullptr;
        const cudaError_t error = cudaHostAlloc(&memory, std::max<size_t>(bytes, 1), cudaHostAllocDefault);
        if (error == cudaSuccess) return HostMemory(memory, HostMemoryDelete{this});
        (void)cudaGetLastError();
        return cuda_failure(error, concat("cannot allocate ", bytes_text(bytes), " of pinned host memory"));
    }
    void free_host(void * memory) override { (void)cudaFreeHost(memory); }
    Result<uint64_t> free_bytes() override {
        size_t available = 0, total = 0;
        cudaError_t error = cudaSetDevice(device_.index);
        if (error == cudaSuccess) error = cudaMemGetInfo(&available, &total);
        if (error != cudaSuccess) return cuda_failure(error, concat("cannot inspect CUDA device ", device_.index));
        return uint64_t(available);
    }

    void upload(void * target, const void * host, size_t bytes) override {
        enqueue("upload", [&] { return cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, stream_); });
    }
    void download(void * host, const void * source, size_t bytes) override {
        enqueue("download", [&] { return cudaMemcpyAsync(host, source, bytes, cudaMemcpyDeviceToHost, stream_); });
    }
    void copy(void * target, const void * source, size_t bytes) override {
        enqueue("copy", [&] { return cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, stream_); });
    }
    void clear(void * target, size_t bytes) override {
        enqueue("clear", [&] { return cudaMemsetAsync(target, 0, bytes, stream_); });
    }
    Status synchronize() override {
        enqueue("synchronize", [&] { return cudaStreamSynchronize(stream_); });
        if (error_ == cudaSuccess) return {};
        return cuda_failure(error_, concat("CUDA device ", device_.index, " (", device_.name, "): ", failed_));
    }

    DType activation_dtype() const override { return DType::bf16; }
    Status supports(const KernelCall & call) const override {
        const cuda::CudaEntry & entry = cuda::kernel(op_of(call.params));
        if (!entry.run) return Status(Code::unsupported, "there is no kernel");
        return entry.supports ? entry.supports(call) : Status();
    }
    uint64_t scratch_bytes(const KernelCall & call) const override {
        const cuda::CudaEntry & entry = cuda::kernel(op_of(call.params));
        return entry.scratch_bytes ? entry.scratch_bytes(call) : 0;
    }
    Status launch(KernelCall & call) override {
        if (error_ != cudaSuccess) return synchronize();
        if (!gemm_) {
            GNV_ASSIGN(gemm_, cuda::GemmLt::load());
            context_ = {stream_, gemm_.get(), processors_};
        }
        enqueue("launch", [] { return cudaSuccess; }); // selects the device
        return cuda::kernel(op_of(call.params)).run(context_, call).add_context(device_.name);
    }

    void nvfp4_absolute_maximum(const uint16_t * weights, int64_t count, uint32_t * largest) override {
        enqueue("nvfp4_absolute_maximum",
                [&] { return cuda::nvfp4_absolute_maximum(stream_, weights, count, largest); });
    }
    void nvfp4_pack(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes,
                    uint8_t * scales) override {
        enqueue("nvfp4_pack", [&] { return cuda::nvfp4_pack(stream_, weights, blocks, global, codes, scales); });
    }

  private:
    template <class Call>
    void enqueue(const char * name, const Call & call) {
        if (error_ != cudaSuccess) return;
        error_ = cudaSetDevice(device_.index); // the current device belongs to the thread, not to this object
        if (error_ == cudaSuccess) error_ = call();
        if (error_ != cudaSuccess) failed_ = name;
    }

    Device device_;
    cudaStream_t stream_;
    int processors_;
    std::unique_ptr<cuda::GemmLt> gemm_; // loaded by the first op
    cuda::CudaContext context_;
    cudaError_t error_ = cudaSuccess; // the first
    const char * failed_ = "";        // what was called then
};

} // namespace

Result<std::unique_ptr<Backend>> open_cuda(int index) {
    GNV_ASSIGN(const int count, device_count());
    if (index < 0 || index >= count)
        return fail(Code::not_found, "CUDA device ", index, " does not exist: this machine has ", count);
    GNV_ASSIGN(Device device, describe_device(index));
    cudaStream_t stream = nullptr;
    cudaError_t error = cudaSetDevice(index);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) return cuda_failure(error, concat("cannot use CUDA device ", index));
    int processors = 0;
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
    if (error != cudaSuccess) return cuda_failure(error, concat("cannot inspect CUDA device ", index));
    return std::unique_ptr<Backend>(new CudaBackend(std::move(device), stream, processors));
}

} // namespace gnv
