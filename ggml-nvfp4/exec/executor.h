// Runs graphs on one backend: resolves every value to memory, then launches the nodes in order. Nothing is allocated while a
// graph runs; the memory is the caller's, planned before (graph/arena.h).
#pragma once

#include "exec/backend.h"
#include "graph/arena.h"
#include "graph/graph.h"

#include <functional>
#include <vector>

namespace gnv {

// Memory for the values that the caller owns: inputs, weights, states, and activations that shall land in a given place.
class Bindings {
  public:
    explicit Bindings(const Graph & graph) : tensors_(graph.values().size()) {}
    void bind(ValueId id, const Tensor & tensor) { tensors_[size_t(id)] = tensor; }
    bool bound(ValueId id) const { return tensors_[size_t(id)].exists(); }
    const Tensor & operator[](ValueId id) const { return tensors_[size_t(id)]; }

  private:
    std::vector<Tensor> tensors_;
};

// Where a run failed, when it failed for a value: the row of the tensor that the node `tap` observes.
struct BadValue {
    int64_t node = -1, row = -1;
};

class Executor {
  public:
    explicit Executor(Backend & backend) : backend_(backend) {}

    // Fails with the graph's own failure, and with the name of the first op that the backend cannot run.
    // `bound`: which activations will be bound.
    Result<ArenaPlan> plan(const Graph & graph, const std::vector<bool> & bound) const;

    using OnTap = std::function<Status(const Tap & tap, const Tensor & tensor)>;
    // `arena`: at least plan.bytes, aligned to ArenaPlan::alignment. Every input, weight and state must be bound.
    // `on_tap` sees each tapped value right after it was made, `after_node` each call once it is queued: may be empty.
    using AfterNode = std::function<Status(const Node & node, KernelCall & call)>;
    Status run(const Graph & graph, const ArenaPlan & plan, const Bindings & bindings, void * arena,
               const OnTap & on_tap = {}, BadValue * bad = nullptr, const AfterNode & after_node = {});

    // After run(): where a value is; readable when it is bound or kept.
    static Tensor tensor_of(const Graph & graph, const ArenaPlan & plan, const Bindings & bindings, void * arena,
                            ValueId id);

  private:
    Backend & backend_;
};

} // namespace gnv
