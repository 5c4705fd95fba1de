#include "core/memory.h"
#include "cpu/kernels.h"
#include "cpu/nvfp4_pack.h"
#include "exec/backend.h"
#include "formats/nvfp4.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace gnv {

namespace {

class CpuBackend final : public Backend {
  public:
    explicit CpuBackend(ThreadPool & threads) : threads_(threads) {
        device_.kind = DeviceKind::cpu;
        device_.name = concat("CPU (", cpu::loops().name, ")");
    }

    const Device & device() const override { return device_; }

    Result<DeviceMemory> allocate(size_t bytes) override {
        constexpr size_t alignment = 256;
        void * const memory =
            std::aligned_alloc(alignment, (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment);
        if (!memory) return fail(Code::out_of_memory, "cannot allocate ", bytes_text(bytes), " of memory");
        return DeviceMemory(memory, {this});
    }
    void free(void * memory) override { std::free(memory); }
    Result<HostMemory> allocate_host(size_t bytes) override {
        GNV_ASSIGN(DeviceMemory memory, allocate(bytes));
        return HostMemory(memory.release(), {this});
    }
    void free_host(void * memory) override { std::free(memory); }
    Result<uint64_t> free_bytes() override { return available_memory(); }

    void upload(void * device, const void * host, size_t bytes) override { memcpy(device, host, bytes); }
    void download(void * host, const void * device, size_t bytes) override { memcpy(host, device, bytes); }
    void copy(void * to, const void * from, size_t bytes) override { memcpy(to, from, bytes); }
    void clear(void * device, size_t bytes) override { memset(device, 0, bytes); }
    Status synchronize() override { return {}; }

    DType activation_dtype() const override { return DType::f32; }
    Status supports(const KernelCall & call) const override {
        if (cpu::kernel(op_of(call.params)).run) return {};
        return Status(Code::unsupported, "there is no kernel");
    }
    uint64_t scratch_bytes(const KernelCall & call) const override {
        const KernelEntry & entry = cpu::kernel(op_of(call.params));
        return entry.scratch_bytes ? entry.scratch_bytes(call, threads_.size()) : 0;
    }
    Status launch(KernelCall & call) override {
        call.threads = &threads_;
        return cpu::kernel(op_of(call.params)).run(call);
    }

    void nvfp4_absolute_maximum(const uint16_t * weights, int64_t count, uint32_t * largest) override {
        *largest = std::max<uint32_t>(*largest, cpu::nvfp4_best().absolute_maximum_bf16(weights, count));
    }
    void nvfp4_pack(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes,
                    uint8_t * scales) override {
        nvfp4::Weight out;
        out.rows = 1;
        out.columns = blocks * nvfp4::block_size;
        out.codes = {codes, nvfp4::code_bytes(out.layout, 1, out.columns)};
        out.scales = {scales, nvfp4::scale_bytes(out.layout, 1, out.columns)};
        out.global_scale = global;
        cpu::nvfp4_best().quantize_bf16(weights, out);
    }

  private:
    ThreadPool & threads_;
    Device device_;
};

} // namespace

std::unique_ptr<Backend> open_cpu(ThreadPool & threads) { return std::make_unique<CpuBackend>(threads); }

} // namespace gnv
