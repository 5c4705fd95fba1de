// Rows in 8 bits after a Hadamard rotation, with the norms that bound the error of their products (docs/screening.md).
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// Of each row: q[i] = round(rotated row[i] / s), s = largest magnitude / 127.
struct RotatedRows {
    const bf16 * from; // [rows, k]
    int64_t rows, k;
    int8_t * to;     // [rows, k]
    float4 * bounds; // [rows]
};
bool can_rotate(int64_t k);

// Activations: bounds {a, b, 0.2785 / s, s^2}; weights: bounds {s, w, d, 0}. With the exact dot product q of both
// rows, the BF16 kernel's gate or up lies within s_row * (s * q +- (a * w + b * d)). A row that has no such bound, such
// as one with a NaN, has an infinite a or w.
Status rotate_rows(cudaStream_t stream, const RotatedRows & x);
Status rotate_columns(cudaStream_t stream, const RotatedRows & w);

} // namespace gnv::cuda
