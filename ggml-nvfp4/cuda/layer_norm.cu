// A warp for each row, which comes from the cache the second and third time.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

static constexpr int warps_per_block = 8;

template <int lanes>
static __global__ void layer_norm_kernel(const bf16 * x, const float * weight, const float * bias, bf16 * out,
                                         int64_t rows, int64_t width, float epsilon) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int first = threadIdx.x % warp_size * lanes;
    if (row >= rows) return;
    x += row * width, out += row * width;
    float values[lanes], weights[lanes], shifts[lanes], sum = 0, square = 0;
    for (int64_t i = first; i < width; i += warp_size * lanes) {
        load_several<lanes>(x + i, values);
#pragma unroll
        for (const float value : values) sum += value;
    }
    const float mean = warp_sum(sum) / float(width);
    for (int64_t i = first; i < width; i += warp_size * lanes) {
        load_several<lanes>(x + i, values);
#pragma unroll
        for (const float value : values) square = fmaf(value - mean, value - mean, square);
    }
    const float scale = 1.0f / sqrtf(warp_sum(square) / float(width) + epsilon);
    for (int64_t i = first; i < width; i += warp_size * lanes) {
        load_several<lanes>(x + i, values);
        load_several<lanes>(weight + i, weights);
        load_several<lanes>(bias + i, shifts);
#pragma unroll
        for (int j = 0; j < lanes; j++) values[j] = fmaf((values[j] - mean) * scale, weights[j], shifts[j]);
        store_several<lanes>(out + i, values);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), width = x.shape.last();
    if (rows == 0) return {};
    const auto kernel = width % 8 == 0 ? layer_norm_kernel<8> : layer_norm_kernel<1>;
    kernel<<<blocks_for(rows, warps_per_block), warps_per_block * warp_size, 0, context.stream>>>(
        x.as<const bf16>(), call.inputs[1].as<const float>(), call.inputs[2].as<const float>(),
        call.outputs[0].as<bf16>(), rows, width, call.as<LayerNormParams>().epsilon);
    return launched("layer_norm");
}

const KernelEntry layer_norm_entry = {run};

} // namespace gnv::cuda
