#include "run/stage_runner.h"

#include "codec/nvfp4.h"
#include "graph/fuse.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

namespace gnv {

std::vector<WeightRef> weights_of(const TextModel & model, const std::vector<Stage> & stages) {
    std::vector<WeightRef> refs;
    for (const Stage & stage : stages)
        for (const WeightRef & ref : model.stage_weights(stage)) refs.push_back(ref);
    return refs;
}

bool read_given(const std::vector<Stage> & stages) {
    return std::any_of(stages.begin(), stages.end(),
                       [](const Stage & stage) { return stage.kind == StageKind::embed; });
}

// Whether the stages are one block.
static bool are_whole(const TextModel & model, const std::vector<Stage> & stages) {
    return !stages.empty() && stages.front().layer >= 0 && stages == model.block_stages(stages.front().layer);
}

FieldUse field_use(const std::vector<Stage> & stages, const TextModel & model) {
    FieldUse use;
    FieldSet made = 0; // by earlier stages
    for (const Stage & stage : stages) {
        const StageFields fields = model.stage_fields(stage);
        use.reads |= fields.reads & ~made;
        made |= fields.makes;
        use.makes = (use.makes | fields.makes) & ~fields.ends;
    }
    return use;
}

namespace {

// A graph of stages and the meaning of its values.
struct StageGraph {
    Graph graph;
    StageBuilder builder;
    FieldUse use;
    std::array<ValueId, max_fields> given; // of the fields that are read
    ValueId allowed = no_value, draws = no_value, largest = no_value, top = no_value;

    StageGraph(const TextVariant & variant, const std::vector<Stage> & stages, const BatchShape & shape,
               const StageOptions & options, DType activation)
        : graph(variant.precision, activation), builder(graph, *variant.weights, shape),
          use(field_use(stages, *variant.model)) {
        builder.statistics = variant.observe ? options.statistics : nullptr;
        builder.quantize_inputs = variant.quantize_inputs;
        builder.input_scales = variant.input_scales;
        builder.expert_tokens = options.expert_tokens;
        builder.expert_tile = options.expert_tile;
        builder.joins_expert_inputs = options.joins_expert_inputs;
        builder.screening = options.screening;
        builder.last_position_only = options.last_position_only;
        builder.whole_blocks = are_whole(*variant.model, stages);
        builder.embeds = options.embeds;
        const std::vector<FieldSpec> fields = variant.model->fields();
        for (size_t f = 0; f < fields.size(); f++)
            if (use.reads & field_bit(Field(f)))
                builder.fields[f] = graph.input(fields[f].name, fields[f].is_activation ? activation : fields[f].dtype,
                                                {shape.positions, fields[f].columns});
        given = builder.fields;
        for (const Stage & stage : stages) variant.model->build(stage, builder);
        if (!graph.status().ok()) return;
        if (builder.logits != no_value) add_choice(options);
        fuse(graph);
    }
    // What becomes of the logits.
    void add_choice(const StageOptions & options) {
        const Shape shape = graph.value(builder.logits).shape;
        if (options.largest_logit || options.top_logits || options.draws)
            allowed = graph.input("allowed", DType::u8, {shape.last()});
        if (options.draws) draws = graph.input("draws", DType::i32, {shape.rows(), 4});
        if (options.largest_logit) largest = graph.add(LargestParams{}, {builder.logits, allowed}, "largest logit");
        if (options.draws) largest = graph.add(DrawParams{}, {builder.logits, allowed, draws}, "draw");
        if (options.top_logits)
            top = graph.add(TopParams{wanted_top_logits, most_top_logits}, {builder.logits, allowed}, "top logits");
        for (const ValueId value : {largest, top})
            if (value != no_value) graph.keep(value), graph.keep(graph.second(value));
        if (largest == no_value) graph.keep(builder.logits);
    }
    StageGraph(const StageGraph &) = delete;
    StageGraph & operator=(const StageGraph &) = delete;

