#include "cuda/kernels.cuh"

#include <iterator>

namespace gnv::cuda {

const CudaEntry & kernel(Op op) {
    // In the order of Op.
    static const CudaEntry * const table[] = {
        &embedding_entry,
        &mask_rows_entry,
        &rms_norm_entry,
        &gated_rms_norm_entry,
        &add_entry,
        &silu_mul_entry,
        &sigmoid_gate_entry,
        &rope_entry,
        &linear_entry,
        &grouped_linear_entry,
        &attention_entry,
        &causal_conv_entry,
        &gated_delta_net_entry,
        &router_entry,
        &expert_order_entry,
        &expert_gather_entry,
        &expert_combine_entry,
        &observe_entry,
        &count_experts_entry,
    };
    static_assert(std::size(table) == size_t(Op::count_));
    return *table[size_t(op)];
}

} // namespace gnv::cuda
