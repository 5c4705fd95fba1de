// Shared code of linear and grouped_linear on the CPU.
#pragma once

#include "cpu/gemm.h"
#include "cpu/kernels.h"

namespace gnv::cpu {

// The weight [N, K] of a group that lies at `place` of a weight [.., N, K], whose global scales are by group; the same memory.
Tensor weight_of_group(const Tensor & weight, int64_t group, int64_t place);

inline int64_t groups_of(const KernelCall & grouped_linear) { return grouped_linear.inputs[3].shape[0] - 1; }
// The product of a group of a call of grouped_linear, if the group has rows.
void add_problem_of_group(const KernelCall & call, int64_t group, std::vector<GemmProblem> & problems);

// The products of some calls of linear without bias, or of some of grouped_linear with the same groups; those of the first call's
// class, few rows or many, at once.
Status multiply(std::span<KernelCall> calls);

// Of gemm() for a call with so many rows and these input scales, before tensors have memory.
inline uint64_t gemm_scratch_bytes(const KernelCall & call, int64_t rows, const Tensor & input_scales) {
    const bool has_pairs = call.precision == Precision::bf16 || input_scales.shape.rank > 0;
    return gemm_scratch_bytes(gemm_kernels_of(call.threads->instructions()),
                              {rows, call.inputs[1].shape.last(), has_pairs}, call.threads->size());
}

} // namespace gnv::cpu