    // Values to bind to the fields' memory, with that memory.
    struct Made {
        ValueId value;
        void * memory;
    };
    std::vector<Made> made(const BatchFields & fields) const {
        std::vector<Made> list;
        for (size_t f = 0; f < max_fields; f++)
            if (use.makes & field_bit(Field(f))) list.push_back({builder.fields[f], fields[f]});
        return list;
    }
    std::vector<bool> bound() const {
        std::vector<bool> flags(graph.values().size(), false);
        for (const Made & made_value : made({})) flags[size_t(graph.owner(made_value.value))] = true;
        for (const StageBuilder::BoundRows & rows : builder.bound_rows) flags[size_t(graph.owner(rows.value))] = true;
        return flags;
    }
};

Tensor view(void * data, DType dtype, Shape shape) {
    Tensor tensor;
    tensor.dtype = dtype;
    tensor.shape = shape;
    tensor.data = data;
    return tensor;
}

class Binder {
  public:
    Binder(const StageGraph & stages, const StageCall & call, PreparedGraph & prepared)
        : stages_(stages), graph_(stages.graph), call_(call), prepared_(prepared) {}

    void bind() {
        bind_inputs();
        bind_fields();
        for (const StageBuilder::BoundWeight & weight : stages_.builder.bound_weights)
            prepared_.bind(weight.value, find(weight));
        for (const StageBuilder::BoundCache & cache : stages_.builder.bound_caches)
            prepared_.bind(cache.value, call_.experts->find(cache.ref));
        for (const StageBuilder::BoundState & state : stages_.builder.bound_states)
            prepared_.bind(state.value, call_.states->find(state.layer, state.index));
        for (const StageBuilder::BoundRows & rows : stages_.builder.bound_rows) {
            Tensor memory = call_.kept_rows->find(rows.layer, rows.index);
            const int64_t before = call_.kept_begin * shape(rows.value).last();
            GNV_CHECK(before + shape(rows.value).elements() <= memory.shape.elements());
            memory.data = memory.as<uint8_t>() + tensor_bytes(memory.dtype, {before});
            memory.shape = shape(rows.value);
            prepared_.bind(rows.value, memory);
        }
        for (const StageBuilder::BoundTotal & total : stages_.builder.bound_totals)
            prepared_.bind(total.value, call_.statistics->find(total.key, total.first_group, shape(total.value)[0]));
    }

  private:
    const Shape & shape(ValueId id) const { return graph_.value(id).shape; }

    Tensor find(const StageBuilder::BoundWeight & weight) const {
        if (!weight.input_scale) return group_of(weight.ref).find(weight.ref);
        if (const InputScales * const given = call_.variant.input_scales) return given->find(weight.ref);
        if (call_.experts && call_.experts->holds(weight.ref)) return call_.experts->input_scale(weight.ref);
        return group_of(weight.ref).input_scale(weight.ref);
    }
    const WeightGroup & group_of(const WeightRef & ref) const {
        if (!call_.more_weights.empty() && !call_.weights.has(ref))
            for (const WeightGroup & group : call_.more_weights)
                if (group.has(ref)) return group;
        return call_.weights;
    }
    template <class T>
    void input(ValueId id, const T * data, DType dtype) {
        if (id == no_value) return;
        GNV_CHECK(data != nullptr);
        prepared_.bind(id, view(const_cast<T *>(data), dtype, shape(id)));
    }
    void bind_inputs() {
        const StageBuilder & b = stages_.builder;
        const DeviceBatch & there = call_.inputs;
        input(b.ids, there.ids, DType::i32);
        input(b.positions, there.positions, DType::i32);
        input(b.segments, there.segments, DType::i32);
        input(b.mask, there.mask, DType::u8);
        input(b.past, there.past, DType::i32);
        input(b.last_positions, there.last_positions, DType::i32);
        input(b.slots, there.slots, DType::i32);
        input(b.pages, there.pages, DType::i32);
        input(b.extents, there.extents, DType::i32);
        input(b.pairs, there.pairs, DType::i32);
        input(b.given, there.given, graph_.activation_dtype());
        input(stages_.allowed, there.allowed, DType::u8);
        input(stages_.draws, there.draws, DType::i32);
    }
    void bind_fields() {
        const auto field = [&](ValueId id, void * memory) {
            if (id != no_value) prepared_.bind(id, view(memory, graph_.value(id).dtype, shape(id)));
        };
        for (size_t f = 0; f < max_fields; f++) field(stages_.given[f], call_.fields[f]);
        for (const StageGraph::Made & made : stages_.made(call_.fields)) {
            GNV_CHECK(made.memory != nullptr);
            field(graph_.owner(made.value), made.memory);
        }
    }

