// How a kernel is called: one function for each op of graph/ops.h, on tensors in the memory of its device. Shapes, dtypes
// and the presence of inputs were checked when the graph was built (graph/ops.cpp); a kernel checks nothing again.
#pragma once

#include "core/status.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "graph/ops.h"

namespace gnv {

struct KernelCall {
    const OpParams & params;
    Precision precision = Precision::f32;
    const Tensor * inputs = nullptr; // as ops.h lists them, states included; absent ones have no data
    Tensor * outputs = nullptr;
    void * scratch = nullptr; // as many bytes as the kernel's entry asked for, aligned to 64
    ThreadPool * threads = nullptr;
    int64_t bad_row = -1; // set by what observes when it fails for a NaN or Inf

    template <class Params>
    const Params & as() const {
        return std::get<Params>(params);
    }
};

struct KernelEntry {
    Status (*run)(KernelCall & call) = nullptr; // null: this device does not have the op
    // Bytes of scratch memory; tensors have shapes and no data. Null: none.
    uint64_t (*scratch_bytes)(const KernelCall & call, int threads) = nullptr;
};

// One entry for each Op.
using KernelTable = KernelEntry[size_t(Op::count_)];

} // namespace gnv
