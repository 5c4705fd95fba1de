// The kernel table of CUDA devices: one entry for each Op of graph/ops.h, null where there is none.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

extern const CudaEntry embedding_entry, mask_rows_entry, rms_norm_entry, gated_rms_norm_entry, add_entry,
    silu_mul_entry, sigmoid_gate_entry, rope_entry, linear_entry, grouped_linear_entry, attention_entry,
    causal_conv_entry, gated_delta_net_entry, router_entry, expert_order_entry, expert_gather_entry,
    expert_combine_entry, observe_entry, count_experts_entry;

const CudaEntry & kernel(Op op);

} // namespace gnv::cuda
