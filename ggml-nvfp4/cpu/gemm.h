// Matrix products at full speed on the CPU. Every result is one chain of fused multiply-adds over k in ascending order,
// starting from zero: its bits depend on its row of `a` and its row of the weight alone, not on m, n, threads, blocking
// or the vector width of the processor.
#pragma once

#include "core/tensor.h"
#include "core/thread_pool.h"
#include "cpu/gemm_kernels.h"
#include "graph/ops.h"

#include <vector>

namespace gnv::cpu {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// c[i, j] = sum over k of a[row(i), k] * weight[j, k], for i < m, j < n
struct GemmProblem {
    int64_t m = 0, n = 0, k = 0;
    const float * a = nullptr; // row r starts at a + r * a_stride
    int64_t a_stride = 0;
    const int32_t * a_rows = nullptr; // row(i) = a_rows[i] / a_divisor; null: row(i) = i
    int32_t a_divisor = 1;
    // [n, k] dense: F32, BF16, or NVFP4 (f4) with its scales, which counts as value * block scale, a number of 6 bits; the
    // sum is divided by the global scale.
    Tensor weight;
    const float * input_scale = nullptr; // see LinearParams in graph/ops.h; null: `a` is taken as it is
    float * c = nullptr;                 // row i starts at c + i * c_stride
    int64_t c_stride = 0;
    Precision precision = Precision::f32; // bf16: results are rounded to BF16; `a` is used as it is
    bool bf16_rows = false; // `a` has numbers of BF16, most likely: with PairKernels they are worth more scratch memory

    // Whether both take the same rows of `a`, with the same bits.
    bool shares_rows(const GemmProblem & other) const {
        const bool same_scale =
            input_scale ? other.input_scale && *input_scale == *other.input_scale : !other.input_scale;
        if (m != other.m || k != other.k || !same_scale) return false;
        if (m == 1) return row_of_a(0) == other.row_of_a(0); // such as experts of one token
        return a == other.a && a_stride == other.a_stride && a_rows == other.a_rows && a_divisor == other.a_divisor;
    }
    const float * row_of_a(int64_t i) const { return a + (a_rows ? a_rows[i] / a_divisor : i) * a_stride; }
    // Of the sums with row j of the weight.
    float divisor_of(int64_t j) const {
        const float global = weight.dtype == DType::f4 ? weight.global_scales[j / weight.global_scale_rows] : 1.0f;
        return input_scale ? global * *input_scale : global;
    }
};

// What the scratch memory of gemm() depends on.
struct GemmScratch {
    int64_t rows = 0, k = 0; // of any problem, at most
    bool has_pairs = false;  // whether any problem has bf16_rows or an input scale: its rows stay there as pairs
};
// It must be aligned to a float; 64 bytes are fast.
uint64_t gemm_scratch_bytes(const GemmKernels & kernels, const GemmScratch & scratch, int threads);

// Runs all problems in one parallel region: many small ones (experts) keep all threads busy. Consecutive problems with the same
// rows of `a` are cut as one; as pairs, if k is not above gemm_depth, their rows are packed once.
Status gemm(const GemmProblem * problems, int64_t count, void * scratch, ThreadPool & threads);

// `set` must be one that this processor has. With PairKernels where it has them and they are faster.
const GemmKernels & gemm_kernels_of(InstructionSet set);

// With one implementation; for tests and benchmarks.
const std::vector<const GemmKernels *> & gemm_kernels(); // that run on this processor, fastest first
Status gemm_with(const GemmKernels & kernels, const GemmProblem * problems, int64_t count, void * scratch,
                 ThreadPool & threads);
// The plain loop.
void gemm_reference(const GemmProblem & problem);

} // namespace gnv::cpu
