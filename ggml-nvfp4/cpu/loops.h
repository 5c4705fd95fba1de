// The inner loops of the CPU's ops, compiled once for each instruction set and chosen at run time.
//
// Each group below is implemented by one header, cpu/<group>_loops.h, that cpu/loops_{portable,avx2,avx512}.cpp include
// with different compiler flags inside a namespace of their own. All variants give the same bits: the loops use IEEE
// operations and explicit fused multiply-adds (cpu/math_loops.h) in an order that is written out; compilers vectorize
// independent operations and never reorder a sum. No function of another header that a linker could share between
// variants may be used there: C headers only.
#pragma once

#include "core/instruction_set.h"
#include "cpu/delta_loops_table.h"
#include "cpu/few_rows_loops_table.h"
#include "cpu/logit_loops_table.h"
#include "cpu/mixer_loops_table.h"
#include "cpu/row_loops_table.h"

#include <vector>

namespace gnv::cpu {

struct Loops {
    const char * name; // "avx512", "avx2", "portable"
    RowLoops rows;
    MixerLoops mixer;
    DeltaLoops delta;
    LogitLoops logits;
    FewRowsLoops few_rows;
};

const std::vector<const Loops *> & all_loops(); // that run on this processor, fastest first; the last is "portable"
const Loops & loops(InstructionSet set);        // which this processor must have

} // namespace gnv::cpu