    const StageGraph & stages_;
    const Graph & graph_;
    const StageCall & call_;
    PreparedGraph & prepared_;
};

// All that a call's places depend on, where they are few: for a text that goes on token by token, the host looks for its weights
// once. Else none.
struct Places {
    WeightGroup::Place weights;
    DeviceBatch inputs;
    BatchFields fields;
    uint64_t states = 0;
    void * arena = nullptr;
    friend bool operator==(const Places &, const Places &) = default;

    static std::optional<Places> of(const StageCall & call, void * arena) {
        if (call.kept_rows || !call.more_weights.empty() || call.experts || call.statistics) return {};
        if (call.variant.input_scales) return {};
        return Places{call.weights.place(), call.inputs, call.fields, call.states ? call.states->serial() : 0, arena};
    }
};

// The total of a node that takes maxima; null for other nodes.
const StageBuilder::BoundTotal * maxima_of(const StageGraph & stages, const Node & node) {
    for (const StageBuilder::BoundTotal & total : stages.builder.bound_totals)
        if (total.key.statistic == &Statistic::maximum &&
            std::find(node.inputs.begin(), node.inputs.end(), total.value) != node.inputs.end())
            return &total;
    return nullptr;
}
// The offsets of a node whose rows belong to groups, its only input of integers; past the end if columns belong to
// groups.
size_t offsets_input(const Graph & graph, const Node & node) {
    size_t i = 0;
    while (i < node.inputs.size() && (node.inputs[i] == no_value || graph.value(node.inputs[i]).dtype != DType::i32))
        i++;
    return i;
}

// The position in the batch of a row of an observed tensor: rows of routed tokens find it by their slot.
Result<int64_t> position_of_row(Backend & device, const StageGraph & stages, const PreparedGraph & prepared,
                                const BadValue & bad, int64_t experts_per_token) {
    const Graph & graph = stages.graph;
    const Node & node = graph.nodes()[size_t(bad.node)];
    if (!maxima_of(stages, node) || bad.row < 0) return -1;
    const size_t offsets = offsets_input(graph, node);
    if (offsets == node.inputs.size()) return bad.row;
    for (const Node & maker : graph.nodes()) {
        if (maker.outputs[1] != node.inputs[offsets]) continue;
        const Tensor slots = prepared.tensor_of(maker.outputs[0]);
        int32_t slot = 0;
        device.download(&slot, slots.as<const int32_t>() + bad.row, sizeof slot);
        GNV_TRY(device.synchronize());
        return slot / experts_per_token;
    }
    return -1;
}

float to_float(float value) { return value; }
float to_float(uint16_t bits) { return nvfp4::bf16_to_float(bits); }

// `stride`: elements of a row; columns: of one group in it.
template <class Element>
Status find_bad_row(const std::vector<uint8_t> & bytes, int64_t stride, int64_t columns, KernelCall & call) {
    const auto * const values = reinterpret_cast<const Element *>(bytes.data());
    for (size_t i = 0; i < bytes.size() / sizeof(Element); i++) {
        const float value = to_float(values[i]);
        if (std::isfinite(value)) continue;
        call.bad_row = int64_t(i) / stride;
        return fail(Code::bad_value, "feature ", int64_t(i) % stride % columns, " is ",
                    std::isnan(value) ? "NaN" : "infinite");
    }
    return {};
}

// Reports a NaN or Inf like the CPU, for a tensor on any device.
Status look_at_observed(Backend & device, const StageGraph & stages, const Node & node, KernelCall & call) {
    const StageBuilder::BoundTotal * const total = maxima_of(stages, node);
    if (!total) return {};
    const int64_t groups = stages.graph.value(total->value).shape[0];
    // Op::observe observes its input, other ops their output.
    const Tensor & x = op_of(node.params) == Op::observe ? call.inputs[0] : call.outputs[0];
    const size_t offsets = offsets_input(stages.graph, node);
    const bool has_offsets = offsets < node.inputs.size();
    int32_t used = int32_t(x.shape.rows());
    if (has_offsets) device.download(&used, call.inputs[offsets].as<const int32_t>() + groups, sizeof used);
    GNV_TRY(device.synchronize());
    std::vector<uint8_t> bytes(size_t(tensor_bytes(x.dtype, {used, x.shape.last()})));
    device.download(bytes.data(), x.data, bytes.size());
    GNV_TRY(device.synchronize());
    const int64_t stride = x.shape.last(), columns = has_offsets ? stride : stride / groups;
    return x.dtype == DType::bf16 ? find_bad_row<uint16_t>(bytes, stride, columns, call)
                                  : find_bad_row<float>(bytes, stride, columns, call);
}

} // namespace

// The key of a prepared graph, and the graph.
struct StageRunner::Prepared {
    TextVariant variant;
    std::vector<Stage> wanted;
    BatchShape shape;
    bool apart;
    StageGraph stages;
    std::optional<PreparedGraph> graph;
    std::optional<Places> places; // to which the graph is bound
    uint64_t used = 0;            // when

