#include "cuda/kernels.cuh"

namespace gnv::cuda {

// Sizes in words, of one or of several numbers.
template <class Word>
static __global__ void columns_kernel(const Word * x, Word * out, int64_t rows, int64_t stride, int64_t width) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * width; i += step)
        out[i] = x[i / width * stride + i % width];
}

template <class Word>
static void copy(const KernelCall & call) {
    constexpr auto lanes = int64_t(sizeof(Word) / sizeof(bf16));
    const auto & params = call.as<ColumnsParams>();
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), width = params.count / lanes;
    columns_kernel<<<grid_for(rows * width), 256, 0, context_of(call).stream>>>(
        x.as<const Word>() + params.first / lanes, call.outputs[0].as<Word>(), rows, x.shape.last() / lanes, width);
}

static Status run(KernelCall & call) {
    const auto & params = call.as<ColumnsParams>();
    if (params.first % 8 == 0 && params.count % 8 == 0 && call.inputs[0].shape.last() % 8 == 0) {
        copy<uint4>(call);
    } else {
        copy<bf16>(call);
    }
    return launched("columns");
}

const KernelEntry columns_entry = {run};

} // namespace gnv::cuda
