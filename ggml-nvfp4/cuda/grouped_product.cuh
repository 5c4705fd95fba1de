// The products of all experts in one launch.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// out[j] = sum over i of x[row(j), i] * w[g, n, i] for offsets[g] <= j < offsets[g + 1]: BF16, sums in F32. row(j) is rows[j],
// or j without rows. x [.., k], w [groups, n, k], out [slots, n]; 8 divides k. A row's bits depend on nothing but that row.
struct GroupedProduct {
    const bf16 *x, *w;
    const int32_t *rows, *offsets;
    bf16 * out;
    int64_t slots, n, k;
    int groups;
};
// Scratch memory: grouped_product_bytes.
Status grouped_product(cudaStream_t stream, const GroupedProduct & product, void * scratch);
uint64_t grouped_product_bytes(int64_t groups);

} // namespace gnv::cuda
