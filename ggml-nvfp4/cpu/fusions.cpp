#include "cpu/fusions.h"

#include "cpu/linear_kernels.h"
#include "graph/nodes.h"

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

bool take_rows_alike(const Nodes & nodes, size_t n, size_t m) {
    const auto *const a = nodes.as<GroupedLinearParams>(n), *const b = nodes.as<GroupedLinearParams>(m);
    return a->row == b->row && a->slots_per_token == b->slots_per_token && nodes.same_input(n, in_slots, m, in_slots) &&
           nodes.same_input(n, in_offsets, m, in_offsets);
}

// Products of the same rows, of which none needs what another makes: linears or grouped ones.
size_t match_products(const Graph & graph, size_t first) {
    const Nodes nodes(graph);
    const Product kind = product_of(nodes, first);
    const auto goes_on = [&](size_t n) {
        const Product product = product_of(nodes, n);
        if (!product.is_one || product.grouped != kind.grouped || product.few_rows != kind.few_rows) return false;
        if (graph.nodes()[n].label != graph.nodes()[first].label) return false; // reports name them apart
        const bool same_shape = nodes.input(n, in_x).shape == nodes.input(first, in_x).shape;
        if (!nodes.same_input(n, in_x, first, in_x) || !same_shape) return false;
        if (kind.grouped && !take_rows_alike(nodes, n, first)) return false;
        for (size_t i = 0; i < Node::max_inputs; i++)
            if (nodes.made_among(n, i, first, n)) return false;
        return true;
    };
    size_t end = first;
    while (goes_on(end)) end++;
    return end - first > 1 ? end - first : 0;
}

constexpr FusedKernel products = {nullptr, match_products, multiply};

} // namespace

Fusion fusion(const Graph & graph, size_t first) {
    const size_t nodes = products.match(graph, first);
    return nodes > 0 ? Fusion{&products, nodes} : Fusion();
}

} // namespace gnv::cpu
