// The CPU's kernel table.
#pragma once

#include "cpu/linear_kernels.h"
#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"
#include "cpu/row_kernels.h"
#include "exec/kernel.h"

namespace gnv::cpu {

const KernelEntry & kernel(Op op);

} // namespace gnv::cpu
