// Screening in plain C++: the codes and bounds of docs/screening.md, of which the CUDA kernels are twins.
#pragma once

#include "graph/screening.h"

#include <cstdint>
#include <vector>

namespace gnv::cpu {

// A rotated row in 8 bits: s * codes, and norms that bound the distance of the row's products from those of the codes.
struct CodedRow {
    std::vector<int8_t> codes;
    float s = 0;
    float norm = 0; // of a weight's row
    // Of a weight's row the norm of its rounding error; of an activation's with its share of other errors, over s.
    float error = 0;
    float codes_norm = 0;   // of an activation's row
    bool is_bounded = true; // else no product with it has a bound
};
CodedRow coded_activation(const float * row, int64_t k);
CodedRow coded_weight(const float * row, int64_t k);

// |x . w - x.s * w.s * sum of products of codes| <= x.s * error_of(x, w), x . w as a kernel computes it.
float error_of(const CodedRow & x, const CodedRow & w);
// What |SiLU(x . gate) * (x . up)|, rounded as expert_inputs rounds it, does not exceed; NaN: there is no bound.
float activation_bound(const CodedRow & x, const CodedRow & gate, const CodedRow & up);
// Whether it may exceed `known`.
bool may_exceed(const CodedRow & x, const CodedRow & gate, const CodedRow & up, float known);

// In place: each block of the largest power of two that divides k becomes its Hadamard transform, which is not
// normalized. Returns the size of a block.
int64_t rotate(float * row, int64_t k);

} // namespace gnv::cpu
