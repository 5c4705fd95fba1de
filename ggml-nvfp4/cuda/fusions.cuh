// Kernels for nodes that follow each other in the graph of a single token, where launches and the time between them cost more than
// the work: docs/architecture.md.
#pragma once

#include "exec/kernel.h"

namespace gnv::cuda {

// The first kernel of the list that computes the nodes from `first` on.
Fusion fusion(const Graph & graph, size_t first);

} // namespace gnv::cuda
