#include "cuda/few_choices.cuh"

#include "cuda/chain.cuh"

namespace gnv::cuda {

template <int each>
static __global__ void __launch_bounds__(most_few_slots) route_few_kernel(RoutedFew p) {
    let_later_start();
    wait_for_earlier();
    route_by_block<each>(p);
}

Status route_few(const CudaContext & context, const RoutedFew & p) {
    const auto kernel = p.experts <= 8 * warp_size ? route_few_kernel<8> : route_few_kernel<most_router_logits>;
    return launch_chained("router", context, kernel, 1, most_few_slots, 0, p);
}

} // namespace gnv::cuda
