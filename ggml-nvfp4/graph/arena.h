// Places of activations: one block of memory for all of a graph's activations, planned from their lifetimes.
//
//   offset |  node 0   node 1   node 2   node 3
//        0 |  x.................................   kept: lives to the end
//          |  h........ h                          made by node 0, last read by node 1
//          |            q................ q
//          |  (h's bytes are free again)  k.....   reuses them
//   scratch|  behind everything: as much as the node that needs most
//
// A value lives from the node that makes it to the last node that reads it (or a reshape of it, or a tap on it: a tap
// reads right after the node). The output of an op that works in place (graph/op_rules.h) has the memory of its input
// if no later node reads that input. Values that the caller binds take no room.
#pragma once

#include "graph/graph.h"

#include <functional>

namespace gnv {

struct ArenaPlan {
    static constexpr uint64_t alignment = 64;
    std::vector<int64_t> offsets; // by value; -1: not in the arena
    uint64_t scratch_offset = 0;
    uint64_t bytes = 0; // scratch included
};

// `bound`: activations whose memory comes from the caller, by value; `scratch`: bytes that a node needs; `launches`: by node, the
// number of the launch that computes it, in order; empty: each its own. Nodes of one launch run side by side: their inputs and
// outputs share no memory.
ArenaPlan plan_arena(const Graph & graph, const std::vector<bool> & bound,
                     const std::function<uint64_t(const Node &)> & scratch, const std::vector<int64_t> & launches = {});

} // namespace gnv
