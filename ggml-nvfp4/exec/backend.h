// The boundary between the library and devices: their list, their memory, their queues, and the ops that they run. All
// other code uses this interface; cpu/ and cuda/ implement it, and cuda/ is the only folder that includes CUDA headers.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "core/trace.h"
#include "exec/device_quantizer.h"
#include "exec/kernel.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

enum class DeviceKind : uint8_t { cpu, cuda };

struct Device {
    DeviceKind kind = DeviceKind::cpu;
    int index = 0; // among the devices of its kind
    std::string name;
    uint64_t memory_bytes = 0;
    int compute_major = 0, compute_minor = 0; // CUDA compute capability

    bool has_own_memory() const { return kind != DeviceKind::cpu; } // else it is the host's
    // For messages that must tell devices of one model apart: "NVIDIA H100 80GB HBM3 (cuda:1)".
    std::string label() const { return has_own_memory() ? concat(name, " (cuda:", index, ")") : name; }
};

// Device memory that the driver and libraries take for themselves; every budget of device memory includes it.
inline constexpr uint64_t device_context_bytes = 640 << 20; // 576 on an H200

// Alignment in bytes of the blocks of memory that a backend gives, and of everything that is laid out in them.
inline constexpr uint64_t device_alignment = 256;
constexpr uint64_t device_aligned(uint64_t bytes) {
    return (bytes + device_alignment - 1) / device_alignment * device_alignment;
}

class Backend;
struct DeviceMemoryDelete {
    Backend * backend = nullptr;
    void operator()(void * memory) const;
};
// Memory of a device, aligned to device_alignment; must go before its backend does.
using DeviceMemory = std::unique_ptr<void, DeviceMemoryDelete>;

struct HostMemoryDelete {
    Backend * backend = nullptr;
    void operator()(void * memory) const;
};
using HostMemory = std::unique_ptr<void, HostMemoryDelete>; // as DeviceMemory

// A device has one queue for work and one for copies in each direction. The entries of one queue run in order; entries
// of different queues are ordered by order() alone.
enum class Queue : uint8_t { compute, upload, download, count_ };

// A point of a queue, for other threads to wait for.
class Fence {
  public:
    virtual ~Fence() = default;
    virtual Status wait() = 0; // until everything before it is done; any thread
};

// Recorded launches; must go before its backend does.
class Recording {
  public:
    virtual ~Recording() = default;
};

// One device. After the first failure nothing more is queued, and synchronize() returns that failure. Belongs to one
// thread at a time, fences aside.
class Backend {
  public:
    virtual ~Backend() = default;
    virtual const Device & device() const = 0;

    virtual Result<DeviceMemory> allocate(size_t bytes) = 0;
    virtual void free(void * memory) = 0; // DeviceMemory calls it
    // Host memory from which copies run at full speed, aligned as that of the device.
    virtual Result<HostMemory> allocate_host(size_t bytes) = 0;
    virtual void free_host(void * memory) = 0; // HostMemory calls it
    // Whether kernels read memory of allocate_host() where it is, by the address that the host has for it.
    virtual bool reads_host() const { return false; }
    virtual Result<uint64_t> free_bytes() = 0; // of the device's memory, now

    // Queued copies; the host memory must live, unchanged, until the queue has executed the copy.
    virtual void upload(void * device, const void * host, size_t bytes, Queue queue = Queue::compute) = 0;
    virtual void download(void * host, const void * device, size_t bytes, Queue queue = Queue::compute) = 0;
    virtual void copy(void * to, const void * from, size_t bytes) = 0; // queued, between places on the device
    virtual void clear(void * device, size_t bytes) = 0;               // queued: zeros
    // Entries added to `later` from now on start when all present entries of `earlier` are done.
    virtual void order(Queue earlier, Queue later) = 0;
    virtual std::unique_ptr<Fence> fence(Queue queue) = 0; // after everything that the queue has so far
    virtual Status synchronize(Queue queue = Queue::compute) = 0;

    // Whether arrange() does anything.
    virtual bool arranges_weights() const { return false; }
    // May rearrange a weight in its memory as the device's products read it fastest, and says so in the tensor. Only products
    // take it then, with the same results. The memory must not be in use.
    virtual Status arrange(Tensor &) { return {}; }

    // --- Several devices of one kind. What follows takes other backends of the same kind as this one.

