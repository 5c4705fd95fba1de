#include "cuda/few_choices.cuh"

#include "cuda/chain.cuh"

namespace gnv::cuda {

template <int each>
static __global__ void __launch_bounds__(most_few_slots) route_few_kernel(RoutedFew p) {
    let_later_start();
    wait_for_earlier();
    route_by_block<each>(p);
}

// The rows of more tokens than that block has warps: a warp each.
template <int each>
static __global__ void __launch_bounds__(warp_size) rows_kernel(RoutedFew p) {
    let_later_start();
    wait_for_earlier();
    route_row<each>(p.logits, p.weights, p.indices, int64_t(blockIdx.x), p.experts, p.chosen);
}

static __global__ void __launch_bounds__(most_few_slots) order_kernel(RoutedFew p) {
    let_later_start();
    wait_for_earlier();
    const int64_t slots = int64_t(p.tokens) * p.chosen;
    order_few({p.indices, slots, slots, p.first, p.count}, p.offsets, p.slots);
}

Status route_few(const CudaContext & context, const RoutedFew & p) {
    const bool is_small = p.experts <= 8 * warp_size;
    if (p.tokens <= most_few_slots / warp_size)
        return launch_chained("router", context, is_small ? route_few_kernel<8> : route_few_kernel<most_router_logits>,
                              1, most_few_slots, 0, p);
    GNV_TRY(launch_chained("router", context, is_small ? rows_kernel<8> : rows_kernel<most_router_logits>,
                           unsigned(p.tokens), warp_size, 0, p));
    return launch_chained("router", context, order_kernel, 1, most_few_slots, 0, p);
}

} // namespace gnv::cuda
