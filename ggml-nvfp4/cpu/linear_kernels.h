// Shared code of linear and grouped_linear on the CPU.
#pragma once

#include "cpu/kernels.h"

namespace gnv::cpu {

// The weight [N, K] of a group that lies at `place` of a weight [.., N, K], whose global scales are by group; the same memory.
Tensor weight_of_group(const Tensor & weight, int64_t group, int64_t place);

} // namespace gnv::cpu
