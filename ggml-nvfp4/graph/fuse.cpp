#include "graph/fuse.h"

namespace gnv {

// `second` observes the maximum of the result of `first`, a silu_mul that observes nothing yet.
static bool is_observed_activation(const Node & first, const Node & second) {
    const auto * const activation = std::get_if<SiluMulParams>(&first.params);
    const auto * const observed = std::get_if<ObserveParams>(&second.params);
    return activation && activation->groups == 0 && observed && observed->statistic == &Statistic::maximum &&
           second.inputs[0] == first.outputs[0];
}

void fuse(Graph & graph) {
    std::vector<Node> & nodes = graph.nodes_;
    size_t kept = 0;
    for (size_t n = 0; n < nodes.size(); n++) {
        if (kept > 0 && is_observed_activation(nodes[kept - 1], nodes[n])) {
            Node & activation = nodes[kept - 1];
            activation.params = SiluMulParams{std::get<ObserveParams>(nodes[n].params).groups};
            activation.inputs[2] = nodes[n].inputs[1]; // total
            activation.inputs[3] = nodes[n].inputs[2]; // offsets
            continue;
        }
        if (kept != n) nodes[kept] = nodes[n];
        kept++;
    }
    nodes.erase(nodes.begin() + ptrdiff_t(kept), nodes.end());
}

} // namespace gnv