    // Whether copies from the other device's memory need no detour through the host; connects them if they can be.
    virtual bool reaches(const Backend &) { return false; }
    // Entries added to `later` from now on start when the point of `fence`, which any backend made, is passed.
    virtual void wait(Queue, const Fence &) {}
    // Queued copy from memory of the other device, which must live, unchanged, until the queue has executed it. The
    // default goes through host memory and waits for both devices, which may be of different kinds.
    virtual void copy_from(Backend & other, void * to, const void * from, size_t bytes, Queue queue = Queue::compute);

    // --- Where time goes.

    // Sets the receiver of the times of copies and spans, each once its end is known; null, the default: none. Waits
    // for all queues. The trace must live until it is replaced.
    virtual void set_trace(Trace *) {}
    virtual Trace * trace() const { return nullptr; }
    // Entries of the compute queue between the two calls are one span. Spans do not nest. Profilers see them as well.
    virtual void begin_span(const char *, const Work &) {}
    virtual void end_span() {}
    // A range of spans for profilers, which may nest; the name is read at once.
    virtual void begin_range(const char *) {}
    virtual void end_range() {}

    // --- Ops of graphs, queued, on device memory.

    // Dtype of activations on this device: F32, or BF16 (Precision::bf16 only).
    virtual DType activation_dtype() const = 0;
    // Whether the device has a kernel for this call, by its parameters and shapes; its tensors have no data. If not,
    // Code::unsupported and the limits of the kernel. Asked when a graph is planned, so that no run
    // fails in the middle.
    virtual Status supports(const KernelCall & call) const = 0;
    // Bytes of scratch memory that this call needs; its tensors have shapes and no data.
    virtual uint64_t scratch_bytes(const KernelCall & call) const = 0;
    virtual Status launch(KernelCall & call) = 0;
    // The kernel that computes the nodes from `first` on together; without one each node has its own launch.
    virtual Fusion fusion(const Graph &, size_t) const { return {}; }
    virtual Status launch(const FusedKernel &, std::span<KernelCall>) {
        return Status(Code::internal, "this device has no fused kernels");
    }

    // Whether positions of a batch with BatchShape::as_steps have the bits of single positions, attention included.
    virtual bool runs_as_steps() const { return false; }

    // Whether the device computes expert_inputs as one op, which takes less time and memory there than its parts.
    virtual bool joins_expert_inputs() const { return false; }
    // Adds what screening found since the device was opened; waits for the compute queue.
    virtual Status add_screening(ScreeningCounts &) { return {}; }

    // --- Recordings: the launches of a graph as one unit, for graphs that run again with the same memory.

    // Whether record() may succeed now; a device whose work is traced op by op does not record.
    virtual bool can_record() const { return false; }
    // Calls `launches`, which may only launch ops, and keeps the launches instead of queueing them. Null if the
    // device cannot record it; nothing is queued and nothing has failed then. As long as the recording lives, `launches` may be called
    // again for a recording of several, and must launch the same.
    virtual std::unique_ptr<Recording> record(std::function<Status()>) { return nullptr; }
    // Queues the recorded launches: the same bits as the launches themselves. They may start only when something else is queued.
    virtual Status replay(const Recording &) { return Status(Code::internal, "this device does not record"); }

    // --- Quantizers, queued, on device memory.

    // The device's kernels for this quantizer (Quantizer::name()) and format; they live as long as the backend. Null:
    // the device has none.
    virtual DeviceQuantizer * quantizer(std::string_view, const Format &) { return nullptr; }
};

// A span for as long as it lives.
class BackendSpan {
  public:
    BackendSpan(Backend & backend, const char * name, const Work & work) : backend_(backend) {
        backend_.begin_span(name, work);
    }
    ~BackendSpan() { backend_.end_span(); }
    BackendSpan(const BackendSpan &) = delete;
    BackendSpan & operator=(const BackendSpan &) = delete;

  private:
    Backend & backend_;
};

// The CPU as a backend: host memory, and nothing is ever queued. `threads` must outlive it.
std::unique_ptr<Backend> open_cpu(ThreadPool & threads);

inline void DeviceMemoryDelete::operator()(void * memory) const { backend->free(memory); }
inline void HostMemoryDelete::operator()(void * memory) const { backend->free_host(memory); }

// The CUDA devices of this machine: an empty list, not an error, without a driver or in a library built without
// CUDA. A driver too old for this build is a failure that says so.
Result<std::vector<Device>> cuda_devices();
Result<std::unique_ptr<Backend>> open_cuda(int index);

// A choice of device, opened at its first use: open_cpu, or the caller's choice. The threads must outlive it.
using OpenDevice = std::function<Result<std::unique_ptr<Backend>>(ThreadPool & threads)>;

} // namespace gnv
