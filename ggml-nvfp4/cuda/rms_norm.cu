// A warp for each row: heads of 256 and rows of a few thousand both keep it busy.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

static constexpr int warps_per_block = 8;

static __global__ void rms_norm_kernel(const bf16 * x, const float * weight, bf16 * out, int64_t rows, int64_t stride,
                                       int64_t width, float epsilon, float weight_offset) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    if (row >= rows) return;
    const bf16 * const from = x + row * stride;
    bf16 * const to = out + row * width;
    float sum = 0, values[8];
    if (stride % 8 == 0 && width % 8 == 0) {
        for (int64_t i = lane * 8; i < width; i += warp_size * 8) {
            unpack(*reinterpret_cast<const Eight *>(from + i), values);
            for (const float value : values) sum = fmaf(value, value, sum);
        }
    } else {
        for (int64_t i = lane; i < width; i += warp_size) {
            const float value = __bfloat162float(from[i]);
            sum = fmaf(value, value, sum);
        }
    }
    const float scale = 1.0f / sqrtf(warp_sum(sum) / float(width) + epsilon);
    if (stride % 8 == 0 && width % 8 == 0) {
        for (int64_t i = lane * 8; i < width; i += warp_size * 8) {
            unpack(*reinterpret_cast<const Eight *>(from + i), values);
            for (int j = 0; j < 8; j++) values[j] = values[j] * scale * (weight_offset + weight[i + j]);
            *reinterpret_cast<Eight *>(to + i) = pack(values);
        }
    } else {
        for (int64_t i = lane; i < width; i += warp_size)
            to[i] = __float2bfloat16_rn(__bfloat162float(from[i]) * scale * (weight_offset + weight[i]));
    }
}

static Status run(CudaContext & context, KernelCall & call) {
    const auto & params = call.as<RmsNormParams>();
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows();
    if (rows == 0) return {};
    rms_norm_kernel<<<blocks_for(rows, warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
        x.as<const bf16>(), call.inputs[1].as<const float>(), call.outputs[0].as<bf16>(), rows, x.shape.last(),
        call.inputs[1].shape[0], params.epsilon, params.weight_offset);
    return launched("rms_norm");
}

const CudaEntry rms_norm_entry = {run, nullptr};

} // namespace gnv::cuda
