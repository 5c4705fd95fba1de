#include "cuda/kernels.cuh"
#include "cuda/rope.cuh"

namespace gnv::cuda {

namespace {

// cos and sin of every position and pair, [T, half]
__global__ void angles_kernel(Rope rope, const int32_t * positions, float2 * angles) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= rope.tokens * rope.half) return;
    angles[i] = rope_angle(rope, positions, i / rope.half, i % rope.half);
}

__global__ void rope_kernel(Rope rope, const bf16 * x, const float2 * angles, bf16 * out) {
    const int64_t rows = rope.tokens * rope.heads;
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * rope.head; i += step) {
        const int64_t row = i / rope.head, dim = i % rope.head, t = row / rope.heads;
        const bf16 * const from = x + t * rope.stride + rope.column + row % rope.heads * rope.head + dim;
        if (dim >= 2 * rope.half) {
            out[i] = *from;
        } else if (dim < rope.half) {
            const float2 both =
                turned(rope, angles[t * rope.half + dim], __bfloat162float(from[0]), __bfloat162float(from[rope.half]));
            out[i] = __float2bfloat16_rn(both.x);
            out[i + rope.half] = __float2bfloat16_rn(both.y);
        }
    }
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor & x = call.inputs[0];
    const Rope rope = rope_of(call);
    auto * angles = static_cast<float2 *>(call.scratch);
    angles_kernel<<<blocks_for(rope.tokens * rope.half, 256), 256, 0, context.stream>>>(
        rope, call.inputs[1].as<const int32_t>(), angles);
    rope_kernel<<<grid_for(call.outputs[0].shape.elements()), 256, 0, context.stream>>>(
        rope, x.as<const bf16>(), angles, call.outputs[0].as<bf16>());
    return launched("rope");
}

uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.inputs[0].shape[0] * call.as<RopeParams>().rotary / 2) * sizeof(float2);
}

} // namespace

const KernelEntry rope_entry = {run, scratch_bytes};

} // namespace gnv::cuda
