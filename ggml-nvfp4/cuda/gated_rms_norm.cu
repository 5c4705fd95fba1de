#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

static constexpr int warps_per_block = 8;

template <int lanes>
static __global__ void gated_rms_norm_kernel(const bf16 * o, const float * weight, const bf16 * z, bf16 * out,
                                             int64_t rows, int64_t width, float epsilon, bool use_sigmoid) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int first = threadIdx.x % warp_size * lanes;
    if (row >= rows) return;
    o += row * width, z += row * width, out += row * width;
    let_later_start();
    wait_for_earlier();
    const float scale = rms_scale<lanes>(o, width, epsilon);
    float values[lanes], gates[lanes], weights[lanes];
    for (int64_t i = first; i < width; i += warp_size * lanes) {
        load_several<lanes>(o + i, values);
        load_several<lanes>(z + i, gates);
        load_several<lanes>(weight + i, weights);
#pragma unroll
        for (int j = 0; j < lanes; j++) {
            const float opened = use_sigmoid ? sigmoid(gates[j]) : gates[j] * sigmoid(gates[j]);
            values[j] = rounded(rounded(values[j] * scale) * weights[j]) * opened;
        }
        store_several<lanes>(out + i, values);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<GatedRmsNormParams>();
    const Tensor & o = call.inputs[0];
    const int64_t rows = o.shape.rows();
    if (rows == 0) return {};
    const auto kernel = o.shape.last() % 4 == 0 ? gated_rms_norm_kernel<4> : gated_rms_norm_kernel<1>;
    return launch_chained("gated_rms_norm", context, kernel, blocks_for(rows, warps_per_block),
                          warps_per_block * warp_size, 0, o.as<const bf16>(), call.inputs[1].as<const float>(),
                          call.inputs[2].as<const bf16>(), call.outputs[0].as<bf16>(), rows, o.shape.last(),
                          params.epsilon, params.sigmoid);
}

const KernelEntry gated_rms_norm_entry = {run};

} // namespace gnv::cuda
