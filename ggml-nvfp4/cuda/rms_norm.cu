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

// The same with the row in registers: lane l has elements (32 r + l) * 8 ... + 7 for every r.
template <int parts>
static __global__ void __launch_bounds__(warps_per_block * warp_size)
    row_kernel(const bf16 * __restrict__ x, const float * __restrict__ weight, bf16 * __restrict__ out, int64_t rows,
               int64_t stride, int width, float epsilon, float weight_offset) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int first = int(threadIdx.x) % warp_size * 8;
    if (row >= rows) return;
    x += row * stride, out += row * width;
    uint4 eight[parts] = {};
#pragma unroll
    for (int r = 0; r < parts; r++)
        if (first + r * 256 < width) eight[r] = *reinterpret_cast<const uint4 *>(x + first + r * 256);
    float sum = 0, values[8], weights[8];
#pragma unroll
    for (int r = 0; r < parts; r++) {
        unpack(eight[r], values);
#pragma unroll
        for (const float value : values) sum = fmaf(value, value, sum);
    }
    const float scale = rms_scale(sum, width, epsilon);
#pragma unroll
    for (int r = 0; r < parts; r++) {
        const int at = first + r * 256;
        if (at >= width) break;
        unpack(eight[r], values);
        load_several<8>(weight + at, weights);
#pragma unroll
        for (int j = 0; j < 8; j++) values[j] = rms_normed(values[j], scale, weight_offset, weights[j]);
        store_several<8>(out + at, values);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<RmsNormParams>();
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), stride = x.shape.last(), width = call.inputs[1].shape[0];
    if (rows == 0) return {};
    const bool wide = stride % 8 == 0 && width % 8 == 0;
    if (wide && width <= 20 * 256) {
        const auto kernel = width <= 256        ? row_kernel<1>
                            : width <= 4 * 256  ? row_kernel<4>
                            : width <= 8 * 256  ? row_kernel<8>
                            : width <= 16 * 256 ? row_kernel<16>
                                                : row_kernel<20>;
        kernel<<<blocks_for(rows, warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
            x.as<const bf16>(), call.inputs[1].as<const float>(), call.outputs[0].as<bf16>(), rows, stride, int(width),
            params.epsilon, params.weight_offset);
        return launched("rms_norm");
    }
    const auto kernel = wide ? rms_norm_kernel<8> : rms_norm_kernel<1>;
    kernel<<<blocks_for(rows, warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
        x.as<const bf16>(), call.inputs[1].as<const float>(), call.outputs[0].as<bf16>(), rows, stride, width,
        params.epsilon, params.weight_offset);
    return launched("rms_norm");
}

const KernelEntry rms_norm_entry = {run};

} // namespace gnv::cuda
