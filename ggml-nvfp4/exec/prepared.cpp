#include "exec/prepared.h"

#include "graph/op_rules.h"

#include <algorithm>

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

Tensor shape_of(const Graph & graph, ValueId id) {
    Tensor tensor;
    if (id == no_value) return tensor;
    tensor.dtype = graph.value(id).dtype;
    tensor.shape = graph.value(id).shape;
    return tensor;
}

bool same_memory(const Tensor & a, const Tensor & b) {
    return a.data == b.data && a.block_scales == b.block_scales && a.global_scales == b.global_scales &&
           a.global_scale_rows == b.global_scale_rows && a.compact.first == b.compact.first;
}

} // namespace

// Under AddressSanitizer a node may touch only its own tensors and scratch memory: everything else of the arena is
// poisoned while it runs. Does nothing without the sanitizer.
class PreparedGraph::ArenaGuard {
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

Result<PreparedGraph> PreparedGraph::create(Backend & backend, const Graph & graph, const std::vector<bool> & bound) {
    GNV_TRY(copy_of(graph.status()));
    PreparedGraph prepared(backend, graph);
    prepared.calls_.resize(graph.nodes().size());
    prepared.bound_.resize(graph.values().size());
    prepared.uses_.resize(graph.values().size());
    std::vector<uint64_t> scratch(graph.nodes().size());
    for (size_t n = 0; n < graph.nodes().size(); n++) {
        const Node & node = graph.nodes()[n];
        Call & resolved = prepared.calls_[n];
        const auto use = [&](ValueId id, Tensor & tensor) {
            tensor = shape_of(graph, id);
            if (id != no_value) prepared.uses_[size_t(graph.owner(id))].push_back({id, &tensor});
        };
        for (size_t i = 0; i < node.inputs.size(); i++) use(node.inputs[i], resolved.inputs[i]);
        for (size_t i = 0; i < node.outputs.size(); i++) use(node.outputs[i], resolved.outputs[i]);
        resolved.name = node.label ? node.label : op_name(op_of(node.params));
        resolved.work = {node_flops(graph, node), node_bytes(graph, node)};

        KernelCall call{node.params}; // with shapes and no memory
        call.precision = graph.precision();
        call.inputs = resolved.inputs.data();
        call.outputs = resolved.outputs.data();
        const Status status = backend.supports(call);
        if (!status.ok()) {
            const ValueId output = node.outputs[0];
            return fail(status.code(), backend.device().name, " cannot compute ", op_name(op_of(node.params)),
                        output == no_value ? "" : " (" + graph.value(output).name + ")", ": ", status.message(),
                        "; use the CPU");
        }
        scratch[n] = backend.scratch_bytes(call);
    }
    prepared.find_launches();
    std::vector<int64_t> launch_of;
    for (size_t l = 0; l < prepared.launches_.size(); l++)
        launch_of.insert(launch_of.end(), prepared.launches_[l].nodes, int64_t(l));
    const std::vector<bool> none(graph.values().size(), false);
    prepared.plan_ = plan_arena(
        graph, bound.empty() ? none : bound,
        [&](const Node & node) { return scratch[size_t(&node - graph.nodes().data())]; }, launch_of);
    return prepared;
}

void PreparedGraph::find_launches() {
    size_t most_fused = 0;
    for (size_t n = 0; n < graph_->nodes().size();) {
        const Fusion fusion = backend_->fusion(*graph_, n);
        launches_.push_back({n, fusion.nodes, fusion.kernel});
        if (fusion.kernel) most_fused = std::max(most_fused, fusion.nodes);
        n += fusion.nodes;
    }
    fused_calls_.reserve(most_fused);
}

// Whether the nodes' outputs lie apart from their inputs and from each other: the caller may have bound both to the same memory.
bool PreparedGraph::may_fuse(const Launch & launch) const {
    for (size_t n = launch.first; n < launch.first + launch.nodes; n++)
        for (size_t m = launch.first; m < launch.first + launch.nodes; m++)
            for (size_t o = 0; o < Node::max_outputs; o++) {
                const ValueId output = graph_->nodes()[n].outputs[o];
                if (output == no_value) continue;
                for (size_t i = 0; i < Node::max_inputs; i++) {
                    const ValueId input = graph_->nodes()[m].inputs[i];
                    if (input != no_value && graph_->owner(input) != output &&
                        calls_[m].inputs[i].data == calls_[n].outputs[o].data)
                        return false;
                }
                for (size_t other = 0; other < Node::max_outputs; other++)
                    if ((m != n || other != o) && calls_[m].outputs[other].data == calls_[n].outputs[o].data)
                        return false;
            }
    return true;
}

Tensor PreparedGraph::tensor_of(ValueId id) const {
    if (id == no_value) return {};
    const Tensor & bound = bound_[size_t(graph_->owner(id))];
    Tensor tensor = bound.exists() ? bound : shape_of(*graph_, id);
    tensor.shape = graph_->value(id).shape;
    if (!bound.exists() && arena_) {
        GNV_CHECK(plan_.offsets[size_t(id)] >= 0);
        tensor.data = static_cast<uint8_t *>(arena_) + plan_.offsets[size_t(id)];
    }
    return tensor;
}

// Gives the tensors of all calls that use this memory their present place.
void PreparedGraph::place(ValueId owner) {
    for (const Use & use : uses_[size_t(owner)]) *use.tensor = tensor_of(use.value);
    same_memory_ = false;
    recording_.reset();
}

void PreparedGraph::bind(ValueId id, const Tensor & tensor) {
    const Value & value = graph_->value(id);
    GNV_CHECK(graph_->owner(id) == id && tensor.exists());
    GNV_CHECK(tensor.dtype == value.dtype && tensor.shape.elements() == value.shape.elements());
    if (same_memory(bound_[size_t(id)], tensor)) return;
    GNV_CHECK(!tensor.is_compact() || is_only_multiplied(*graph_, id)); // other kernels would take codes for numbers
    bound_[size_t(id)] = tensor;
    place(id);
}

void PreparedGraph::bind_arena(void * arena) {
    if (arena == arena_) return;
    arena_ = arena;
    for (ValueId id = 0; id < ValueId(bound_.size()); id++)
        if (plan_.offsets[size_t(id)] >= 0) place(id);
    same_memory_ = false; // scratch memory, too
    recording_.reset();
}

void PreparedGraph::check_memory() const {
    GNV_CHECK(arena_ || plan_.bytes == 0);
    for (const std::vector<Use> & uses : uses_)
        for (const Use & use : uses) GNV_CHECK(use.tensor->exists());
}

KernelCall PreparedGraph::call_of(size_t n) {
    KernelCall call{graph_->nodes()[n].params};
    call.precision = graph_->precision();
    call.inputs = calls_[n].inputs.data();
    call.outputs = calls_[n].outputs.data();
    call.scratch = static_cast<uint8_t *>(arena_) + plan_.scratch_offset;
    return call;
}

Status PreparedGraph::launch_fused(const Launch & launch) {
    fused_calls_.clear();
    Work work;
    for (size_t n = launch.first; n < launch.first + launch.nodes; n++) {
        fused_calls_.push_back(call_of(n));
        work.flops += calls_[n].work.flops;
        work.bytes += calls_[n].work.bytes;
    }
    const char * const name = launch.kernel->name ? launch.kernel->name : calls_[launch.first].name;
    const BackendSpan span(*backend_, name, work);
    return backend_->launch(*launch.kernel, fused_calls_);
}

Status PreparedGraph::launch_node(size_t n, const Hooks & hooks) {
    const Node & node = graph_->nodes()[n];
    const Call & resolved = calls_[n];
    KernelCall call = call_of(n);
    Status status;
    {
        const BackendSpan span(*backend_, resolved.name, resolved.work);
        status = backend_->launch(call);
    }
    if (status.ok() && hooks.after_node) status = hooks.after_node(node, call);
    if (!status.ok() && hooks.bad) *hooks.bad = {int64_t(n), call.bad_row};
    return status;
}

// Nothing but the memory of these nodes stays open.
void PreparedGraph::guard_all_but(const Launch & launch, ArenaGuard & guard) const {
    guard.close();
    const auto open = [&](ValueId id, const Tensor & tensor) {
        if (id != no_value && plan_.offsets[size_t(id)] >= 0)
            guard.open(tensor.data, tensor_bytes(tensor.dtype, tensor.shape));
    };
    for (size_t n = launch.first; n < launch.first + launch.nodes; n++) {
        const Node & node = graph_->nodes()[n];
        for (size_t i = 0; i < node.inputs.size(); i++) open(node.inputs[i], calls_[n].inputs[i]);
        for (size_t i = 0; i < node.outputs.size(); i++) open(node.outputs[i], calls_[n].outputs[i]);
    }
    guard.open(static_cast<uint8_t *>(arena_) + plan_.scratch_offset, plan_.bytes - plan_.scratch_offset);
}

Status PreparedGraph::launch_guarded(size_t n, const Hooks & hooks, ArenaGuard & guard) {
    guard_all_but({n}, guard);
    GNV_TRY(launch_node(n, hooks));
    if (!hooks.on_tap) return {};
    for (const Graph::Tapped & tapped : graph_->taps())
        for (const ValueId output : graph_->nodes()[n].outputs)
            if (output != no_value && graph_->owner(tapped.value) == output)
                GNV_TRY(hooks.on_tap(tapped.tap, tensor_of(tapped.value)));
    return {};
}

Status PreparedGraph::launch(const Hooks & hooks) {
    // Nothing to guard where nodes run later, in memory that is not the host's.
    ArenaGuard guard(arena_, backend_->device().has_own_memory() ? 0 : plan_.bytes);
    const bool fuses = !hooks.on_tap && !hooks.after_node;
    for (const Launch & launch : launches_) {
        if (launch.kernel && fuses && may_fuse(launch)) {
            guard_all_but(launch, guard);
            GNV_TRY(launch_fused(launch));
        } else {
            for (size_t n = launch.first; n < launch.first + launch.nodes; n++)
                GNV_TRY(launch_guarded(n, hooks, guard));
        }
    }
    return {};
}

Status PreparedGraph::run(const Hooks & hooks) {
    if (!same_memory_) check_memory();
    const bool repeats = same_memory_ && !hooks.on_tap && !hooks.after_node && backend_->can_record();
    same_memory_ = true;
    if (repeats && !recording_ && !cannot_record_) {
        recording_ = backend_->record([this] { return launch({}); });
        cannot_record_ = !recording_;
    }
    if (!repeats || !recording_) return launch(hooks);
    replays_++;
    return backend_->replay(*recording_);
}

} // namespace gnv
