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

// A piece: `width` neighbours in the first half of what turns of a head, and their partners; or `width` that stay. A block has some
// pieces of a token and takes tokens in turns.
template <int width>
__global__ void rope_kernel(Rope rope, const bf16 * x, const float2 * angles, bf16 * out) {
    const int head = int(rope.head), half = int(rope.half);
    const int turning = half / width, pieces = turning + (head - 2 * half) / width;
    const int piece = int(blockIdx.x * blockDim.x + threadIdx.x), which = piece / pieces, at = piece % pieces;
    if (which >= int(rope.heads)) return;
    const int dim = which * head + (at < turning ? at * width : 2 * half + (at - turning) * width);
    for (int64_t t = blockIdx.y; t < rope.tokens; t += gridDim.y) {
        const bf16 * const from = x + t * rope.stride + rope.column + dim;
        bf16 * const to = out + t * rope.heads * head + dim;
        if (at >= turning) {
            memcpy(to, __builtin_assume_aligned(from, width * sizeof(bf16)), width * sizeof(bf16));
            continue;
        }
        float a[width], b[width], turns[2 * width];
        load_several<width>(from, a);
        load_several<width>(from + half, b);
        load_several<2 * width>(reinterpret_cast<const float *>(angles + t * half + at * width), turns);
#pragma unroll
        for (int i = 0; i < width; i++) {
            const float2 both = turned(rope, {turns[2 * i], turns[2 * i + 1]}, a[i], b[i]);
            a[i] = both.x, b[i] = both.y;
        }
        store_several<width>(to, a);
        store_several<width>(to + half, b);
    }
}

template <int width>
void launch(cudaStream_t stream, const Rope & rope, const bf16 * x, const float2 * angles, bf16 * out) {
    const int64_t pieces = rope.heads * (rope.half + rope.head - 2 * rope.half) / width;
    const dim3 grid(blocks_for(pieces, 64), unsigned(std::clamp<int64_t>(rope.tokens, 1, 16384)));
    rope_kernel<width><<<grid, 64, 0, stream>>>(rope, x, angles, out);
}

// Numbers that one access of every piece can take: 8, 4 or 1.
int width_of(const Rope & rope, const bf16 * x, const bf16 * out) {
    for (const int64_t width : {8, 4}) {
        const int64_t together = rope.half | rope.head | rope.stride | rope.column;
        const bool is_aligned = (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(out)) %
                                    uintptr_t(width * int64_t(sizeof(bf16))) ==
                                0;
        if (together % width == 0 && is_aligned) return int(width);
    }
    return 1;
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor & x = call.inputs[0];
    const Rope rope = rope_of(call);
    auto * angles = static_cast<float2 *>(call.scratch);
    angles_kernel<<<blocks_for(rope.tokens * rope.half, 256), 256, 0, context.stream>>>(
        rope, call.inputs[1].as<const int32_t>(), angles);
    const auto * const from = x.as<const bf16>();
    auto * const out = call.outputs[0].as<bf16>();
    const int width = width_of(rope, from, out);
    (width == 8 ? launch<8> : width == 4 ? launch<4> : launch<1>)(context.stream, rope, from, angles, out);
    return launched("rope");
}

uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.inputs[0].shape[0] * call.as<RopeParams>().rotary / 2) * sizeof(float2);
}

} // namespace

const KernelEntry rope_entry = {run, scratch_bytes};

} // namespace gnv::cuda
