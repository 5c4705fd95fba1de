#include "cuda/kernels.cuh"

#include <cmath>

namespace gnv::cuda {

namespace {

struct Rope {
    int64_t tokens, heads, head, half;
    int64_t stride, column; // of a row of x, of its first head
    bool axial;
    int64_t section[3];
    double log_theta;
    bool has_yarn;
    float factor, low, high, attention_factor;
};

// cos and sin of every position and pair, [T, half]
__global__ void angles_kernel(Rope rope, const int32_t * positions, float2 * angles) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= rope.tokens * rope.half) return;
    const int64_t t = i / rope.half, pair = i % rope.half;
    const int kind = int(pair % 3);
    const int axis = rope.axial                                   ? (pair < rope.half / 2 ? 1 : 2)
                     : kind != 0 && pair < 3 * rope.section[kind] ? kind
                                                                  : 0;
    const int64_t step = rope.axial ? 2 * (pair % (rope.half / 2)) : pair;
    const float power = float(exp(2.0 * double(step) / double(2 * rope.half) * rope.log_theta));
    float frequency = 1.0f / power;
    if (rope.has_yarn) {
        const float ramp = fminf(fmaxf((float(pair) - rope.low) / (rope.high - rope.low), 0.0f), 1.0f), keep = 1 - ramp;
        frequency = __fadd_rn(1 / (rope.factor * power) * (1 - keep), frequency * keep);
    }
    const float angle = float(positions[axis * rope.tokens + t]) * frequency;
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    angles[i] = rope.axial ? float2{cosine, sine}
                           : float2{rounded(cosine * rope.attention_factor), rounded(sine * rope.attention_factor)};
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
            const float2 turn = angles[t * rope.half + dim];
            const float a = __bfloat162float(from[0]), b = __bfloat162float(from[rope.half]);
            if (rope.axial) {
                out[i] = __float2bfloat16_rn(a * turn.x - b * turn.y);
                out[i + rope.half] = __float2bfloat16_rn(b * turn.x + a * turn.y);
                continue;
            }
            out[i] = __float2bfloat16_rn(rounded(a * turn.x) + rounded(-b * turn.y));
            out[i + rope.half] = __float2bfloat16_rn(rounded(b * turn.x) + rounded(a * turn.y));
        }
    }
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<RopeParams>();
    const Tensor & x = call.inputs[0];
    const int64_t heads = call.outputs[0].shape[1] / params.head;
    Rope rope = {x.shape[0],
                 heads,
                 params.head,
                 params.rotary / 2,
                 x.shape[1],
                 params.column,
                 params.axial,
                 {},
                 std::log(params.theta),
                 false,
                 1,
                 0,
                 1,
                 1};
    for (int i = 0; i < 3; i++) rope.section[i] = params.section[i];
    const Yarn & yarn = params.yarn;
    rope.has_yarn = !(yarn == Yarn());
    rope.factor = float(yarn.factor), rope.low = float(yarn.low), rope.high = float(yarn.high);
    rope.attention_factor = float(yarn.attention_factor);
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
