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

#include <cstdint>

namespace gnv::cpu {

inline constexpr int64_t gemm_depth = 256;     // largest k of a panel, divisible by 128
inline constexpr int gemm_max_panel_rows = 16; // of any variant
inline constexpr int gemm_max_panel_columns = 32;

// Rows of an NVFP4 weight from some column on, divisible by 16.
struct Nvfp4Rows {
    const uint8_t * codes = nullptr;
    int64_t code_stride = 0; // bytes from one row to the next
    const uint8_t * scales = nullptr;
    int64_t scale_stride = 0;
};

struct GemmKernels {
    const char * name; // "avx512", "avx2", "portable"
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
};

extern const GemmKernels gemm_portable;
#ifdef __x86_64__
extern const GemmKernels gemm_avx2, gemm_avx512;
#endif

} // namespace gnv::cpu
