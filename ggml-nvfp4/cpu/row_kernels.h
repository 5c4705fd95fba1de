// Shared code of the CPU's kernels on rows, elements and lists of experts: the split of work over threads. They split
// by rows, or by columns if the order of rows matters, so that no result depends on the split.
#pragma once

#include "cpu/kernels.h"
#include "cpu/loops.h"

#include <algorithm>
#include <functional>

namespace gnv::cpu {

// Elements of a task that is worth waking another thread (about 10 us); less work runs on the calling thread.
constexpr int64_t elements_per_task = 32768;

// body(first, last, thread) for blocks of [0, count), each of which costs about as much as `cost` elements.
template <class Body>
Status for_blocks(ThreadPool & threads, int64_t count, int64_t cost, const Body & body) {
    const int64_t block = std::max<int64_t>(1, elements_per_task / std::max<int64_t>(1, cost));
    if (count <= block || count * cost < 2 * elements_per_task || threads.size() == 1) {
        if (count > 0) body(int64_t(0), count, 0);
        return {};
    }
    return threads.parallel_for_thread((count + block - 1) / block, [&](int64_t task, int thread) -> Status {
        body(task * block, std::min(count, (task + 1) * block), thread);
        return {};
    });
}

inline const Loops & loops(const KernelCall & call) { return loops(call.threads->instructions()); }

// A BF16 or F32 tensor as F32: its own memory, or its values in `buffer`.
inline const float * widened(const KernelCall & call, const Tensor & tensor, float * buffer) {
    if (tensor.dtype == DType::f32) return tensor.as<const float>();
    loops(call).rows.widen_bf16(tensor.as<const uint16_t>(), tensor.shape.elements(), buffer);
    return buffer;
}

// Rows of groups, as in observe: each row has columns of every group, or with offsets belongs to one group.
struct GroupedRows {
    GroupedRows(const Tensor & tensor, const Tensor & row_offsets, int64_t group_count)
        : x(tensor.as<const float>()), offsets(row_offsets.as<const int32_t>()), groups(group_count),
          stride(tensor.shape.last()), columns(offsets ? stride : stride / groups),
          rows(offsets ? offsets[groups] : tensor.shape.rows()) {}

    const float * group(int64_t g) const { return x + (offsets ? offsets[g] * stride : g * columns); }
    int64_t group_rows(int64_t g) const { return offsets ? offsets[g + 1] - offsets[g] : rows; }

    const float * x;
    const int32_t * offsets; // null: every row has columns of every group
    int64_t groups;
    int64_t stride, columns; // of a row of x, of a group
    int64_t rows;            // to look at
};

// Statistic::maximum of observe, also for kernels that compute the rows: make(first, last) is called for blocks of rows
// before they are observed; null: the rows exist. Scratch memory: maxima_scratch_bytes.
using MakeRows = std::function<void(int64_t first, int64_t last)>;
Status observe_maxima(KernelCall & call, const GroupedRows & rows, float * maxima, const MakeRows & make);
uint64_t maxima_scratch_bytes(int64_t groups, int threads);

inline bool rounds(const KernelCall & call) { return call.precision == Precision::bf16; }

} // namespace gnv::cpu
