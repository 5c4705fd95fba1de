// The kernels of Op::linear and Op::grouped_linear.
#pragma once

#include "exec/kernel.h"

namespace gnv::cpu {

extern const KernelEntry linear_kernel, grouped_linear_kernel;

// Group `group` of a weight [G, N, K] as a weight [N, K]; the same memory.
Tensor weight_of_group(const Tensor & weight, int64_t group);

} // namespace gnv::cpu