    Prepared(const TextVariant & variant_, const std::vector<Stage> & wanted_, const BatchShape & shape_, bool apart_,
             const StageOptions & options, DType activation)
        : variant(variant_), wanted(wanted_), shape(shape_), apart(apart_),
          stages(variant, wanted, shape, options, activation) {}
    bool is_for(const TextVariant & variant_, const std::vector<Stage> & wanted_, const BatchShape & shape_,
                bool apart_) const {
        return shape == shape_ && apart == apart_ && variant == variant_ && wanted == wanted_;
    }
};

Result<std::vector<OpWork>> stage_operations(const TextVariant & variant, const std::vector<Stage> & stages,
                                             const BatchShape & shape, const StageOptions & options, DType activation) {
    const StageGraph made(variant, stages, shape, options, activation);
    GNV_TRY(copy_of(made.graph.status()));
    std::vector<OpWork> list;
    for (const Node & node : made.graph.nodes())
        list.push_back({node.label ? node.label : op_name(op_of(node.params)),
                        {node_flops(made.graph, node), node_bytes(made.graph, node)}});
    return list;
}

Result<std::vector<WeightRef>> multiplied_weights(const TextVariant & variant, const std::vector<Stage> & stages,
                                                  const BatchShape & shape, const StageOptions & options,
                                                  DType activation) {
    const StageGraph made(variant, stages, shape, options, activation);
    GNV_TRY(copy_of(made.graph.status()));
    std::vector<WeightRef> multiplied;
    std::set<WeightKey> others;
    for (const StageBuilder::BoundWeight & weight : made.builder.bound_weights) {
        if (weight.input_scale) continue;
        if (weight.ref.role == Role::embedding || !is_only_multiplied(made.graph, weight.value))
            others.insert(weight.ref.key());
        else
            multiplied.push_back(weight.ref);
    }
    std::erase_if(multiplied, [&](const WeightRef & ref) { return others.contains(ref.key()); });
    return multiplied;
}

StageRunner::StageRunner(Backend & device, const StageOptions & options, size_t kept)
    : device_(device), options_(options), kept_(kept) {}
StageRunner::~StageRunner() = default;

// Whether expert_inputs may be in the graph of these stages.
static bool may_join(const StageOptions & options, const std::vector<Stage> & stages) {
    return options.joins_expert_inputs && options.expert_tokens == ExpertTokens::all &&
           std::any_of(stages.begin(), stages.end(),
                       [](const Stage & stage) { return stage.kind == StageKind::experts; });
}

Result<StageRunner::Prepared *> StageRunner::prepare(const TextVariant & variant, const std::vector<Stage> & stages,
                                                     const BatchShape & shape, bool apart) {
    for (size_t i = 0; i < prepared_.size(); i++) { // most often the one that followed last time
        const size_t at = (next_ + i) % prepared_.size();
        if (!prepared_[at]->is_for(variant, stages, shape, apart)) continue;
        next_ = at + 1;
        prepared_[at]->used = ++uses_;
        return prepared_[at].get();
    }
    StageOptions options = options_;
    if (apart) options.joins_expert_inputs = false, options.expert_tile = 1; // little memory
    auto made = std::make_unique<Prepared>(variant, stages, shape, apart, options, device_.activation_dtype());
    GNV_TRY(copy_of(made->stages.graph.status()));
    GNV_ASSIGN(made->graph, PreparedGraph::create(device_, made->stages.graph, made->stages.bound()));
    made->used = ++uses_;
    if (prepared_.size() >= kept_)
        prepared_.erase(std::min_element(prepared_.begin(), prepared_.end(),
                                         [](const auto & a, const auto & b) { return a->used < b->used; }));
    prepared_.push_back(std::move(made));
    next_ = prepared_.size();
    return prepared_.back().get();
}

Result<uint64_t> StageRunner::arena_bytes(const TextVariant & variant, const std::vector<Stage> & stages,
                                          const BatchShape & shape) {
    uint64_t apart = 0;
    if (may_join(options_, stages)) {
        GNV_ASSIGN(const Prepared * const prepared, prepare(variant, stages, shape, true));
        apart = prepared->graph->plan().bytes;
    }
    GNV_ASSIGN(const Prepared * const prepared, prepare(variant, stages, shape));
    return std::max(apart, prepared->graph->plan().bytes);
}

Status StageRunner::run(const StageCall & call, void * arena, uint64_t arena_bytes) {
    const bool apart = call.looks_for_bad_input && may_join(options_, call.stages);
    GNV_ASSIGN(Prepared * const prepared, prepare(call.variant, call.stages, call.shape, apart));
    const StageGraph & stages = prepared->stages;
    PreparedGraph & graph = *prepared->graph;
    GNV_CHECK(graph.plan().bytes <= arena_bytes);
    const std::optional<Places> places = Places::of(call, arena);
    if (!places || places != prepared->places) {
        Binder(stages, call, graph).bind();
        graph.bind_arena(arena);
        prepared->places = places;
    }
    BadValue bad;
    PreparedGraph::Hooks hooks;
    hooks.on_tap = call.on_tap;
    hooks.bad = &bad;
    if (call.looks_for_bad_input)
        hooks.after_node = [&](const Node & node, KernelCall & kernel) {
            return look_at_observed(device_, stages, node, kernel);
        };
    Status status = graph.run(hooks);
    if (!status.ok()) {
        if (bad.node < 0 || !call.bad_input) return status;
        const int64_t chosen = std::max<int64_t>(1, call.variant.model->sizes().experts_per_token);
        GNV_ASSIGN(call.bad_input->position, position_of_row(device_, stages, graph, bad, chosen));
        const auto * const total = maxima_of(stages, graph.graph().nodes()[size_t(bad.node)]);
        if (total) call.bad_input->input = total->key.input;
        return status;
    }
    if (stages.largest != no_value)
        return call.on_largest(graph.tensor_of(stages.largest), graph.tensor_of(stages.graph.second(stages.largest)));
    if (stages.top != no_value)
        return call.on_top(graph.tensor_of(stages.top), graph.tensor_of(stages.graph.second(stages.top)),
                           graph.tensor_of(stages.builder.logits));
    if (stages.builder.logits != no_value && call.on_logits)
        return call.on_logits(graph.tensor_of(stages.builder.logits));
    return {};
}

} // namespace gnv
