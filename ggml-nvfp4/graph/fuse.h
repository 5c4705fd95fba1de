// Rewrites of a finished graph that save passes over memory and keep every bit. Model files write formulas; this file
// knows the ops that two formulas share.
#pragma once

#include "graph/graph.h"

namespace gnv {

// silu_mul whose result the next node observes for its maximum: one node does both (SiluMulParams::groups).
void fuse(Graph & graph);

} // namespace gnv
