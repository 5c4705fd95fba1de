// Products of one row, for one text that goes on token by token. The sums are those of few_rows_product.cuh; the kernels differ in
// when they ask for weights. Each copies what fits of its weights into shared memory or registers before it waits for the kernels
// before it, and lets the next kernel start as soon as its own input is there: that asks for its own weights meanwhile. So memory has
// work while rows are made, sums are added and kernels follow each other.
#pragma once

#include "cuda/few_rows.cuh"

namespace gnv::cuda {

// Whether there is such a kernel for this call: whole units of k, and BF16 weights without input scales.
bool one_row_fits(const CudaContext & context, const FewRowsLinears & call);
// Whether blocks of the next launch can go on beside those of such a call: one on each processor, of at most 256 threads with 64
// registers, and of call.bytes_beside. They start when all launches before this one have ended. How many columns call.made will
// count, or 0: they can not.
int64_t one_row_shares(const CudaContext & context, const FewRowsLinears & call);
// few_rows_linears() and few_rows_linears_beside() of such a call.
Status one_row_linears(const CudaContext & context, const FewRowsLinears & call);
Status one_row_linears_beside(const CudaContext & context, const FewRowsLinears & call, const RoutedFew & route);

// The same for the slots of one token: a pair of products, and the product whose rows are added.
bool one_row_fits(const CudaContext & context, const FewRowsExperts & call);
bool one_row_fits(const CudaContext & context, const FewRowsCombine & call);
Status one_row_experts(const CudaContext & context, const FewRowsExperts & call);
// `behind_pair`: the launch before this one is one_row_experts() of the same slots, and makes nothing that this one reads but its rows.
// That kernel lets this one start when all earlier ones have ended, so the rest may be read at once.
Status one_row_combine(const CudaContext & context, const FewRowsCombine & call, bool behind_pair);

} // namespace gnv::cuda
