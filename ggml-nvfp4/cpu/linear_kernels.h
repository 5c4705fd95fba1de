// Shared code of linear and grouped_linear on the CPU.
#pragma once

#include "cpu/gemm.h"
#include "cpu/kernels.h"

namespace gnv::cpu {

// The weight [N, K] of a group that lies at `place` of a weight [.., N, K], whose global scales are by group; the same memory.
Tensor weight_of_group(const Tensor & weight, int64_t group, int64_t place);

// Of gemm() for a call with so many rows and these input scales, before tensors have memory.
inline uint64_t gemm_scratch_bytes(const KernelCall & call, int64_t rows, const Tensor & input_scales) {
    const bool has_pairs = call.precision == Precision::bf16 || input_scales.shape.rank > 0;
    return gemm_scratch_bytes(gemm_kernels_of(call.threads->instructions()),
                              {rows, call.inputs[1].shape.last(), has_pairs}, call.threads->size());
}

} // namespace gnv::cpu
