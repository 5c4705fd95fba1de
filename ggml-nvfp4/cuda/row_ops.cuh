// The formulas of ops on rows, for the ops' own kernels and for kernels that do several ops at once: the
// same bits in both.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// 1 / the root of the mean square of a row, by one warp: from the sums of its lanes, or from the row.
__device__ inline float rms_scale(float sum, int64_t width, float epsilon) {
    return 1.0f / sqrtf(warp_sum(sum) / float(width) + epsilon);
}
template <int lanes>
__device__ float rms_scale(const bf16 * x, int64_t width, float epsilon) {
    float sum = 0, values[lanes];
#pragma unroll 8
    for (int64_t i = threadIdx.x % warp_size * lanes; i < width; i += warp_size * lanes) {
        load_several<lanes>(x + i, values);
#pragma unroll
        for (const float value : values) sum = fmaf(value, value, sum);
    }
    return rms_scale(sum, width, epsilon);
}
__device__ inline float rms_normed(float x, float scale, float weight_offset, float weight) {
    return x * scale * (weight_offset + weight);
}

// Of BF16 numbers.
__device__ inline float silu_mul(float gate, float up) { return rounded(silu(gate)) * up; }
// out[i] = silu_mul of gate[i] and up[i], rounded.
Status activate(const CudaContext & context, const bf16 * gate, const bf16 * up, bf16 * out, int64_t count);
// The same of rows [.., columns]; maxima [groups] rise to the largest magnitudes of rows offsets[g] <= row < offsets[g + 1].
Status activate_observed(const CudaContext & context, const bf16 * gate, const bf16 * up, bf16 * out, int64_t rows,
                         int columns, float * maxima, const int32_t * offsets, int groups);
__device__ inline float sigmoid_gated(float x, float gate) { return x * rounded_sigmoid(gate); }

} // namespace gnv::cuda
