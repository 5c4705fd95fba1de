// A graph that runs again and again on one backend. Its arena is planned and its kernel calls are resolved once;
// between two runs only the memory changes that its values are bound to. Where the backend records (Backend::record), a
// run that repeats with the same memory is replayed. Where the backend has a kernel for several nodes (Backend::fusion), one
// launch computes them. Nothing is allocated while a graph runs.
#pragma once

#include "exec/backend.h"
#include "graph/arena.h"
#include "graph/graph.h"

#include <functional>
#include <vector>

namespace gnv {

// Where a run failed for a value: the row of the tensor that the node observes.
struct BadValue {
    int64_t node = -1, row = -1;
};

using OnTap = std::function<Status(const Tap & tap, const Tensor & tensor)>;

class PreparedGraph {
  public:
    // Fails with the graph's own failure, and with the name of the first op that the backend cannot run.
    // `bound`: activations that bind() will place, by value; empty: none. `graph` must stay where it is as
    // long as this object lives.
    static Result<PreparedGraph> create(Backend & backend, const Graph & graph, const std::vector<bool> & bound = {});

    const Graph & graph() const { return *graph_; }
    const ArenaPlan & plan() const { return plan_; }

    // Memory of a value that the caller owns: every input, weight and state, and the activations of `bound`.
    void bind(ValueId id, const Tensor & tensor);
    // At least plan().bytes, aligned to ArenaPlan::alignment.
    void bind_arena(void * arena);

    struct Hooks {
        OnTap on_tap = {}; // sees each tapped value right after its node
        // Sees each call once it is queued.
        std::function<Status(const Node & node, KernelCall & call)> after_node = {};
        BadValue * bad = nullptr;
    };
    // Queues all nodes in order. Runs with on_tap or after_node are never replayed, and every node has its own launch.
    Status run(const Hooks & hooks);
    Status run() { return run({}); }
    // How many runs were replayed so far.
    int64_t replays() const { return replays_; }

    // Where a value is; after run() it is readable if it is bound or kept.
    Tensor tensor_of(ValueId id) const;

  private:
    struct Call { // of one node
        std::array<Tensor, Node::max_inputs> inputs;
        std::array<Tensor, Node::max_outputs> outputs;
        const char * name = "";
        Work work;
    };
    struct Launch { // of one node, or of a fused kernel
        size_t first = 0, nodes = 1;
        const FusedKernel * kernel = nullptr;
    };
    class ArenaGuard;
    PreparedGraph(Backend & backend, const Graph & graph) : backend_(&backend), graph_(&graph) {}
    void place(ValueId owner);
    void check_memory() const;
    void find_launches();
    bool may_fuse(const Launch & launch) const;
    KernelCall call_of(size_t node);
    Status launch(const Hooks & hooks);
    Status launch_node(size_t node, const Hooks & hooks);
    void guard_all_but(const Launch & launch, ArenaGuard & guard) const;
    Status launch_guarded(size_t node, const Hooks & hooks, ArenaGuard & guard);
    Status launch_fused(const Launch & launch);

    Backend * backend_;
    const Graph * graph_;
    ArenaPlan plan_;
    void * arena_ = nullptr;
    std::vector<Tensor> bound_; // by value; those that own their memory
    std::vector<Call> calls_;   // by node
    std::vector<Launch> launches_;
    std::vector<KernelCall> fused_calls_; // of the fused launch at hand
    struct Use {                          // a tensor of a call
        ValueId value;
        Tensor * tensor;
    };
    std::vector<std::vector<Use>> uses_; // by the value that owns the memory

    bool same_memory_ = false; // as in the last run
    bool cannot_record_ = false;
    // Of the present memory. It knows the place of this object, and does not move with it.
    struct OwnRecording : std::unique_ptr<Recording> {
        OwnRecording() = default;
        OwnRecording(OwnRecording && from) noexcept { from.reset(); }
        OwnRecording & operator=(OwnRecording && from) noexcept {
            reset(), from.reset();
            return *this;
        }
        using unique_ptr::operator=;
    } recording_;
    int64_t replays_ = 0;
};

} // namespace gnv
