#include "cpu/gemm_avx512.h"

namespace gnv::cpu {

namespace {

constexpr int panel_rows = 14; // 28 accumulators, 2 vectors of the weight, 1 of a
constexpr int direct_rows = 12;

} // namespace

} // namespace gnv::cpu

#include "cpu/compact_bf16_loops.h"
#include "cpu/gemm_loops.h"
#include "cpu/gemm_vectors.h"

namespace gnv::cpu {

namespace {

void multiply(const float * a, int64_t a_stride, int rows, const float * b, int64_t panel_stride, int64_t panels,
              int64_t k, bool first, float * c, int64_t c_stride) {
    static constexpr Multiply one_panel[panel_rows] = {
        multiply_vectors<1, 2>,  multiply_vectors<2, 2>,  multiply_vectors<3, 2>,  multiply_vectors<4, 2>,
        multiply_vectors<5, 2>,  multiply_vectors<6, 2>,  multiply_vectors<7, 2>,  multiply_vectors<8, 2>,
        multiply_vectors<9, 2>,  multiply_vectors<10, 2>, multiply_vectors<11, 2>, multiply_vectors<12, 2>,
        multiply_vectors<13, 2>, multiply_vectors<14, 2>};
    // Few rows make few chains: too few to hide the latency of a multiply-add.
    static constexpr Multiply two_panels[] = {multiply_vectors<1, 4>, multiply_vectors<2, 4>};
    int64_t panel = 0;
    if (rows <= 2)
        for (; panel + 2 <= panels; panel += 2)
            two_panels[rows - 1](a, a_stride, b + panel * panel_stride, panel_stride, k, first,
                                 c + panel * panel_columns, c_stride);
    for (; panel < panels; panel++)
        one_panel[rows - 1](a, a_stride, b + panel * panel_stride, panel_stride, k, first, c + panel * panel_columns,
                            c_stride);
}

void multiply_direct(const float * const * a, int rows, const float * b, int64_t k, bool first, float * c,
                     int64_t c_stride) {
    static constexpr MultiplyApart by_rows[direct_rows] = {multiply_apart<1>,  multiply_apart<2>,  multiply_apart<3>,
                                                           multiply_apart<4>,  multiply_apart<5>,  multiply_apart<6>,
                                                           multiply_apart<7>,  multiply_apart<8>,  multiply_apart<9>,
                                                           multiply_apart<10>, multiply_apart<11>, multiply_apart<12>};
    by_rows[rows - 1](a, b, k, first, c, c_stride);
}

} // namespace

const GemmKernels gemm_avx512 = {"avx512",        panel_rows,  panel_columns,     pack_bf16, pack_f32,
                                 pack_nvfp4,      pack_rows,   quantize_row_loop, multiply,  direct_rows,
                                 multiply_direct, finish_loop, unpack_compact};

} // namespace gnv::cpu
