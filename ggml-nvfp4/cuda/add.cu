#include "cuda/kernels.cuh"

namespace gnv::cuda {

// Either side may be a sum in F32; the output may be one of the inputs.
template <int lanes, class A, class B>
static __global__ void add_kernel(const A * a, const B * b, bf16 * out, int64_t count) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count / lanes; i += step) {
        float x[lanes], y[lanes];
        load_several<lanes>(a + i * lanes, x);
        load_several<lanes>(b + i * lanes, y);
#pragma unroll
        for (int j = 0; j < lanes; j++) x[j] += y[j];
        store_several<lanes>(out + i * lanes, x);
    }
}

template <class A, class B>
static void add(CudaContext & context, KernelCall & call) {
    const int64_t count = call.inputs[0].shape.elements();
    const int lanes = count % 8 == 0 ? 8 : 1;
    const auto kernel = lanes == 8 ? add_kernel<8, A, B> : add_kernel<1, A, B>;
    kernel<<<grid_for(count / lanes), 256, 0, context.stream>>>(
        call.inputs[0].as<const A>(), call.inputs[1].as<const B>(), call.outputs[0].as<bf16>(), count);
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
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

const KernelEntry add_entry = {run};

} // namespace gnv::cuda
