#include "graph/arena.h"

#include "graph/op_rules.h"

#include <algorithm>
#include <numeric>

namespace gnv {

namespace {

uint64_t aligned(uint64_t bytes) {
    return (bytes + ArenaPlan::alignment - 1) / ArenaPlan::alignment * ArenaPlan::alignment;
}

struct Lifetime {
    ValueId value = no_value;
    int64_t first = -1, last = -1; // launches
    uint64_t bytes = 0, offset = 0;
};

// The input whose memory the node may use for its output, or no_value.
ValueId input_in_place(const Graph & graph, const Node & node) {
    const int place = op_rule(op_of(node.params)).in_place;
    if (place < 0 || node.inputs[size_t(place)] == no_value) return no_value;
    const ValueId input = graph.owner(node.inputs[size_t(place)]);
    const auto reads = std::count_if(node.inputs.begin(), node.inputs.end(),
                                     [&](ValueId id) { return id != no_value && graph.owner(id) == input; });
    return reads == 1 ? input : no_value;
}

// `holders` [values]: the value whose memory each owner has: its own, or an earlier value's if a node works in place.
std::vector<Lifetime> find_lifetimes(const Graph & graph, const std::vector<bool> & bound,
                                     const std::vector<int64_t> & launches, std::vector<ValueId> & holders) {
    std::vector<Lifetime> of(graph.values().size());
    const size_t nodes = graph.nodes().size();
    const int64_t end = launches.empty() ? 0 : launches.back() + 1;
    for (size_t n = 0; n < nodes; n++) {
        const Node & node = graph.nodes()[n];
        for (const ValueId id : node.inputs)
            if (id != no_value) of[size_t(graph.owner(id))].last = launches[n];
        for (const ValueId id : node.outputs)
            if (id != no_value) of[size_t(id)].first = of[size_t(id)].last = launches[n];
    }
    const auto runs_alone = [&](size_t n) {
        return (n == 0 || launches[n - 1] != launches[n]) && (n + 1 == nodes || launches[n + 1] != launches[n]);
    };
    std::vector<Lifetime> out;
    for (ValueId id = 0; id < ValueId(of.size()); id++) {
        if (graph.value(id).keep) of[size_t(graph.owner(id))].last = end;
    }
    holders.resize(of.size());
    std::iota(holders.begin(), holders.end(), 0);
    const auto in_arena = [&](ValueId id) { return of[size_t(id)].first >= 0 && !bound[size_t(id)]; };
    for (size_t n = 0; n < nodes; n++) {
        if (!runs_alone(n)) continue;
        const Node & node = graph.nodes()[n];
        const ValueId input = input_in_place(graph, node), output = node.outputs[0];
        if (input == no_value || !in_arena(input) || !in_arena(output) || of[size_t(input)].last != launches[n])
            continue;
        holders[size_t(output)] = holders[size_t(input)];
    }
    for (ValueId id = 0; id < ValueId(of.size()); id++) {
        int64_t & last = of[size_t(holders[size_t(id)])].last;
        last = std::max(last, of[size_t(id)].last);
    }
    for (ValueId id = 0; id < ValueId(of.size()); id++) {
        Lifetime & life = of[size_t(id)];
        if (!in_arena(id) || holders[size_t(id)] != id) continue;
        life.value = id;
        life.bytes = aligned(tensor_bytes(graph.value(id).dtype, graph.value(id).shape));
        out.push_back(life);
    }
    return out;
}

} // namespace

ArenaPlan plan_arena(const Graph & graph, const std::vector<bool> & bound,
                     const std::function<uint64_t(const Node &)> & scratch, const std::vector<int64_t> & launches) {
    ArenaPlan plan;
    plan.offsets.assign(graph.values().size(), -1);
    std::vector<ValueId> holders;
    std::vector<int64_t> own(graph.nodes().size());
    std::iota(own.begin(), own.end(), 0);
    std::vector<Lifetime> open = find_lifetimes(graph, bound, launches.empty() ? own : launches, holders);
    // Large ones first, each at the lowest place that is free for as long as it lives.
    std::stable_sort(open.begin(), open.end(),
                     [](const Lifetime & a, const Lifetime & b) { return a.bytes > b.bytes; });
    std::vector<Lifetime> placed; // by offset
    for (Lifetime & life : open) {
        uint64_t offset = 0;
        for (const Lifetime & other : placed) {
            if (other.last < life.first || life.last < other.first) continue;
            if (offset + life.bytes <= other.offset) break;
            offset = std::max(offset, other.offset + other.bytes);
        }
        life.offset = offset;
        const auto behind =
            std::upper_bound(placed.begin(), placed.end(), life,
                             [](const Lifetime & a, const Lifetime & b) { return a.offset < b.offset; });
        placed.insert(behind, life);
        plan.offsets[size_t(life.value)] = int64_t(offset);
        plan.scratch_offset = std::max(plan.scratch_offset, offset + life.bytes);
    }
    uint64_t largest_scratch = 0;
    for (const Node & node : graph.nodes()) largest_scratch = std::max(largest_scratch, scratch(node));
    plan.bytes = plan.scratch_offset + aligned(largest_scratch);
    for (ValueId id = 0; id < ValueId(graph.values().size()); id++)
        plan.offsets[size_t(id)] = plan.offsets[size_t(holders[size_t(graph.owner(id))])];
    return plan;
}

} // namespace gnv
