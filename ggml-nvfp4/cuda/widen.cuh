// NVFP4 operands of a BF16 product: value times block scale has at most six significant bits, so BF16 holds it exactly; the
// global scales go into the factor of the product.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// weight [rows, columns] as value * block scale, row-major
Status widen_nvfp4(cudaStream_t stream, const uint8_t * codes, const uint8_t * block_scales, int64_t rows,
                   int64_t columns, bf16 * out);
// x [rows, columns], gathered when `gather` is not null (row i is x[gather[i]]), as code * block scale under `input_scale`
// (LinearParams in graph/ops.h)
Status quantize_inputs(cudaStream_t stream, const bf16 * x, const int32_t * gather, int64_t rows, int64_t columns,
                       const float * input_scale, bf16 * out);
// out[0] = 1 / (weight_scale * input_scale), out[1] = 0; a null scale counts as 1
Status product_factor(cudaStream_t stream, const float * weight_scale, const float * input_scale, float * out);

} // namespace gnv::cuda
