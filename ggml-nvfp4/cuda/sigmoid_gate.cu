#include "cuda/kernels.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

// `one`: the same gate for all columns of a row.
template <int lanes>
static __global__ void sigmoid_gate_kernel(const bf16 * x, const bf16 * gates, bf16 * out, int64_t rows, unsigned width,
                                           int64_t gate_stride, int64_t column, bool one) {
    const unsigned pieces = width / lanes;
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * pieces; i += step) {
        const int64_t row = i / pieces;
        const bf16 * const gate = gates + row * gate_stride + column;
        float values[lanes], opened[lanes];
        load_several<lanes>(x + i * lanes, values);
        if (one) {
            const float same = __bfloat162float(*gate);
#pragma unroll
            for (int j = 0; j < lanes; j++) opened[j] = same;
        } else {
            load_several<lanes>(gate + (i - row * pieces) * lanes, opened);
        }
#pragma unroll
        for (int j = 0; j < lanes; j++) values[j] = sigmoid_gated(values[j], opened[j]);
        store_several<lanes>(out + i * lanes, values);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const int64_t column = call.as<SigmoidGateParams>().column;
    const Tensor &x = call.inputs[0], &gates = call.inputs[1];
    const int64_t rows = x.shape.rows(), width = x.shape.last(), stride = gates.shape.last();
    const bool one = stride - column == 1 && width != 1;
    const int lanes = width % 8 == 0 && (one || (stride % 8 == 0 && column % 8 == 0)) ? 8 : 1;
    const auto kernel = lanes == 8 ? sigmoid_gate_kernel<8> : sigmoid_gate_kernel<1>;
    kernel<<<grid_for(rows * width / lanes), 256, 0, context.stream>>>(x.as<const bf16>(), gates.as<const bf16>(),
                                                                       call.outputs[0].as<bf16>(), rows,
                                                                       unsigned(width), stride, column, one);
    return launched("sigmoid_gate");
}

const KernelEntry sigmoid_gate_entry = {run};

} // namespace gnv::cuda
