// Kernels for nodes that follow each other in a graph: threads that wait for each other between two ops cost as much as small ops do.
// See docs/architecture.md.
#pragma once

#include "exec/kernel.h"

namespace gnv::cpu {

// The kernel that computes the nodes from `first` on, if there is one.
Fusion fusion(const Graph & graph, size_t first);

} // namespace gnv::cpu
