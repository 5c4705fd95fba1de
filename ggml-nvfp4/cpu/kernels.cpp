#include "cpu/kernels.h"

#include <iterator>

namespace gnv::cpu {

const KernelEntry & kernel(Op op) {
    // In the order of Op.
    static const KernelEntry * const table[] = {
        &embedding_kernel,
        &mask_rows_kernel,
        &rms_norm_kernel,
        &gated_rms_norm_kernel,
        &add_kernel,
        &silu_mul_kernel,
        &sigmoid_gate_kernel,
        &rope_kernel,
        &linear_kernel,
        &grouped_linear_kernel,
        &attention_kernel,
        &causal_conv_kernel,
        &gated_delta_net_kernel,
        &router_kernel,
        &expert_order_kernel,
        &expert_gather_kernel,
        &expert_combine_kernel,
        &observe_kernel,
        &count_experts_kernel,
    };
    static_assert(std::size(table) == size_t(Op::count_));
    return *table[size_t(op)];
}

} // namespace gnv::cpu
