// rms_norm of the heads of q and k, and rope of both, of few rows: a warp has a head from the first to the last.
#pragma once

#include "cuda/rope.cuh"

namespace gnv::cuda {

struct NormedHeads { // of q, or of k
    const bf16 * x = nullptr;
    const float * weight = nullptr;
    bf16 *normed = nullptr, *out = nullptr; // [T, heads, D]
    int64_t stride = 0;                     // of a head in x
    int heads = 0;
    float epsilon = 0, offset = 0;
};

inline constexpr int64_t most_normed_head = 1024, most_normed_rows = 1024;

// rope.heads and what follows from it are not read.
Status normed_rope(const CudaContext & context, const NormedHeads & q, const NormedHeads & k, const Rope & rope,
                   const int32_t * positions);

} // namespace gnv::cuda
