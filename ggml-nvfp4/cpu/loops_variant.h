// One variant of cpu/loops.h. Included by a file that is compiled for one instruction set and defines before
//   GNV_LOOPS_VARIANT     the namespace, GNV_LOOPS_TABLE the table's name, GNV_LOOPS_NAME its name for people
#include "cpu/loops.h"

#include "cpu/compact_bf16_loops.h"
#include "cpu/math_loops.h"
// clang-format off
#include "cpu/row_loops.h"
#include "cpu/mixer_loops.h"
#include "cpu/delta_loops.h"
#include "cpu/logit_loops.h"
#include "cpu/few_rows_loops.h"
// clang-format on

namespace gnv::cpu {

extern const Loops GNV_LOOPS_TABLE;
const Loops GNV_LOOPS_TABLE = {GNV_LOOPS_NAME,
                               GNV_LOOPS_VARIANT::row_loops,
                               GNV_LOOPS_VARIANT::mixer_loops,
                               GNV_LOOPS_VARIANT::delta_loops,
                               GNV_LOOPS_VARIANT::logit_loops,
                               GNV_LOOPS_VARIANT::few_rows_loops};

} // namespace gnv::cpu
