// A warp for each position; logits stay in registers, up to 1024 experts.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int warps_per_block = 8, most_each_lane = 32;

__global__ void router_kernel(const bf16 * logits, float * weights, int32_t * indices, int64_t tokens, int experts,
                              int chosen) {
    const int64_t t = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    if (t >= tokens) return;
    const int each = (experts + warp_size - 1) / warp_size;
    float p[most_each_lane];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < most_each_lane; i++) {
        const int expert = i * warp_size + lane;
        p[i] = i < each && expert < experts ? __bfloat162float(logits[t * experts + expert]) : -INFINITY;
        largest = fmaxf(largest, p[i]);
    }
    for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, step));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < most_each_lane; i++) {
        if (i >= each) continue;
        p[i] = expf(p[i] - largest);
        sum += p[i];
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < most_each_lane; i++)
        if (i < each) p[i] /= sum;
    float total = 0, mine = 0;
    for (int k = 0; k < chosen; k++) {
        float best = -1;
        int best_expert = experts;
#pragma unroll
        for (int i = 0; i < most_each_lane; i++) {
            const int expert = i * warp_size + lane;
            if (i < each && expert < experts && p[i] > best) best = p[i], best_expert = expert;
        }
        for (int step = 16; step > 0; step /= 2) { // of equal ones the lower index
            const float other = __shfl_xor_sync(all_lanes, best, step);
            const int other_expert = __shfl_xor_sync(all_lanes, best_expert, step);
            if (other > best || (other == best && other_expert < best_expert)) best = other, best_expert = other_expert;
        }
        if (best_expert == experts) best_expert = k; // NaN everywhere: distinct experts all the same
#pragma unroll
        for (int i = 0; i < most_each_lane; i++)
            if (i * warp_size + lane == best_expert) p[i] = -2;
        total += best;
        if (lane == k) mine = best;
        if (lane == 0) indices[t * chosen + k] = best_expert;
    }
    if (lane < chosen) weights[t * chosen + lane] = rounded(mine / total);
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const int chosen = int(call.as<RouterParams>().experts_per_token);
    const Shape & shape = call.inputs[0].shape;
    router_kernel<<<blocks_for(shape[0], warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
        call.inputs[0].as<const bf16>(), call.outputs[0].as<float>(), call.outputs[1].as<int32_t>(), shape[0],
        int(shape[1]), chosen);
    return launched("router");
}

Status supports(const KernelCall & call) {
    const int64_t experts = call.inputs[0].shape[1], chosen = call.as<RouterParams>().experts_per_token;
    if (experts <= warp_size * most_each_lane && chosen <= warp_size) return {};
    return fail(Code::unsupported, experts, " experts, ", chosen,
                " of them chosen, are not supported on this device (at most ", warp_size * most_each_lane, " and ",
                warp_size, ")");
}

} // namespace

const KernelEntry router_entry = {run, nullptr, supports};

} // namespace gnv::cuda
