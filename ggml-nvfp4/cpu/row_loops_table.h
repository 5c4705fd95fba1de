// The loops of ops on rows and elements; graph/ops.h defines the ops.
//
// Pointers need no alignment. An output may be the very array of an input of as many elements. With `bf16` values are
// rounded as Precision::bf16 asks.
#pragma once

#include <stdint.h>

namespace gnv::cpu {

struct RowLoops {
    void (*exponential)(const float * x, int64_t count, float * y); // exp32 of math_loops.h
    void (*widen_bf16)(const uint16_t * x, int64_t count, float * y);

    // Row r of x starts at x + r * stride; scale [width] is weight_offset + w, both in F32.
    void (*rms_norm)(const float * x, int64_t stride, const float * scale, int64_t rows, int64_t width, float epsilon,
                     bool bf16, float * y);
    void (*gated_rms_norm)(const float * x, const float * w, const float * z, int64_t rows, int64_t width,
                           float epsilon, bool sigmoid, bool bf16, float * y);
    void (*layer_norm)(const float * x, const float * w, const float * b, int64_t rows, int64_t width, float epsilon,
                       bool bf16, float * y);

    void (*add)(const float * a, const float * b, int64_t count, bool bf16, float * y);
    void (*silu_mul)(const float * gate, const float * up, int64_t count, bool bf16, float * y);
    void (*sigmoid_gate)(const float * x, const float * gate, int64_t count, bool bf16, float * y); // a gate for each
    void (*sigmoid_scale)(const float * x, float gate, int64_t count, bool bf16, float * y);        // one for all
    void (*gelu)(const float * x, int64_t count, bool tanh, bool bf16, float * y);
    // y = rows[0] * weights[0] + ... + rows[3] * weights[3], fused, from zero
    void (*blend_four)(const float * const * rows, const float * weights, int64_t count, bool bf16, float * y);

    // One row: chosen <= experts; probabilities [experts] is scratch. The indices are different and in [0, experts) for
    // any logits.
    void (*router)(const float * logits, int64_t experts, int64_t chosen, bool bf16, float * probabilities,
                   float * weights, int32_t * indices);
    // One token: y = sum (zeros when null) + weights[0] * row 0 + ..., where row i starts at rows + indices[i] * width.
    void (*combine)(const float * sum, const float * rows, const int32_t * indices, const float * weights,
                    int64_t count, int64_t width, float * y);

    // The largest bits of a magnitude, as an integer; above 0x7f7fffff with an Inf or a NaN.
    int32_t (*largest_magnitude)(const float * x, int64_t count);
    // Row after row onto total [16, 16]: the products of 16 columns with each other.
    void (*add_products)(const float * x, int64_t stride, int64_t rows, float * total);
};

} // namespace gnv::cpu
