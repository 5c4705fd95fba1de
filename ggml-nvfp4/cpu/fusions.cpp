#include "cpu/fusions.h"

#include "cpu/few_rows.h"
#include "cpu/linear_kernels.h"
#include "graph/nodes.h"

#include <vector>

namespace gnv::cpu {

namespace {

enum { in_x, in_slots = 2, in_offsets };

// How a node multiplies, if it does nothing else.
struct Product {
    bool is_one = false, grouped = false, few_rows = false;
};

Product product_of(const Nodes & nodes, size_t n) {
    enum { in_input_scale = 2, in_bias, in_input_scales };
    Product product;
    if (const auto * const linear = nodes.as<LinearParams>(n))
        product = {!nodes.has_input(n, in_bias), false, linear->few_rows};
    else if (const auto * const grouped = nodes.as<GroupedLinearParams>(n))
        product = {true, true, grouped->few_rows};
    else
        return product;
    // Scratch memory is planned for one node: enough for rows that all nodes share, not for rows quantized by other scales.
    if (product.few_rows && nodes.has_input(n, product.grouped ? in_input_scales : in_input_scale))
        product.is_one = false;
    return product;
}

bool take_rows_alike(const GroupedLinearParams & a, const GroupedLinearParams & b) {
    return a.row == b.row && a.slots_per_token == b.slots_per_token;
}

// Products of the same rows, of which none needs what another makes: linears or grouped ones.
size_t match_products(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const Product kind = product_of(nodes, first);
    const auto goes_on = [&](size_t n) {
        const Product product = product_of(nodes, n);
        if (!product.is_one || product.grouped != kind.grouped || product.few_rows != kind.few_rows) return false;
        if (graph.nodes()[n].label != graph.nodes()[first].label) return false; // reports name them apart
        if (!(nodes.input(n, in_x).shape == nodes.input(first, in_x).shape)) return false;
        for (const size_t i : {size_t(in_x), size_t(in_slots), size_t(in_offsets)})
            if ((i == in_x || kind.grouped) && !nodes.same_input(n, i, first, i)) return false;
        if (kind.grouped && !take_rows_alike(*nodes.as<GroupedLinearParams>(n), *nodes.as<GroupedLinearParams>(first)))
            return false;
        for (size_t i = 0; i < Node::max_inputs; i++)
            if (nodes.made_among(n, i, first, n)) return false;
        return true;
    };
    size_t end = first;
    while (goes_on(end)) end++;
    return end - first > 1 ? end - first : 0;
}

Status run_products(std::span<KernelCall> calls) {
    return guard_exceptions([&] {
        std::vector<GemmProblem> problems;
        const KernelCall & first = calls[0];
        bool is_few = false;
        if (const auto * const grouped = std::get_if<GroupedLinearParams>(&first.params)) {
            is_few = grouped->few_rows;
            for (int64_t group = 0; group < groups_of(first); group++) // those of the same rows together
                for (const KernelCall & call : calls) add_problem_of_group(call, group, problems);
        } else {
            is_few = first.as<LinearParams>().few_rows;
            for (const KernelCall & call : calls) problems.push_back(problem_of_linear(call));
        }
        return (is_few ? few_rows : gemm)(problems.data(), int64_t(problems.size()), first.scratch, *first.threads);
    });
}

constexpr FusedKernel fused_kernels[] = {
    {nullptr, match_products, run_products},
};

} // namespace

Fusion fusion(const Graph & graph, size_t first) {
    for (const FusedKernel & kernel : fused_kernels)
        if (const size_t nodes = kernel.match(graph, first); nodes > 0) return {&kernel, nodes};
    return {};
}

} // namespace gnv::cpu
