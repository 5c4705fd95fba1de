#pragma once

#include <stdint.h>

namespace gnv::cpu {

// Some rows of a weight [.., k] and some rows of x [.., k], each where its pointer says.
struct FewRows {
    const float * const * x; // [count]
    int count;               // at most few_rows_most
    int64_t rows;            // of the weight
    int64_t k;
    float * const * y; // [count]: y[i][r] is the sum over k of x[i][k] * weight[r][k]
};
inline constexpr int few_rows_most = 4;

// Products of few rows: each weight is read once, as it lies. A sum runs in 16 partial sums (column c goes to c mod
// 16), added pairwise: i with i + 8, + 4, + 2, + 1.
struct FewRowsLoops {
    void (*f32)(const FewRows & p, const float * weight);
    void (*bf16)(const FewRows & p, const uint16_t * weight);
    // k divisible by 16. A value is that of its code times scale_values[byte of its block scale].
    void (*nvfp4)(const FewRows & p, const uint8_t * codes, const uint8_t * scales, const float * scale_values);
};

} // namespace gnv::cpu
