#include "cuda/kernels.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

constexpr int tile = 16; // positions a thread walks through, so that each row of u is read once and a bit
constexpr int max_taps = 8;

// Row t of u, or of the history before the segment's beginning.
__device__ float row_value(const bf16 * u, const float * history, int64_t t, int64_t begin, int64_t segment, int taps,
                           int64_t channels, int64_t c) {
    if (t >= begin) return __bfloat162float(u[t * channels + c]);
    const int64_t back = taps - 1 + (t - begin); // row of the history
    return history ? history[(segment * (taps - 1) + back) * channels + c] : 0.0f;
}

__global__ void conv_kernel(const bf16 * u, const float * weight, const int32_t * segments, int segment_count,
                            const float * history, bf16 * out, int64_t tokens, int64_t channels, int taps) {
    const int64_t c = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    const int64_t first = int64_t(blockIdx.x) * tile, last = min(first + tile, tokens);
    int segment = stretch_of(segments, segment_count, first);
    float w[max_taps], window[max_taps];
    for (int j = 0; j < taps; j++) w[j] = weight[c * taps + j];
    for (int j = 1; j < taps; j++)
        window[j] = row_value(u, history, first - taps + j, segments[segment], segment, taps, channels, c);
    for (int64_t t = first; t < last; t++) {
        if (t >= segments[segment + 1]) {
            while (t >= segments[segment + 1]) segment++;
            for (int j = 1; j < taps; j++)
                window[j] = row_value(u, history, t - taps + j, segments[segment], segment, taps, channels, c);
        }
        for (int j = 0; j + 1 < taps; j++) window[j] = window[j + 1];
        window[taps - 1] = __bfloat162float(u[t * channels + c]);
        float sum = 0;
        for (int j = 0; j < taps; j++) sum = fmaf(w[j], window[j], sum);
        sum = rounded(sum);
        out[t * channels + c] = __float2bfloat16_rn(sum * sigmoid(sum));
    }
}

// Afterwards: the last rows, from u or, where the segment is short, from the old history.
__global__ void history_kernel(const bf16 * u, const int32_t * segments, float * history, int64_t channels, int taps) {
    const int64_t segment = blockIdx.x, c = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    float rows[max_taps];
    const int64_t begin = segments[segment], end = segments[segment + 1];
    for (int j = 0; j + 1 < taps; j++)
        rows[j] = row_value(u, history, end - (taps - 1) + j, begin, segment, taps, channels, c);
    for (int j = 0; j + 1 < taps; j++) history[(segment * (taps - 1) + j) * channels + c] = rows[j];
}

Status run(CudaContext & context, KernelCall & call) {
    const Tensor &u = call.inputs[0], &weight = call.inputs[1];
    const int taps = int(weight.shape.last());
    const int64_t tokens = u.shape[0], channels = u.shape[1], count = call.inputs[2].shape[0] - 1;
    const auto * segments = call.inputs[2].as<const int32_t>();
    auto * history = call.inputs[3].as<float>();
    const dim3 grid(blocks_for(tokens, tile), blocks_for(channels, 256));
    conv_kernel<<<grid, 256, 0, context.stream>>>(u.as<const bf16>(), weight.as<const float>(), segments, int(count),
                                                  history, call.outputs[0].as<bf16>(), tokens, channels, taps);
    if (history)
        history_kernel<<<dim3(unsigned(count), blocks_for(channels, 256)), 256, 0, context.stream>>>(
            u.as<const bf16>(), segments, history, channels, taps);
    return launched("causal_conv");
}

Status supports(const KernelCall & call) {
    const int64_t taps = call.inputs[1].shape.last();
    if (taps <= max_taps) return {};
    return fail(Code::unsupported, taps, " taps; it takes at most ", max_taps);
}

} // namespace

const CudaEntry causal_conv_entry = {run, nullptr, supports};

} // namespace gnv::cuda
