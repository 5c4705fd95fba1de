#include "cuda/kernels.cuh"

namespace gnv::cuda {

// Integer atomics: any order gives the same.
static __global__ void count_experts_kernel(const int32_t * indices, const uint8_t * mask, unsigned long long * counts,
                                            int64_t slots, int chosen) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < slots; i += step)
        if (!mask || mask[i / chosen] != 0) atomicAdd(counts + indices[i], 1ull);
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const int64_t slots = call.inputs[0].shape.elements();
    count_experts_kernel<<<blocks_for(slots, 256), 256, 0, context.stream>>>(
        call.inputs[0].as<const int32_t>(), call.inputs[1].as<const uint8_t>(), call.inputs[2].as<unsigned long long>(),
        slots, int(call.inputs[0].shape[1]));
    return launched("count_experts");
}

const KernelEntry count_experts_entry = {run};

} // namespace gnv::cuda
