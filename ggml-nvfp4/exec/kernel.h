// How a kernel is called: one function for each op of graph/ops.h, on tensors in the memory of its device.
// Shapes, dtypes and the presence of inputs were checked when the graph was built (graph/op_rules.cpp);
// kernels do not check them again.
#pragma once

#include "core/status.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "graph/ops.h"

#include <span>

namespace gnv {

// A device's data for its kernels, besides threads: cuda/common.cuh derives its own.
struct KernelContext {};

struct KernelCall {
    const OpParams & params;
    Precision precision = Precision::f32;
    const Tensor * inputs = nullptr; // as ops.h lists them, states included; absent ones have no data
    Tensor * outputs = nullptr;
    void * scratch = nullptr;          // as many bytes as the kernel's entry asked for, aligned to 64
    ThreadPool * threads = nullptr;    // of the CPU
    KernelContext * context = nullptr; // of other devices
    int64_t bad_row = -1;              // an observing kernel that fails for a NaN or Inf sets it

    template <class Params>
    const Params & as() const {
        return std::get<Params>(params);
    }
};

// A device's kernel for an op. A device without a kernel for the op has an empty entry.
struct KernelEntry {
    // On a device with a queue: launches. The status then is about the call; failures of the device appear later.
    Status (*run)(KernelCall & call) = nullptr;
    // Bytes of scratch memory that this call needs; its tensors have shapes and no data. Null: none.
    uint64_t (*scratch_bytes)(const KernelCall & call) = nullptr;
    // Refuses calls that the contract allows and the kernel cannot run; tensors have shapes and no data.
    // Null: runs all.
    Status (*supports)(const KernelCall & call) = nullptr;
};

class Graph;

// A device's kernel for some nodes that follow each other in a graph. It writes all of their outputs, with the bits that their own
// kernels write, and saves launches and passes over memory.
struct FusedKernel {
    const char * name; // in reports of time; null: that of the nodes, which have the same
    // How many nodes from `first` on it computes; 0: not these.
    size_t (*match)(const Graph & graph, size_t first);
    Status (*run)(std::span<KernelCall> calls); // of the nodes, in order
};
// A place for it in a graph.
struct Fusion {
    const FusedKernel * kernel = nullptr;
    size_t nodes = 1;
};

// For GNV_OPS, in a device's namespace: declarations of all entries; their addresses, in the order of Op. An op without
// an entry is an error of the linker.
#define GNV_DECLARE_ENTRY(op, Params) extern const KernelEntry op##_entry;
#define GNV_ENTRY_ADDRESS(op, Params) &op##_entry,

// Whether `entry` runs this call: Code::unsupported and the reason otherwise.
inline Status supports_call(const KernelEntry & entry, const KernelCall & call) {
    if (!entry.run) return Status(Code::unsupported, "this device has no kernel for it");
    return entry.supports ? entry.supports(call) : Status();
}

} // namespace gnv
