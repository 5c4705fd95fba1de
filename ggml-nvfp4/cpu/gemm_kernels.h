// The inner loops of cpu/gemm.h, one table for each instruction set.
//
// A panel of the weight holds `panel_columns` rows of it, widened to F32 and transposed: value [k, panel_columns]. A
// panel of `a` holds up to `panel_rows` rows: value [k, rows]. Every variant computes the same chain of fused
// multiply-adds for an element of the result, so their bits are equal.
//
// The files behind the vector variants are compiled for processors that the rest of the library does not require: they
// include this header, cpu/gemm_{loops,vectors}.h, codec/nvfp4_variants.h, C headers and intrinsics, and share no
// inline function with other files.
#pragma once

#include "codec/compact_bf16_layout.h"

#include <cstdint>

namespace gnv::cpu {

inline constexpr int64_t gemm_depth = 1024;    // largest k of a panel, divisible by 128
inline constexpr int gemm_max_panel_rows = 16; // of any variant
inline constexpr int gemm_max_panel_columns = 32;

// Rows of an NVFP4 weight from some column on, divisible by 16.
struct Nvfp4Rows {
    const uint8_t * codes = nullptr;
    int64_t code_stride = 0; // bytes from one row to the next
    const uint8_t * scales = nullptr;
    int64_t scale_stride = 0;
};

// What becomes of a sum that is complete: see GemmKernels::finish.
struct Finish {
    float divisor = 1.0f;
    bool round_to_bf16 = false;
};

// Products of BF16 numbers: one instruction makes two steps of a chain of multiply-adds. Two numbers lie in a word, that
// of the earlier step in its upper half; of an odd k the last one is 0. The instruction is no other arithmetic than that
// of GemmKernels, except subnormal numbers, which it takes and leaves as zeros. They are kept out, so bits are the same:
//   If no number of one panel, zeros aside, lies below 2^x and none of another below 2^y, and none is subnormal, then all
//   products are multiples of 2^(x - 7) * 2^(y - 7), since a BF16 number has 7 bits after its first. So are all sums of
//   them, rounded or not. With x + y - 14 >= -126 such a sum is 0 or no smaller than the least normal number.
// That holds for a sum from its first step on, so a result may leave this way at any step, but never come back to it.
// Infinities and NaNs among the operands are kept out, too: which NaN a chain ends in is left to compilers.
constexpr int least_pair_exponents = -126 + 14; // x + y
constexpr int not_for_pairs = -1000;            // in place of x or y: less than any other could make up for
// Words from one row of a panel of `a` to the next, with k steps. Loops know it when they are compiled, so there are three.
static constexpr int64_t pair_stride(int64_t k) { return k <= 256 ? 128 : k <= 512 ? 256 : gemm_depth / 2; }

struct PairKernels {
    // Panels as those of GemmKernels have them, but that rows of `a` lie one by one: [row, k / 2]; and of the weight
    // [k / 2, panel_columns]. They return the exponent x of what they packed, or not_for_pairs.
    int (*pack_rows)(const float * const * rows, int count, int64_t k, uint32_t * panel);
    int (*pack_bf16)(const uint16_t * weight, int64_t stride, int rows, int64_t k, uint32_t * panel);
    int (*pack_nvfp4)(const Nvfp4Rows & weight, int rows, int64_t k, uint32_t * panel);
    // With `finish` the sums are complete, and finished before they are stored.
    void (*multiply)(const uint32_t * a, int rows, const uint32_t * b, int64_t panel_stride, int64_t panels, int64_t k,
                     bool first, const Finish * finish, float * c, int64_t c_stride);
    bool (*keep_the_chain)(); // whether this processor's instruction does what is said above; it must have it
};

struct GemmKernels {
    const char * name; // "avx512_bf16", "avx512", "avx2", "portable"
    int panel_rows, panel_columns;

    // The first `rows` <= panel_columns rows of a weight, k <= gemm_depth columns of each, as a panel; missing rows are
    // zeros. `stride` in elements. NVFP4: k is divisible by 16. Pointers need no alignment, panels that of a float.
    void (*pack_bf16)(const uint16_t * weight, int64_t stride, int rows, int64_t k, float * panel);
    void (*pack_f32)(const float * weight, int64_t stride, int rows, int64_t k, float * panel);
    void (*pack_nvfp4)(const Nvfp4Rows & weight, int rows, int64_t k, float * panel);

    // A panel of `count` <= panel_rows rows of `a`. It may write gemm_max_panel_rows floats beyond the panel's end.
    void (*pack_rows)(const float * const * rows, int count, int64_t k, float * panel);
    // Replaces x [k], k divisible by 16, by its W4A4 codes * scales: see LinearParams in graph/ops.h.
    void (*quantize_row)(const float * x, int64_t k, float input_scale, float * out);

    // c [rows, panels * panel_columns] = (first ? 0 : c) + a * panels; a: value [k, rows], one k every a_stride floats;
    // b: `panels` panels, one every panel_stride floats.
    void (*multiply)(const float * a, int64_t a_stride, int rows, const float * b, int64_t panel_stride, int64_t panels,
                     int64_t k, bool first, float * c, int64_t c_stride);
    // The same of one panel, with rows of `a` as they lie: a[row][k], `rows` <= direct_rows. For products of few columns, where
    // a panel of `a` would not be used often enough to repay its making.
    int direct_rows;
    void (*multiply_direct)(const float * const * a, int rows, const float * b, int64_t k, bool first, float * c,
                            int64_t c_stride);
    // c[i] = c[i] / divisor, unless that is 1; then rounded to BF16 with round_to_bf16.
    void (*finish)(float * c, int64_t count, float divisor, bool round_to_bf16);
    // Rows [row, row + rows), `columns` of each from k on, as BF16 [rows, columns]. k and columns are divisible by 64.
    void (*unpack_compact)(const CompactBf16 & weight, int64_t row, int rows, int64_t k, int64_t columns,
                           uint16_t * out);
    const PairKernels * pairs = nullptr; // with the same panel_rows and panel_columns
};

extern const GemmKernels gemm_portable;
#ifdef __x86_64__
extern const GemmKernels gemm_avx2, gemm_avx512;
extern const PairKernels pairs_avx512_bf16; // AVX512_BF16 and AVX512_VBMI
#endif

} // namespace gnv::cpu
