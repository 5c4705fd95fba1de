// Products of few_rows.cuh for many rows (compute capability 9.0).
#pragma once

#include "cuda/few_rows.cuh"

namespace gnv::cuda {

// Of the rows of x as the products take them.
uint64_t many_rows_bytes(int64_t rows, int64_t k);
// Whether these products, of weights of one kind and with one input scale, are faster so.
bool many_rows_are_faster(const CudaContext & context, const FewRowsLinears & call);
// p.scratch: many_rows_bytes(). The bits are those of few_rows_linears().
Status many_rows_linears(const CudaContext & context, const FewRowsLinears & call);

} // namespace gnv::cuda
