#include "cuda/kernels.cuh"

namespace gnv::cuda {

static constexpr int warps_per_block = 8;

static __global__ void gated_rms_norm_kernel(const bf16 * o, const float * weight, const bf16 * z, bf16 * out,
                                             int64_t rows, int64_t width, float epsilon, bool use_sigmoid) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    if (row >= rows) return;
    float sum = 0;
    for (int64_t i = lane; i < width; i += warp_size) {
        const float value = __bfloat162float(o[row * width + i]);
        sum = fmaf(value, value, sum);
    }
    const float scale = 1.0f / sqrtf(warp_sum(sum) / float(width) + epsilon);
    for (int64_t i = lane; i < width; i += warp_size) {
        const float gate = __bfloat162float(z[row * width + i]);
        const float opened = use_sigmoid ? sigmoid(gate) : gate * sigmoid(gate);
        const float normed = rounded(rounded(__bfloat162float(o[row * width + i]) * scale) * weight[i]);
        out[row * width + i] = __float2bfloat16_rn(normed * opened);
    }
}

static Status run(CudaContext & context, KernelCall & call) {
    const auto & params = call.as<GatedRmsNormParams>();
    const Tensor & o = call.inputs[0];
    const int64_t rows = o.shape.rows();
    if (rows == 0) return {};
    gated_rms_norm_kernel<<<blocks_for(rows, warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
        o.as<const bf16>(), call.inputs[1].as<const float>(), call.inputs[2].as<const bf16>(),
        call.outputs[0].as<bf16>(), rows, o.shape.last(), params.epsilon, params.sigmoid);
    return launched("gated_rms_norm");
}

const CudaEntry gated_rms_norm_entry = {run, nullptr};

} // namespace gnv::cuda
