// A warp for each row: heads of 256 and rows of a few thousand both keep it busy.
#include "cuda/kernels.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

static constexpr int warps_per_block = 8;

template <int lanes>
static __global__ void rms_norm_kernel(const bf16 * x, const float * weight, bf16 * out, int64_t rows, int64_t stride,
                                       int64_t width, float epsilon, float weight_offset) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    if (row >= rows) return;
    x += row * stride, out += row * width;
    const float scale = rms_scale<lanes>(x, width, epsilon);
    float values[lanes], weights[lanes];
    for (int64_t i = threadIdx.x % warp_size * lanes; i < width; i += warp_size * lanes) {
        load_several<lanes>(x + i, values);
        load_several<lanes>(weight + i, weights);
#pragma unroll
        for (int j = 0; j < lanes; j++) values[j] = rms_normed(values[j], scale, weight_offset, weights[j]);
        store_several<lanes>(out + i, values);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<RmsNormParams>();
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), stride = x.shape.last(), width = call.inputs[1].shape[0];
    if (rows == 0) return {};
    const auto kernel = stride % 8 == 0 && width % 8 == 0 ? rms_norm_kernel<8> : rms_norm_kernel<1>;
    kernel<<<blocks_for(rows, warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
        x.as<const bf16>(), call.inputs[1].as<const float>(), call.outputs[0].as<bf16>(), rows, stride, width,
        params.epsilon, params.weight_offset);
    return launched("rms_norm");
}

const KernelEntry rms_norm_entry = {run};

} // namespace gnv::cuda
