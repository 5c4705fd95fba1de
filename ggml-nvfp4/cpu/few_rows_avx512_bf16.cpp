// Products of few rows for processors with AVX-512 (F, BW, DQ, VL) and its BF16 products.
#define GNV_LOOPS_VARIANT avx512_bf16
#include "cpu/few_rows_loops_table.h"
#include "cpu/gemm_kernels.h"

#include "cpu/compact_bf16_loops.h"
#include "cpu/math_loops.h"
// clang-format off
#include "cpu/few_rows_loops.h"
// clang-format on

namespace gnv::cpu {

const FewRowsLoops few_rows_avx512_bf16 = avx512_bf16::few_rows_loops;

} // namespace gnv::cpu
