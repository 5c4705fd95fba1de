#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/tiles.cuh"

#include <array>
#include <utility>

namespace gnv::cuda {

namespace {

constexpr int tile = 32; // positions a thread walks through, so that each row of u is read once and a bit
constexpr int max_taps = 8;

// `lanes` channels from `c` of row t of u, or of the history before the segment's beginning.
template <int lanes>
__device__ void row_values(const bf16 * u, const float * history, int64_t t, int64_t begin, int64_t segment, int taps,
                           int64_t channels, int64_t c, const int32_t * slots, float (&out)[lanes]) {
    if (t >= begin) {
        load_several<lanes>(u + t * channels + c, out);
        return;
    }
    const int64_t back = taps - 1 + (t - begin); // row of the history
    if (slots) segment = slots[segment];
#pragma unroll
    for (int i = 0; i < lanes; i++) out[i] = history ? history[(segment * (taps - 1) + back) * channels + c + i] : 0.0f;
}

// A thread: `lanes` channels of a tile of positions.
template <int taps, int lanes>
__global__ void conv_kernel(const bf16 * __restrict__ u, const float * __restrict__ weight, const int32_t * segments,
                            int segment_count, const int32_t * slots, const float * history, bf16 * __restrict__ out,
                            int64_t tokens, int64_t channels) {
    const int64_t c = (int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * lanes;
    if (c >= channels) return;
    int64_t t = int64_t(blockIdx.x) * tile;
    const int64_t last = min(t + tile, tokens);
    float w[lanes][taps], window[taps][lanes];
#pragma unroll
    for (int i = 0; i < lanes; i++)
#pragma unroll
        for (int j = 0; j < taps; j++) w[i][j] = weight[(c + i) * taps + j];
    for (int segment = stretch_of(segments, segment_count, t); t < last; segment++) {
        const int64_t begin = segments[segment], stop = min(last, int64_t(segments[segment + 1]));
#pragma unroll
        for (int j = 1; j < taps; j++)
            row_values<lanes>(u, history, t - taps + j, begin, segment, taps, channels, c, slots, window[j]);
#pragma unroll 4
        for (; t < stop; t++) {
            float y[lanes];
#pragma unroll
            for (int j = 0; j + 1 < taps; j++)
#pragma unroll
                for (int i = 0; i < lanes; i++) window[j][i] = window[j + 1][i];
            load_several<lanes>(u + t * channels + c, window[taps - 1]);
#pragma unroll
            for (int i = 0; i < lanes; i++) {
                float sum = 0;
#pragma unroll
                for (int j = 0; j < taps; j++) sum = fmaf(w[i][j], window[j][i], sum);
                sum = rounded(sum);
                y[i] = sum * sigmoid(sum);
            }
            store_several<lanes>(out + t * channels + c, y);
        }
    }
}

// Afterwards: the last rows, from u or, where the segment is short, from the old history.
__global__ void history_kernel(const bf16 * u, const int32_t * segments, const int32_t * slots, float * history,
                               int64_t channels, int taps) {
    const int64_t segment = blockIdx.x, c = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    float rows[max_taps][1];
    const int64_t begin = segments[segment], end = segments[segment + 1];
    for (int j = 0; j + 1 < taps; j++)
        row_values<1>(u, history, end - (taps - 1) + j, begin, segment, taps, channels, c, slots, rows[j]);
    const int64_t slot = slots ? slots[segment] : segment;
    for (int j = 0; j + 1 < taps; j++) history[(slot * (taps - 1) + j) * channels + c] = rows[j][0];
}

// Both for segments of one position, or with `segments` of few: a thread has a channel of a segment, and its history.
__global__ void step_kernel(const bf16 * u, const float * weight, const int32_t * segments, const int32_t * slots,
                            float * history, bf16 * out, int64_t channels, int taps) {
    const int64_t segment = blockIdx.x, c = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
    let_later_start();
    if (c >= channels) return;
    float w[max_taps], window[max_taps];
#pragma unroll
    for (int j = 0; j < max_taps; j++) w[j] = j < taps ? weight[c * taps + j] : 0.0f;
    wait_for_earlier();
    history += (slots ? slots[segment] : segment) * (taps - 1) * channels + c;
    int64_t t = segments ? segments[segment] : segment;
    const int64_t end = segments ? segments[segment + 1] : segment + 1;
#pragma unroll
    for (int j = 0; j < max_taps; j++) window[j] = j + 1 < taps ? history[j * channels] : 0.0f;
    for (; t < end; t++) {
        const float now = __bfloat162float(u[t * channels + c]);
        float sum = 0;
#pragma unroll
        for (int j = 0; j < max_taps; j++) {
            if (j + 1 == taps) window[j] = now;
            if (j < taps) sum = fmaf(w[j], window[j], sum);
        }
        sum = rounded(sum);
        out[t * channels + c] = __float2bfloat16_rn(sum * sigmoid(sum));
#pragma unroll
        for (int j = 0; j + 1 < max_taps; j++) window[j] = window[j + 1]; // window[taps - 1] is set before it is used
    }
#pragma unroll
    for (int j = 0; j + 1 < max_taps; j++)
        if (j + 1 < taps) history[j * channels] = window[j];
}

constexpr int few_positions = 16; // of a segment that one thread walks through

using ConvKernel = decltype(&conv_kernel<1, 1>);
// By taps - 1.
template <int lanes, size_t... index>
constexpr std::array<ConvKernel, max_taps> kernels_of(std::index_sequence<index...>) {
    return {conv_kernel<int(index) + 1, lanes>...};
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor &u = call.inputs[0], &weight = call.inputs[1];
    const int taps = int(weight.shape.last());
    const int64_t tokens = u.shape[0], channels = u.shape[1], count = call.inputs[2].shape[0] - 1;
    const auto * segments = call.inputs[2].as<const int32_t>();
    auto * history = call.inputs[3].as<float>();
    const auto * slots = call.inputs[4].as<const int32_t>();
    const bool is_step = call.as<CausalConvParams>().one_position;
    if ((is_step || tokens <= few_positions) && history) {
        return launch_chained("causal_conv", context, step_kernel, dim3(unsigned(count), blocks_for(channels, 256)),
                              256, 0, u.as<const bf16>(), weight.as<const float>(), is_step ? nullptr : segments, slots,
                              history, call.outputs[0].as<bf16>(), channels, taps);
    }
    static constexpr auto kernels = std::array{kernels_of<1>(std::make_index_sequence<max_taps>()),
                                               kernels_of<4>(std::make_index_sequence<max_taps>())};
    const bool wide = channels % 4 == 0;
    const dim3 grid(blocks_for(tokens, tile), blocks_for(channels, wide ? 4 * 256 : 256));
    kernels[wide][size_t(taps - 1)]<<<grid, 256, 0, context.stream>>>(u.as<const bf16>(), weight.as<const float>(),
                                                                      segments, int(count), slots, history,
                                                                      call.outputs[0].as<bf16>(), tokens, channels);
    if (history)
        history_kernel<<<dim3(unsigned(count), blocks_for(channels, 256)), 256, 0, context.stream>>>(
            u.as<const bf16>(), segments, slots, history, channels, taps);
    return launched("causal_conv");
}

Status supports(const KernelCall & call) {
    const int64_t taps = call.inputs[1].shape.last();
    if (taps <= max_taps) return {};
    return fail(Code::unsupported, taps, " taps are not supported on this device (at most ", max_taps, ")");
}

} // namespace

const KernelEntry causal_conv_entry = {run, nullptr, supports};

} // namespace gnv::cuda
