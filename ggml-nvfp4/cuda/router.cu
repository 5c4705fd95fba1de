// A warp for each position; logits stay in registers, up to 1024 experts.
#include "cuda/chain.cuh"
#include "cuda/few_choices.cuh"
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int warps_per_block = 8;

template <int each> // logits of a lane
__global__ void router_kernel(const bf16 * logits, float * weights, int32_t * indices, int64_t tokens, int experts,
                              int chosen) {
    const int64_t t = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    let_later_start();
    wait_for_earlier();
    if (t < tokens) route_row<each>(logits, weights, indices, t, experts, chosen);
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const int chosen = int(call.as<RouterParams>().experts_per_token);
    const Shape & shape = call.inputs[0].shape;
    const auto kernel = shape[1] <= 8 * warp_size ? router_kernel<8> : router_kernel<most_router_logits>;
    return launch_chained("router", context, kernel, blocks_for(shape[0], warps_per_block), warps_per_block * warp_size,
                          0, call.inputs[0].as<const bf16>(), call.outputs[0].as<float>(),
                          call.outputs[1].as<int32_t>(), shape[0], int(shape[1]), chosen);
}

Status supports(const KernelCall & call) {
    const int64_t experts = call.inputs[0].shape[1], chosen = call.as<RouterParams>().experts_per_token;
    if (experts <= warp_size * most_router_logits && chosen <= warp_size) return {};
    return fail(Code::unsupported, experts, " experts, ", chosen,
                " of them chosen, are not supported on this device (at most ", warp_size * most_router_logits, " and ",
                warp_size, ")");
}

} // namespace

const KernelEntry router_entry = {run, nullptr, supports};

} // namespace gnv::cuda
