#include "graph/graph.h"

#include "graph/op_rules.h"

namespace gnv {

ValueId Graph::add_value(Value value) {
    values_.push_back(std::move(value));
    owners_.push_back(ValueId(values_.size() - 1));
    return owners_.back();
}

ValueId Graph::input(std::string name, DType dtype, Shape shape) {
    return add_value({Value::Kind::input, dtype, shape, std::move(name), false});
}
ValueId Graph::weight(std::string name, DType dtype, Shape shape) {
    return add_value({Value::Kind::weight, dtype, shape, std::move(name), false});
}
ValueId Graph::state(std::string name, DType dtype, Shape shape) {
    return add_value({Value::Kind::state, dtype, shape, std::move(name), false});
}

// "rms_norm of layer 3: input_layernorm: rows are shorter than the weight (x f32 [70, 256], w f32 [512])"
static Status misfit(const Graph & graph, Op op, const std::string & name, const std::vector<ValueId> & inputs,
                     const char * problem) {
    std::string list;
    for (const ValueId id : inputs) {
        if (!list.empty()) list += ", ";
        if (id == no_value) {
            list += "none";
            continue;
        }
        const Value & value = graph.value(id);
        list += concat(value.name, " ", dtype_name(value.dtype), " ", dims_text(value.shape));
    }
    return fail(Code::model, op_name(op), " ", name, ": ", problem, " (", list, ")");
}

ValueId Graph::add(const OpParams & params, const std::vector<ValueId> & inputs, std::string name) {
    if (!status_.ok()) return no_value;
    const OpRule & rule = op_rule(op_of(params));
    Node node{params, {}, {}, nullptr};
    node.inputs.fill(no_value);
    node.outputs.fill(no_value);
    GNV_CHECK(int(inputs.size()) <= rule.inputs);

    std::array<const Value *, Node::max_inputs> values{};
    for (int i = 0; i < rule.inputs; i++) {
        const ValueId id = size_t(i) < inputs.size() ? inputs[size_t(i)] : no_value;
        node.inputs[size_t(i)] = id;
        if (id != no_value) values[size_t(i)] = &values_[size_t(id)];
        const bool optional = rule.optional >> i & 1, writes = rule.states >> i & 1, reads = rule.caches >> i & 1;
        GNV_CHECK(id != no_value || optional);
        const bool is_state = id != no_value && values_[size_t(id)].kind == Value::Kind::state;
        GNV_CHECK(id == no_value || is_state == writes || (is_state && reads));
    }
    OutputSpec outputs[Node::max_outputs];
    if (const char * problem = rule.check(params, RuleInputs{values.data()}, outputs)) {
        status_ = misfit(*this, op_of(params), name, inputs, problem);
        return no_value;
    }
    for (int i = 0; i < rule.outputs; i++)
        node.outputs[size_t(i)] =
            add_value({Value::Kind::activation, outputs[i].activation ? activation_ : outputs[i].dtype,
                       outputs[i].shape, name, false});
    nodes_.push_back(node);
    return node.outputs[0];
}

void Graph::label(ValueId value, const char * text) {
    if (!status_.ok()) return;
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node)
        if (node->outputs[0] == value) {
            node->label = text;
            return;
        }
    GNV_CHECK(!"label(): no node made the value");
}

ValueId Graph::second(ValueId first) const {
    if (!status_.ok()) return no_value;
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node)
        if (node->outputs[0] == first) return node->outputs[1];
    GNV_CHECK(!"second(): no node made the value");
    return no_value;
}

ValueId Graph::reshape(ValueId id, Shape shape) {
    if (!status_.ok()) return no_value;
    const Value value = values_[size_t(id)];
    GNV_CHECK(shape.elements() == value.shape.elements() && value.kind == Value::Kind::activation);
    const ValueId view = add_value({value.kind, value.dtype, shape, value.name, false});
    owners_[size_t(view)] = owner(id);
    return view;
}

void Graph::tap(ValueId value, Tap tap) {
    if (status_.ok()) taps_.push_back({value, tap});
}

void Graph::refuse(Status status) {
    if (status_.ok()) status_ = std::move(status);
}

static std::array<const Value *, Node::max_inputs> inputs_of(const Graph & graph, const Node & node) {
    std::array<const Value *, Node::max_inputs> values{};
    for (size_t i = 0; i < node.inputs.size(); i++)
        if (node.inputs[i] != no_value) values[i] = &graph.value(node.inputs[i]);
    return values;
}

double node_flops(const Graph & graph, const Node & node) {
    const OpRule & rule = op_rule(op_of(node.params));
    const auto values = inputs_of(graph, node);
    if (rule.flops) return rule.flops(node.params, RuleInputs{values.data()});
    return node.outputs[0] == no_value ? double(values[0]->shape.elements())
                                       : double(graph.value(node.outputs[0]).shape.elements());
}

double node_bytes(const Graph & graph, const Node & node) {
    double bytes = 0;
    const auto count = [&](ValueId id) {
        if (id != no_value) bytes += double(tensor_bytes(graph.value(id).dtype, graph.value(id).shape));
    };
    for (const ValueId id : node.outputs) count(id);
    if (const OpRule & rule = op_rule(op_of(node.params)); rule.bytes) {
        const auto values = inputs_of(graph, node);
        return rule.bytes(node.params, RuleInputs{values.data()}, bytes);
    }
    for (const ValueId id : node.inputs) count(id);
    return bytes;
}

bool is_only_multiplied(const Graph & graph, ValueId weight) {
    for (const Node & node : graph.nodes()) {
        const Op op = op_of(node.params);
        const bool multiplies = op == Op::linear || op == Op::grouped_linear;
        for (size_t i = 0; i < node.inputs.size(); i++)
            if (node.inputs[i] != no_value && graph.owner(node.inputs[i]) == weight && !(multiplies && i == 1))
                return false;
    }
    return true;
}

} // namespace gnv
