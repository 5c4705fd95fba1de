#include "cuda/kernels.cuh"

namespace gnv::cuda {

template <bool tanh>
static __device__ float gelu(float x) {
    if (tanh) return x * sigmoid(2.0f * 0.797884560802865356f * fmaf(0.044715f * x * x, x, x));
    return 0.5f * x * erfcf(-0.707106781186547524f * x);
}

template <bool tanh, int lanes>
static __global__ void gelu_kernel(const bf16 * x, bf16 * out, int64_t count) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count / lanes; i += step) {
        float values[lanes];
        load_several<lanes>(x + i * lanes, values);
#pragma unroll
        for (float & value : values) value = gelu<tanh>(value);
        store_several<lanes>(out + i * lanes, values);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const int64_t count = call.inputs[0].shape.elements();
    const int lanes = count % 8 == 0 ? 8 : 1;
    const auto kernel = call.as<GeluParams>().tanh ? (lanes == 8 ? gelu_kernel<true, 8> : gelu_kernel<true, 1>)
                                                   : (lanes == 8 ? gelu_kernel<false, 8> : gelu_kernel<false, 1>);
    kernel<<<grid_for(count / lanes), 256, 0, context.stream>>>(call.inputs[0].as<const bf16>(),
                                                                call.outputs[0].as<bf16>(), count);
    return launched("gelu");
}

const KernelEntry gelu_entry = {run};

} // namespace gnv::cuda
