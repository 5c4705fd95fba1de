#include "cuda/kernels.cuh"

namespace gnv::cuda {

static __device__ float load(const bf16 * x, int64_t i) { return __bfloat162float(x[i]); }
static __device__ float load(const float * x, int64_t i) { return x[i]; }

// Either side may be a sum in F32; the output may be one of the inputs.
template <class A, class B>
static __global__ void add_kernel(const A * a, const B * b, bf16 * out, int64_t count) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
        out[i] = __float2bfloat16_rn(load(a, i) + load(b, i));
}

template <class A, class B>
static void add(CudaContext & context, KernelCall & call) {
    const int64_t count = call.inputs[0].shape.elements();
    add_kernel<<<unsigned(std::clamp<int64_t>(blocks_for(count, 256), 1, 65535)), 256, 0, context.stream>>>(
        call.inputs[0].as<const A>(), call.inputs[1].as<const B>(), call.outputs[0].as<bf16>(), count);
}

static Status run(CudaContext & context, KernelCall & call) {
    const bool first = call.inputs[0].dtype == DType::f32, second = call.inputs[1].dtype == DType::f32;
    if (first && second) {
        add<float, float>(context, call);
    } else if (first) {
        add<float, bf16>(context, call);
    } else if (second) {
        add<bf16, float>(context, call);
    } else {
        add<bf16, bf16>(context, call);
    }
    return launched("add");
}

const CudaEntry add_entry = {run, nullptr};

} // namespace gnv::cuda
