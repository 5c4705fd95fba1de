#include "cuda/fusions.cuh"

#include "cuda/attention.cuh"
#include "cuda/few_choices.cuh"
#include "cuda/few_rows.cuh"
#include "cuda/kernels.cuh"
#include "cuda/normed_rope.cuh"
#include "cuda/one_row.cuh"
#include "cuda/one_text_delta.cuh"
#include "graph/attention_inputs.h"
#include "graph/nodes.h"

#include <algorithm>

namespace gnv::cuda {

namespace {

// --- Rows, Linears of them, steps -------------------------------------------------------------------------------------

enum { in_x, in_weight, in_input_scale, in_bias };

bool is_few_rows_linear(const Nodes & nodes, size_t n) {
    const auto * const params = nodes.as<LinearParams>(n);
    if (!params || !params->few_rows) return false;
    const Value &x = nodes.input(n, in_x), &w = nodes.input(n, in_weight);
    const int64_t rows = x.shape.rows(), k = x.shape.last();
    return x.dtype == DType::bf16 && rows > 0 && few_rows_can_read(w.dtype, k);
}
// Whether its blocks can make their rows of x.
bool can_make_rows(const Nodes & nodes, size_t n) {
    const Value & x = nodes.input(n, in_x);
    const int64_t rows = x.shape.rows();
    return rows <= most_few_rows && few_rows_bytes(rows, x.shape.last()) * 2 <= uint64_t(most_row_bytes);
}

constexpr int64_t most_activated = 1024; // numbers of a row that every block activates or gates

// Whether node n makes the rows of the Linear behind it, in a way that few_rows.cuh knows.
bool makes_rows(const Nodes & nodes, size_t n) {
    if (!is_few_rows_linear(nodes, n + 1) || !can_make_rows(nodes, n + 1) || !nodes.reads(n + 1, in_x, n)) return false;
    const Value & x = nodes.input(n + 1, in_x);
    const int64_t rows = x.shape.rows(), k = x.shape.last();
    if (nodes.output(n).shape.elements() != rows * k) return false;
    const Shape & from = nodes.input(n, 0).shape;
    if (nodes.as<RmsNormParams>(n)) {
        const int64_t width = nodes.input(n, 1).shape[0];
        return width == k && k % 8 == 0 && from.last() % 8 == 0 && nodes.input(n, 0).dtype == DType::bf16;
    }
    if (k > most_activated) return false;
    if (const auto * const params = nodes.as<SiluMulParams>(n)) return params->groups == 0 && k % 8 == 0;
    if (const auto * const params = nodes.as<SigmoidGateParams>(n)) {
        const int64_t stride = nodes.input(n, 1).shape.last();
        return stride - params->column != 1 && from.last() % 8 == 0 && stride % 8 == 0 && params->column % 8 == 0;
    }
    return false;
}

// Whether node n goes on with what node n - 1 makes, element by element; `first`: of the kernel's nodes.
bool is_step(const Nodes & nodes, size_t n, size_t first) {
    const size_t before = n - 1;
    if (const auto * const params = nodes.as<SigmoidGateParams>(n)) {
        const Value & gates = nodes.input(n, 1);
        return nodes.reads(n, 0, before) && gates.dtype == DType::bf16 && gates.shape.last() == params->column + 1 &&
               nodes.input(n, 0).shape.last() > 1 && !nodes.made_among(n, 1, first, n);
    }
    if (!nodes.as<AddParams>(n)) return false;
    const size_t mine = nodes.reads(n, 0, before) ? 0 : 1;
    return nodes.reads(n, mine, before) && !nodes.made_among(n, 1 - mine, first, n);
}

size_t match_linears(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const size_t linear = makes_rows(nodes, first) ? first + 1 : first;
    if (!is_few_rows_linear(nodes, linear)) return 0;
    size_t end = linear + 1;
    while (end - linear < size_t(most_few_weights) && is_few_rows_linear(nodes, end) &&
           nodes.same_input(end, in_x, linear, in_x) &&
           nodes.input(end, in_x).shape.last() == nodes.input(linear, in_x).shape.last())
        end++;
    if (end == linear + 1)
        while (end - linear - 1 < size_t(most_row_steps) && is_step(nodes, end, first)) end++;
    return end - first > 1 ? end - first : 0;
}

RowSource source_of(const KernelCall & call) {
    RowSource source;
    source.x = call.inputs[0].as<const bf16>();
    source.out = call.outputs[0].as<bf16>();
    source.second = call.inputs[1].as<const bf16>();
    source.width = call.inputs[0].shape.last();
    if (const auto * const params = std::get_if<RmsNormParams>(&call.params)) {
        source.kind = RowSource::Kind::rms_norm;
        source.weight = call.inputs[1].as<const float>();
        source.stride = source.width;
        source.epsilon = params->epsilon, source.offset = params->weight_offset;
    } else if (const auto * const gate = std::get_if<SigmoidGateParams>(&call.params)) {
        source.kind = RowSource::Kind::sigmoid_gate;
        source.stride = call.inputs[1].shape.last(), source.column = gate->column;
    } else {
        source.kind = RowSource::Kind::silu_mul;
    }
    return source;
}

// `made`: what the step before made.
RowStep step_of(const KernelCall & call, const void * made) {
    RowStep step;
    step.out = call.outputs[0].as<bf16>();
    if (const auto * const gate = std::get_if<SigmoidGateParams>(&call.params)) {
        step.kind = RowStep::Kind::gate;
        step.operand = call.inputs[1].data;
        step.stride = call.inputs[1].shape.last(), step.column = gate->column;
        return step;
    }
    const Tensor & other = call.inputs[call.inputs[0].data == made ? 1 : 0];
    step.operand = other.data, step.in_f32 = other.dtype == DType::f32;
    return step;
}

FewRowsLinears linears_of(std::span<KernelCall> calls) {
    FewRowsLinears p;
    const void * made = nullptr;
    for (const KernelCall & call : calls) {
        if (std::holds_alternative<LinearParams>(call.params)) {
            const Tensor & x = call.inputs[in_x];
            p.rows = x.shape.rows(), p.k = x.shape.last();
            p.scratch = static_cast<bf16 *>(call.scratch);
            if (p.source.kind == RowSource::Kind::plain) p.source.x = x.as<const bf16>();
            p.weights[p.count++] =
                few_rows_weight(call.inputs[in_weight], call.inputs[in_input_scale].as<const float>(),
                                call.inputs[in_bias].as<const float>(), call.outputs[0].data);
        } else if (p.count == 0) {
            p.source = source_of(call);
        } else {
            p.step[p.steps++] = step_of(call, made);
        }
        made = call.outputs[0].data;
    }
    return p;
}

Status run_linears(std::span<KernelCall> calls) {
    return few_rows_linears(*static_cast<CudaContext *>(calls[0].context), linears_of(calls));
}

// --- Heads ------------------------------------------------------------------------------------------------------------

bool same_turns(const RopeParams & a, const RopeParams & b) {
    return a.head == b.head && a.rotary == b.rotary && a.theta == b.theta && a.axial == b.axial && a.yarn == b.yarn &&
           std::equal(a.section, a.section + 3, b.section);
}

// rms_norm of q, of k, rope of q, of k.
size_t match_normed_rope(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const auto *turn_q = nodes.as<RopeParams>(first + 2), *turn_k = nodes.as<RopeParams>(first + 3);
    if (!turn_q || !turn_k || !same_turns(*turn_q, *turn_k) || !nodes.is_bf16()) return 0;
    for (const size_t n : {first, first + 1}) {
        const RopeParams & turn = n == first ? *turn_q : *turn_k;
        if (!nodes.as<RmsNormParams>(n) || !nodes.reads(n + 2, 0, n) || turn.column != 0 || turn.heads != 0) return 0;
        const int64_t width = nodes.input(n, 1).shape[0], stride = nodes.input(n, 0).shape.last();
        if (width != turn.head || width % 8 != 0 || stride % 8 != 0 || width > most_normed_head) return 0;
    }
    const int64_t rows = nodes.input(first + 2, 0).shape[0];
    const bool same = rows == nodes.input(first + 3, 0).shape[0] && nodes.same_input(first + 2, 1, first + 3, 1);
    return same && rows > 0 && rows <= most_normed_rows ? 4 : 0;
}

MadeHeads heads_of(std::span<KernelCall> calls) {
    NormedHeads heads[2];
    for (size_t i = 0; i < 2; i++) {
        const auto & params = calls[i].as<RmsNormParams>();
        const Tensor & x = calls[i].inputs[0];
        heads[i].x = x.as<const bf16>();
        heads[i].weight = calls[i].inputs[1].as<const float>();
        heads[i].normed = calls[i].outputs[0].as<bf16>();
        heads[i].out = calls[i + 2].outputs[0].as<bf16>();
        heads[i].stride = x.shape.last();
        heads[i].heads = int(x.shape.rows() / calls[i + 2].inputs[0].shape[0]);
        heads[i].epsilon = params.epsilon, heads[i].offset = params.weight_offset;
    }
    return {heads[0], heads[1], rope_of(calls[2]), calls[2].inputs[1].as<const int32_t>()};
}

Status run_normed_rope(std::span<KernelCall> calls) {
    const MadeHeads heads = heads_of(calls);
    return normed_rope(*static_cast<CudaContext *>(calls[0].context), heads.q, heads.k, heads.rope, heads.positions);
}

// Attention of one position a segment, and its gate.
size_t match_gated_attention(const Graph & graph, size_t first) {
    using namespace attention_inputs;
    const Nodes nodes(graph);
    const auto * const attention = nodes.as<AttentionParams>(first);
    const auto * const gate = nodes.as<SigmoidGateParams>(first + 1);
    if (!attention || !gate || !nodes.is_bf16() || !nodes.reads(first + 1, 0, first) ||
        !attention_can_gate(*attention, nodes.has_input(first, in_cache_k)) ||
        nodes.made_among(first + 1, 1, first, first + 1))
        return 0;
    const Value & gates = nodes.input(first + 1, 1);
    const bool by_head = nodes.input(first + 1, 0).shape.last() == attention->head &&
                         gates.shape.last() - gate->column >= attention->head && gates.dtype == DType::bf16;
    return by_head ? 2 : 0;
}

AttentionGate gate_of(const KernelCall & call) {
    const Tensor & gates = call.inputs[1];
    return {gates.as<const bf16>() + call.as<SigmoidGateParams>().column, gates.shape.last(),
            call.outputs[0].as<bf16>()};
}

Status run_gated_attention(std::span<KernelCall> calls) {
    return attention_gated(calls[0], nullptr, gate_of(calls[1]));
}

// The same with the norm and rope before it, behind a product.
size_t match_heads_attention(const Graph & graph, size_t first) {
    using namespace attention_inputs;
    const Nodes nodes(graph);
    const size_t heads = match_normed_rope(graph, first), at = first + heads;
    if (heads == 0 || first == 0 || !nodes.as<LinearParams>(first - 1)) return 0;
    const size_t gated = match_gated_attention(graph, at);
    if (gated == 0 || !nodes.reads(at, in_q, first + 2) || !nodes.reads(at, in_k, first + 3) ||
        nodes.as<RopeParams>(first + 2)->head != nodes.as<AttentionParams>(at)->head)
        return 0;
    for (size_t i = in_v; i < Node::max_inputs; i++)
        if (nodes.made_among(at, i, first, at)) return 0;
    return nodes.made_among(at + 1, 1, first, at) ? 0 : heads + gated;
}

Status run_heads_attention(std::span<KernelCall> calls) {
    const MadeHeads heads = heads_of(calls);
    return attention_gated(calls[4], &heads, gate_of(calls[5]));
}

// Both: blocks of attention start beside those of the products.
size_t match_products_attention(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const size_t linears = match_linears(graph, first),
                 attention = linears > 0 ? match_heads_attention(graph, first + linears) : 0;
    if (attention == 0) return 0;
    const size_t linear = nodes.as<LinearParams>(first) ? first : first + 1;
    const bool from_first = nodes.reads(first + linears, 0, linear) && nodes.input(linear, in_x).shape.rows() == 1;
    return from_first ? linears + attention : 0;
}

Status run_products_attention(std::span<KernelCall> calls) {
    constexpr size_t attention = 4, gate = 5; // behind the products
    const size_t linears = calls.size() - gate - 1;
    const CudaContext & context = *static_cast<CudaContext *>(calls[0].context);
    FewRowsLinears products = linears_of(calls.first(linears));
    const std::span<KernelCall> others = calls.subspan(linears);
    MadeHeads heads = heads_of(others);
    products.period = heads.q.stride, products.needed = calls.back().inputs[0].shape.last(); // the others are gates
    products.bytes_beside = attention_bytes_beside(others[attention]);
    if (products.bytes_beside > 0) heads.all = uint32_t(one_row_shares(context, products));
    if (heads.all > 0) {
        products.made = heads.made = context.made;
    } else {
        products.bytes_beside = 0;
    }
    GNV_TRY(few_rows_linears(context, products));
    Status status = attention_gated(others[attention], &heads, gate_of(others[gate]));
    if (!status.ok() && heads.made) // what would have set the count to 0 again is not there
        (void)cudaMemsetAsync(heads.made, 0, sizeof(*heads.made), context.stream);
    return status;
}

// --- Experts ----------------------------------------------------------------------------------------------------------

enum { in_slots = 2, in_offsets, in_input_scales, in_places };

bool is_few_rows_expert(const Nodes & nodes, size_t n) {
    const auto * const params = nodes.as<GroupedLinearParams>(n);
    if (!params || !params->few_rows || !nodes.is_bf16()) return false;
    const Value & w = nodes.input(n, in_weight);
    return few_rows_can_read(w.dtype, w.shape.last());
}

// The choice of experts, and the order of their slots.
size_t match_route(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const auto * const router = nodes.as<RouterParams>(first);
    if (!router || !nodes.as<ExpertOrderParams>(first + 1) || !nodes.is_bf16()) return 0;
    const Shape & logits = nodes.input(first, 0).shape;
    const ValueId indices = graph.nodes()[first].outputs[1], ordered = graph.nodes()[first + 1].inputs[0];
    const bool fits = logits[0] * router->experts_per_token <= most_few_slots &&
                      logits[1] <= int64_t(most_router_logits) * warp_size && router->experts_per_token <= warp_size;
    return fits && graph.owner(ordered) == indices ? 2 : 0;
}

RoutedFew route_of(std::span<KernelCall> calls) {
    const KernelCall &router = calls[0], &order = calls[1];
    const auto & params = order.as<ExpertOrderParams>();
    const Shape & logits = router.inputs[0].shape;
    return {router.inputs[0].as<const bf16>(),
            router.outputs[0].as<float>(),
            router.outputs[1].as<int32_t>(),
            int(logits[0]),
            int(logits[1]),
            int(router.as<RouterParams>().experts_per_token),
            order.outputs[1].as<int32_t>(),
            order.outputs[0].as<int32_t>(),
            params.first,
            int(params.count)};
}

Status run_route(std::span<KernelCall> calls) {
    return route_few(*static_cast<CudaContext *>(calls[0].context), route_of(calls));
}

// The same beside products of one row that have nothing to do with it.
size_t match_route_beside(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const size_t route = match_route(graph, first), linears = route > 0 ? match_linears(graph, first + route) : 0;
    const size_t begin = first + route, end = begin + linears;
    if (linears == 0 || nodes.input(first, 0).shape[0] != 1) return 0;
    int64_t products = 0;
    for (size_t n = begin; n < end; n++) {
        for (size_t i = 0; i < Node::max_inputs; i++)
            if (nodes.made_among(n, i, first, begin)) return 0;
        if (!nodes.as<LinearParams>(n)) continue;
        if (++products > 1 || nodes.input(n, in_x).shape.rows() != 1) return 0;
    }
    return end - first;
}

Status run_route_beside(std::span<KernelCall> calls) {
    return few_rows_linears_beside(*static_cast<CudaContext *>(calls[0].context), linears_of(calls.subspan(2)),
                                   route_of(calls));
}

// Two products of the same rows, and their activation.
size_t match_expert_pair(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    if (!is_few_rows_expert(nodes, first) || !is_few_rows_expert(nodes, first + 1)) return 0;
    const auto *one = nodes.as<GroupedLinearParams>(first), *two = nodes.as<GroupedLinearParams>(first + 1);
    const auto * const activation = nodes.as<SiluMulParams>(first + 2);
    const Value &w = nodes.input(first, in_weight), &other = nodes.input(first + 1, in_weight);
    if (!activation || activation->groups != 0 || one->row != two->row ||
        one->slots_per_token != two->slots_per_token || w.dtype != other.dtype || !(w.shape == other.shape) ||
        nodes.has_input(first, in_input_scales) != nodes.has_input(first + 1, in_input_scales) ||
        nodes.has_input(first, in_places) != nodes.has_input(first + 1, in_places) ||
        (nodes.has_input(first, in_places) && !nodes.same_input(first, in_places, first + 1, in_places)))
        return 0;
    for (const size_t i : {size_t(in_x), size_t(in_slots), size_t(in_offsets)})
        if (!nodes.same_input(first, i, first + 1, i)) return 0;
    return nodes.reads(first + 2, 0, first) && nodes.reads(first + 2, 1, first + 1) ? 3 : 0;
}

FewRowsExperts pair_of(std::span<KernelCall> calls) {
    FewRowsExperts p = few_rows_experts_of(calls[0]);
    p.second = few_rows_experts_of(calls[1]).weight;
    p.activation = calls[2].outputs[0].as<bf16>();
    return p;
}

Status run_expert_pair(std::span<KernelCall> calls) {
    return few_rows_experts(*static_cast<CudaContext *>(calls[0].context), pair_of(calls));
}

// A product of the slots' own rows, their sum by token, and what is added to it.
size_t match_expert_sum(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    if (!is_few_rows_expert(nodes, first) || !nodes.as<ExpertCombineParams>(first + 1)) return 0;
    const auto * const params = nodes.as<GroupedLinearParams>(first);
    if (params->row != GroupedLinearParams::Row::own || !nodes.reads(first + 1, 1, first)) return 0;
    const Shape & weights = nodes.input(first + 1, 4).shape; // [T, k]
    if (weights[1] > most_combined || !nodes.same_input(first, in_slots, first + 1, 2) ||
        !nodes.same_input(first, in_offsets, first + 1, 3))
        return 0;
    size_t end = first + 2;
    while (end - first - 2 < size_t(most_row_steps) && nodes.as<AddParams>(end) && is_step(nodes, end, first)) end++;
    return end - first;
}

FewRowsCombine sum_of(std::span<KernelCall> calls) {
    const KernelCall & sum = calls[1];
    FewRowsCombine p;
    p.experts = few_rows_experts_of(calls[0]);
    p.sum = sum.inputs[0].as<const float>();
    p.weights = sum.inputs[4].as<const float>();
    p.tokens = sum.inputs[4].shape[0], p.chosen = sum.inputs[4].shape[1];
    p.out = sum.outputs[0].as<float>();
    const void * made = p.out;
    for (const KernelCall & call : calls.subspan(2)) {
        p.step[p.steps++] = step_of(call, made);
        made = call.outputs[0].data;
    }
    return p;
}

Status run_expert_sum(std::span<KernelCall> calls) {
    return few_rows_combine(*static_cast<CudaContext *>(calls[0].context), sum_of(calls));
}

// Both, one launch behind the other: all that the sum reads but its rows was there before the pair.
size_t match_experts(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const size_t pair = match_expert_pair(graph, first), down = first + pair;
    const size_t sum = pair > 0 ? match_expert_sum(graph, down) : 0;
    if (sum == 0 || !nodes.reads(down, in_x, down - 1)) return 0;
    for (size_t n = down; n < down + sum; n++)
        for (size_t i = 0; i < Node::max_inputs; i++)
            if (!(n == down && i == in_x) && nodes.made_among(n, i, first, down)) return 0;
    const bool same_slots =
        nodes.same_input(down, in_slots, first, in_slots) && nodes.same_input(down, in_offsets, first, in_offsets);
    return same_slots ? pair + sum : 0;
}

Status run_experts(std::span<KernelCall> calls) {
    const CudaContext & context = *static_cast<CudaContext *>(calls[0].context);
    const FewRowsExperts pair = pair_of(calls.first(3));
    const FewRowsCombine sum = sum_of(calls.subspan(3));
    GNV_TRY(few_rows_experts(context, pair));
    if (one_row_fits(context, pair) && one_row_fits(context, sum)) return one_row_combine(context, sum, true);
    return few_rows_combine(context, sum);
}

// --- Gated DeltaNet ---------------------------------------------------------------------------------------------------

// The convolution, Gated DeltaNet and its norm, for texts that go on by one position.
size_t match_delta(const Graph & graph, size_t first) {
    enum { in_qkv, in_history = 3, in_gate = 2 };
    constexpr size_t of_conv[] = {2, 4}, of_delta[] = {5, 7}; // segments, slots
    const Nodes nodes(graph);
    const auto * const conv = nodes.as<CausalConvParams>(first);
    const auto * const delta = nodes.as<GatedDeltaNetParams>(first + 1);
    if (!conv || !delta || !nodes.as<GatedRmsNormParams>(first + 2) || !conv->one_position || !delta->one_position)
        return 0;
    for (const size_t i : {0, 1}) {
        const bool here = nodes.has_input(first, of_conv[i]), there = nodes.has_input(first + 1, of_delta[i]);
        if (here != there || (here && !nodes.same_input(first, of_conv[i], first + 1, of_delta[i]))) return 0;
    }
    return nodes.is_bf16() && nodes.has_input(first, in_history) && nodes.reads(first + 1, in_qkv, first) &&
                   nodes.reads(first + 2, 0, first + 1) && !nodes.made_among(first + 2, in_gate, first, first + 2)
               ? 3
               : 0;
}

Status run_delta(std::span<KernelCall> calls) {
    const CudaContext & context = *static_cast<CudaContext *>(calls[0].context);
    KernelCall &conv = calls[0], &delta = calls[1], &norm = calls[2];
    const Delta sizes = delta_sizes(delta);
    const DeltaTensors tensors = delta_tensors(delta);
    if (one_text_delta_fits(context, sizes, tensors, int(conv.inputs[1].shape.last()))) {
        const auto & gate = norm.as<GatedRmsNormParams>();
        const ConvStep step = {conv.inputs[0].as<const bf16>(), conv.inputs[1].as<const float>(),
                               conv.inputs[3].as<float>(), conv.outputs[0].as<bf16>()};
        return one_text_delta(context, step, sizes, tensors,
                              {norm.inputs[1].as<const float>(), norm.inputs[2].as<const bf16>(),
                               norm.outputs[0].as<bf16>(), gate.epsilon, gate.sigmoid});
    }
    GNV_TRY(causal_conv_entry.run(conv));
    GNV_TRY(gated_delta_net_entry.run(delta));
    return gated_rms_norm_entry.run(norm);
}

constexpr FusedKernel fused_kernels[] = {
    {"linears of few rows, normed heads, rope, attention, gate", match_products_attention, run_products_attention},
    {"linears of few rows", match_linears, run_linears},
    {"normed heads, rope, attention, gate", match_heads_attention, run_heads_attention},
    {"normed heads, rope", match_normed_rope, run_normed_rope},
    {"attention, gate", match_gated_attention, run_gated_attention},
    {"router, order, linear", match_route_beside, run_route_beside},
    {"router, order", match_route, run_route},
    {"experts", match_experts, run_experts},
    {"expert gate, up, SiLU", match_expert_pair, run_expert_pair},
    {"expert down, sum", match_expert_sum, run_expert_sum},
    {"convolution, gated_delta_net, norm", match_delta, run_delta},
};

} // namespace

Fusion fusion(const Graph & graph, size_t first) {
    for (const FusedKernel & kernel : fused_kernels)
        if (const size_t nodes = kernel.match(graph, first); nodes > 0) return {&kernel, nodes};
    return {};
}

} // namespace gnv::cuda
