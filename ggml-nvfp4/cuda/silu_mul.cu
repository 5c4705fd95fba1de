#include "cuda/kernels.cuh"

namespace gnv::cuda {

static __device__ float silu_mul(float gate, float up) { return rounded(gate * sigmoid(gate)) * up; }

static __global__ void silu_mul_kernel(const bf16 * gate, const bf16 * up, bf16 * out, int64_t count) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x, first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    float g[8], u[8];
    for (int64_t i = first; i < count / 8; i += step) {
        unpack(reinterpret_cast<const Eight *>(gate)[i], g);
        unpack(reinterpret_cast<const Eight *>(up)[i], u);
        for (int j = 0; j < 8; j++) g[j] = silu_mul(g[j], u[j]);
        reinterpret_cast<Eight *>(out)[i] = pack(g);
    }
    for (int64_t i = count / 8 * 8 + first; i < count; i += step)
        out[i] = __float2bfloat16_rn(silu_mul(__bfloat162float(gate[i]), __bfloat162float(up[i])));
}

static Status run(CudaContext & context, KernelCall & call) {
    const int64_t count = call.inputs[0].shape.elements();
    const unsigned blocks = unsigned(std::clamp<int64_t>(blocks_for(count, 8 * 256), 1, context.processors * 16));
    silu_mul_kernel<<<blocks, 256, 0, context.stream>>>(
        call.inputs[0].as<const bf16>(), call.inputs[1].as<const bf16>(), call.outputs[0].as<bf16>(), count);
    return launched("silu_mul");
}

const CudaEntry silu_mul_entry = {run, nullptr};

} // namespace gnv::cuda
