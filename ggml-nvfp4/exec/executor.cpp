#include "exec/executor.h"

#include "graph/op_rules.h"

#if defined(__SANITIZE_ADDRESS__)
#define GNV_ARENA_GUARDS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GNV_ARENA_GUARDS 1
#endif
#endif
#ifdef GNV_ARENA_GUARDS
#include <sanitizer/asan_interface.h>
#endif

namespace gnv {

namespace {

// Under AddressSanitizer a node may touch its own tensors and scratch memory alone: everything else of the arena is
// poisoned while it runs. Free of charge elsewhere.
class ArenaGuard {
  public:
    ArenaGuard([[maybe_unused]] void * arena, [[maybe_unused]] uint64_t bytes) {
#ifdef GNV_ARENA_GUARDS
        arena_ = arena, bytes_ = bytes;
#endif
    }
    void close() {
#ifdef GNV_ARENA_GUARDS
        ASAN_POISON_MEMORY_REGION(arena_, bytes_);
#endif
    }
    void open([[maybe_unused]] const void * begin, [[maybe_unused]] uint64_t bytes) {
#ifdef GNV_ARENA_GUARDS
        if (bytes_ > 0) ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
#endif
    }
    ~ArenaGuard() {
#ifdef GNV_ARENA_GUARDS
        ASAN_UNPOISON_MEMORY_REGION(arena_, bytes_);
#endif
    }
    ArenaGuard(const ArenaGuard &) = delete;
    ArenaGuard & operator=(const ArenaGuard &) = delete;

#ifdef GNV_ARENA_GUARDS
  private:
    void * arena_;
    uint64_t bytes_;
#endif
};

struct NodeTensors {
    std::array<Tensor, Node::max_inputs> inputs;
    std::array<Tensor, Node::max_outputs> outputs;
};

Tensor shape_of(const Graph & graph, ValueId id) {
    Tensor tensor;
    if (id == no_value) return tensor;
    tensor.dtype = graph.value(id).dtype;
    tensor.shape = graph.value(id).shape;
    return tensor;
}

// A node's call with shapes and no memory, for what is asked before it runs; `tensors` must outlive it.
KernelCall call_without_memory(const Graph & graph, const Node & node, NodeTensors & tensors) {
    for (size_t i = 0; i < node.inputs.size(); i++) tensors.inputs[i] = shape_of(graph, node.inputs[i]);
    for (size_t i = 0; i < node.outputs.size(); i++) tensors.outputs[i] = shape_of(graph, node.outputs[i]);
    KernelCall call{node.params};
    call.precision = graph.precision();
    call.inputs = tensors.inputs.data();
    call.outputs = tensors.outputs.data();
    return call;
}

} // namespace

Result<ArenaPlan> Executor::plan(const Graph & graph, const std::vector<bool> & bound) const {
    GNV_TRY(copy_of(graph.status()));
    NodeTensors tensors;
    for (const Node & node : graph.nodes()) {
        const Status status = backend_.supports(call_without_memory(graph, node, tensors));
        if (status.ok()) continue;
        const ValueId output = node.outputs[0];
        return fail(status.code(), backend_.device().name, " cannot compute ", op_name(op_of(node.params)),
                    output == no_value ? "" : " (" + graph.value(output).name + ")", ": ", status.message(),
                    "; use the CPU");
    }
    return plan_arena(graph, bound, [&](const Node & node) {
        return backend_.scratch_bytes(call_without_memory(graph, node, tensors));
    });
}

Tensor Executor::tensor_of(const Graph & graph, const ArenaPlan & plan, const Bindings & bindings, void * arena,
                           ValueId id) {
    if (id == no_value) return {};
    const Tensor & bound = bindings[graph.owner(id)];
    Tensor tensor = bound.exists() ? bound : shape_of(graph, id);
    tensor.shape = graph.value(id).shape;
    if (!bound.exists()) {
        GNV_CHECK(plan.offsets[size_t(id)] >= 0);
        tensor.data = static_cast<uint8_t *>(arena) + plan.offsets[size_t(id)];
    } else {
        GNV_CHECK(bound.dtype == graph.value(id).dtype);
        GNV_CHECK(bound.shape.elements() == tensor.shape.elements());
    }
    return tensor;
}

Status Executor::run(const Graph & graph, const ArenaPlan & plan, const Bindings & bindings, void * arena,
                     const OnTap & on_tap, BadValue * bad, const AfterNode & after_node) {
    // Nothing to guard where nodes run later, in memory that is not the host's.
    ArenaGuard guard(arena, backend_.device().has_own_memory() ? 0 : plan.bytes);
    NodeTensors tensors;
    for (size_t n = 0; n < graph.nodes().size(); n++) {
        const Node & node = graph.nodes()[n];
        guard.close();
        const auto resolve = [&](ValueId id) {
            const Tensor tensor = tensor_of(graph, plan, bindings, arena, id);
            if (id != no_value && !bindings.bound(graph.owner(id)))
                guard.open(tensor.data, tensor_bytes(tensor.dtype, tensor.shape));
            return tensor;
        };
        for (size_t i = 0; i < node.inputs.size(); i++) tensors.inputs[i] = resolve(node.inputs[i]);
        for (size_t i = 0; i < node.outputs.size(); i++) tensors.outputs[i] = resolve(node.outputs[i]);
        KernelCall call{node.params};
        call.precision = graph.precision();
        call.inputs = tensors.inputs.data();
        call.outputs = tensors.outputs.data();
        call.scratch = static_cast<uint8_t *>(arena) + plan.scratch_offset;
        guard.open(call.scratch, plan.bytes - plan.scratch_offset);
        Status status;
        {
            const BackendSpan span(backend_, node.label ? node.label : op_name(op_of(node.params)),
                                   {node_flops(graph, node), node_bytes(graph, node)});
            status = backend_.launch(call);
        }
        if (status.ok() && after_node) status = after_node(node, call);
        if (!status.ok()) {
            if (bad) *bad = {int64_t(n), call.bad_row};
            return status;
        }
        if (!on_tap) continue;
        for (const Graph::Tapped & tapped : graph.taps())
            for (const ValueId output : node.outputs)
                if (output != no_value && graph.owner(tapped.value) == output)
                    GNV_TRY(on_tap(tapped.tap, tensor_of(graph, plan, bindings, arena, tapped.value)));
    }
    return {};
}

} // namespace gnv
