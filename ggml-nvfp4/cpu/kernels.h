// The CPU's kernel table: cpu/<op>.cpp defines <op>_entry for each op of graph/ops.h.
#pragma once

#include "exec/kernel.h"

namespace gnv::cpu {

GNV_OPS(GNV_DECLARE_ENTRY)

const KernelEntry & kernel(Op op);

} // namespace gnv::cpu
