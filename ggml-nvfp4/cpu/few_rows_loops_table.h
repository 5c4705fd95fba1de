#pragma once

#include "codec/compact_bf16_layout.h"

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

// NVFP4 weights take rows of x that are padded with zeros to a multiple of so many columns.
inline constexpr int64_t few_rows_spread_columns = 128;
// Block scales count in this unit, in which E4M3 values have the exponents of F16.
inline constexpr float few_rows_scale_unit = 1.0f / 256;

// Products of few rows: each weight is read once, as it lies. A sum runs in 16 partial sums, added pairwise: i with
// i + 8, + 4, + 2, + 1. Of F32 and BF16, column c goes to partial sum c mod 16. Of NVFP4, the eight columns c / 8 make a
// sum of their own (a product, then fused multiply-adds, in the order 4, 0, 5, 1, 6, 2, 7, 3), which times the scale of its block
// goes to partial sum c / 8 mod 16: in W4A4 only that last step rounds.
struct FewRowsLoops {
    void (*f32)(const FewRows & p, const float * weight);
    void (*bf16)(const FewRows & p, const uint16_t * weight);
    void (*compact_bf16)(const FewRows & p, const CompactBf16 & weight); // as bf16
    // k divisible by 16, x from `spread`. scale_values: of each byte of a block scale, times few_rows_scale_unit.
    void (*nvfp4)(const FewRows & p, const uint8_t * codes, const uint8_t * scales, const float * scale_values);
    // x [k] in the order of nvfp4(): in each 128 columns first columns 4, 12, .. 124, then 0, 8, .. 120 and so on; with zeros
    // at the end up to a multiple of 128.
    void (*spread)(const float * x, int64_t k, float * out);

    // The same bits for rows of BF16 numbers, twice as fast, where an instruction makes two steps at once; or null. Rows of x
    // come from spread_pairs, which takes half the room of spread and returns false for a row that has other numbers, or
    // numbers that the instruction would treat otherwise (PairKernels, cpu/gemm_kernels.h): then `out` is of no use.
    void (*nvfp4_pairs)(const FewRows & p, const uint8_t * codes, const uint8_t * scales, const float * scale_values);
    bool (*spread_pairs)(const float * x, int64_t k, float * out);
};

#ifdef __x86_64__
extern const FewRowsLoops few_rows_avx512_bf16; // AVX-512 (F, BW, DQ, VL) with BF16
#endif

} // namespace gnv::cpu
