// Products of few rows: see LinearParams in graph/ops.h.
#pragma once

#include "cpu/gemm.h"

namespace gnv::cpu {

// Scratch memory of few_rows() for `rows` rows of `a` in all problems, of at most k columns. Those of consecutive problems with the
// same rows count once.
uint64_t few_rows_scratch_bytes(int64_t rows, int64_t k);

// As gemm(), with sums in 16 parts. Takes the time of reading the weights once, and is not stopped meanwhile.
Status few_rows(const GemmProblem * problems, int64_t count, void * scratch, ThreadPool & threads);

} // namespace gnv::cpu
