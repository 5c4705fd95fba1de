// The products of all experts in one launch.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// out[j] = factor(g) * sum over i of x[row(j), i] * w[g, n, i] for offsets[g] <= j < offsets[g + 1]: operands in BF16,
// sums in F32. row(j) is rows[j], or j without rows. x [.., k], w [groups, n, k], out [slots, n]; 8 divides k. A row's
// bits depend on nothing but that row.
struct GroupedProduct {
    const bf16 * x;
    const int32_t *rows, *offsets;
    bf16 * out;
    int64_t slots, n, k;
    int groups;
    // The weights in BF16, or else in NVFP4: 16 divides k then.
    const bf16 * w = nullptr;
    const uint8_t *codes = nullptr, *block_scales = nullptr;
    const float * global_scales = nullptr; // of NVFP4, one for so many experts:
    int64_t experts_a_global_scale = 1;
    // [groups], or null: factor(g) = 1 / (global scale * input scale), of those that exist.
    const float * input_scales = nullptr;
};
constexpr int grouped_product_rows = 128; // of a block

// first_tiles: scratch memory, [groups + 1].
Status grouped_product(const CudaContext & context, const GroupedProduct & product, int32_t * first_tiles);
// The same on compute capability 9.0; NVFP4 weights where 64 divides k.
Status grouped_product_hopper(const CudaContext & context, const GroupedProduct & product, int32_t * first_tiles);

} // namespace gnv::cuda
