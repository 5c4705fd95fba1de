// What the search for fused kernels (exec/kernel.h) asks about the nodes of a graph, which it names by their places.
#pragma once

#include "graph/graph.h"

namespace gnv {

class Nodes {
  public:
    explicit Nodes(const Graph & graph) : graph_(graph) {}
    size_t count() const { return graph_.nodes().size(); }
    // The parameters of node n if it has such; null otherwise, and past the end.
    template <class Params>
    const Params * as(size_t n) const {
        return n < count() ? std::get_if<Params>(&graph_.nodes()[n].params) : nullptr;
    }
    const Value & input(size_t n, size_t i) const { return graph_.value(graph_.nodes()[n].inputs[i]); }
    const Value & output(size_t n) const { return graph_.value(graph_.nodes()[n].outputs[0]); }
    bool has_input(size_t n, size_t i) const { return graph_.nodes()[n].inputs[i] != no_value; }
    // Whether input i of node n is what node m makes, in any shape.
    bool reads(size_t n, size_t i, size_t m) const {
        const ValueId id = graph_.nodes()[n].inputs[i];
        return id != no_value && graph_.owner(id) == graph_.nodes()[m].outputs[0];
    }
    bool same_input(size_t n, size_t i, size_t m, size_t j) const {
        const ValueId a = graph_.nodes()[n].inputs[i], b = graph_.nodes()[m].inputs[j];
        return a != no_value && b != no_value && graph_.owner(a) == graph_.owner(b);
    }
    // Whether input i of node n is made by one of the nodes [first, end).
    bool made_among(size_t n, size_t i, size_t first, size_t end) const {
        for (size_t m = first; m < end; m++)
            for (const ValueId output : graph_.nodes()[m].outputs)
                if (output != no_value && has_input(n, i) && graph_.owner(graph_.nodes()[n].inputs[i]) == output)
                    return true;
        return false;
    }
    bool is_bf16() const { return graph_.activation_dtype() == DType::bf16; }

  private:
    const Graph & graph_;
};

} // namespace gnv
