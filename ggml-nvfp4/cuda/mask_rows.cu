#include "cuda/kernels.cuh"

namespace gnv::cuda {

static __global__ void mask_rows_kernel(const bf16 * x, const uint8_t * mask, bf16 * out, int64_t width) {
    const int64_t row = blockIdx.x;
    const bool real = mask[row] != 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        out[row * width + i] = real ? x[row * width + i] : __float2bfloat16_rn(0.0f);
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Shape & shape = call.inputs[0].shape;
    mask_rows_kernel<<<unsigned(shape[0]), 256, 0, context.stream>>>(
        call.inputs[0].as<const bf16>(), call.inputs[1].as<const uint8_t>(), call.outputs[0].as<bf16>(), shape[1]);
    return launched("mask_rows");
}

const KernelEntry mask_rows_entry = {run};

} // namespace gnv::cuda
