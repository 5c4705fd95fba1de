// Shared code of linear and grouped_linear on the CPU.
#pragma once

#include "cpu/kernels.h"

namespace gnv::cpu {

// Group `group` of a weight [G, N, K] as a weight [N, K]; the same memory.
Tensor weight_of_group(const Tensor & weight, int64_t group);

} // namespace gnv::cpu
