#include "cuda/kernels.cuh"

namespace gnv::cuda {

static __global__ void sigmoid_gate_kernel(const bf16 * x, const bf16 * gates, bf16 * out, int64_t count, int64_t width,
                                           int64_t gate_stride, int64_t column, bool one) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
        const int64_t row = i / width, place = one ? 0 : i % width;
        const float gate = __bfloat162float(gates[row * gate_stride + column + place]);
        out[i] = __float2bfloat16_rn(__bfloat162float(x[i]) * rounded(sigmoid(gate)));
    }
}

static Status run(CudaContext & context, KernelCall & call) {
    const int64_t column = call.as<SigmoidGateParams>().column;
    const Tensor &x = call.inputs[0], &gates = call.inputs[1];
    const int64_t count = x.shape.elements(), width = x.shape.last(), stride = gates.shape.last();
    sigmoid_gate_kernel<<<unsigned(std::clamp<int64_t>(blocks_for(count, 256), 1, 65535)), 256, 0, context.stream>>>(
        x.as<const bf16>(), gates.as<const bf16>(), call.outputs[0].as<bf16>(), count, width, stride, column,
        stride - column == 1 && width != 1);
    return launched("sigmoid_gate");
}

const CudaEntry sigmoid_gate_entry = {run, nullptr};

} // namespace gnv::cuda
