#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/tiles.cuh"

#include <array>
#include <utility>

namespace gnv::cuda {

namespace {

constexpr int threads = 128;
// Positions a thread walks through: many, so that each row of u is read once and a bit, unless the device then has idle threads.
constexpr int least_tile = 8, most_tile = 128, blocks_a_processor = 4;
constexpr int ahead = 4; // rows that a thread reads before it needs them
constexpr int max_taps = 8;

// Neighbouring channels of a row, as one access reads them: eight, or one.
template <int lanes>
struct Channels;
template <>
struct Channels<8> {
    using Row = uint4;
};
template <>
struct Channels<1> {
    using Row = bf16;
};

__device__ void widen(const uint4 & row, float (&out)[8]) { unpack(row, out); }
__device__ void widen(bf16 row, float (&out)[1]) { out[0] = __bfloat162float(row); }
__device__ uint4 narrow(const float (&values)[8]) { return pack(values); }
__device__ bf16 narrow(const float (&values)[1]) { return __float2bfloat16_rn(values[0]); }

// Where positions are divided between two blocks: at `near`, or, where a segment begins less than taps - 1 before it, at
// that beginning. So the history of a segment is read only by the block of its first position, which may replace it.
struct Division {
    int64_t at;
    int segment;
    __device__ Division(const int32_t * segments, int count, int64_t near, int64_t tokens, int taps) {
        at = min(near, tokens);
        segment = stretch_of(segments, count, at);
        const int64_t begin = segments[segment];
        if (at < tokens && at < begin + taps - 1) at = begin;
    }
};

// Of a segment that begins: its history becomes the first rows of the window, and its last rows the history.
template <int taps, int lanes>
__device__ void begin_segment(const bf16 * u, float * history, int64_t begin, int64_t end, int64_t channels,
                              float (&window)[taps][lanes]) {
#pragma unroll
    for (int j = 1; j < taps; j++)
#pragma unroll
        for (int i = 0; i < lanes; i++) window[j][i] = history ? history[(j - 1) * channels + i] : 0.0f;
    if (!history) return;
#pragma unroll 1
    for (int j = 0; j + 1 < taps; j++) {
        const int64_t row = end - (taps - 1) + j; // of a short segment: also rows of the old history that come later
#pragma unroll
        for (int i = 0; i < lanes; i++)
            history[j * channels + i] = row >= begin ? __bfloat162float(u[row * channels + i])
                                                     : history[(taps - 1 + row - begin) * channels + i];
    }
}

// A thread: `lanes` channels of a tile of positions.
template <int taps, int lanes>
__global__ void __launch_bounds__(threads)
    conv_kernel(const bf16 * __restrict__ u, const float * __restrict__ weight, const int32_t * __restrict__ segments,
                int segment_count, const int32_t * __restrict__ slots, float * history, bf16 * __restrict__ out,
                int64_t tokens, int64_t channels, int tile, unsigned blocks_a_row) {
    using Row = typename Channels<lanes>::Row;
    const int64_t c = (int64_t(blockIdx.x % blocks_a_row) * threads + threadIdx.x) * lanes;
    if (c >= channels) return;
    const int64_t near = int64_t(blockIdx.x / blocks_a_row) * tile;
    const Division first(segments, segment_count, near, tokens, taps);
    const int64_t last = Division(segments, segment_count, near + tile, tokens, taps).at;
    float w[lanes * taps], window[taps][lanes];
    if constexpr (lanes == 8) {
        load_several<lanes * taps>(weight + c * taps, w);
    } else {
#pragma unroll
        for (int j = 0; j < taps; j++) w[j] = weight[c * taps + j];
    }
    const auto row = [&](int64_t t) { return *reinterpret_cast<const Row *>(u + t * channels + c); };
    int64_t t = first.at;
    for (int segment = first.segment; t < last; segment++) {
        const int64_t begin = segments[segment], end = segments[segment + 1], stop = min(last, end);
        if (t == begin) {
            const int64_t slot = slots ? slots[segment] : segment;
            begin_segment(u + c, history ? history + slot * (taps - 1) * channels + c : nullptr, begin, end, channels,
                          window);
        } else {
#pragma unroll
            for (int j = 1; j < taps; j++) widen(row(t - taps + j), window[j]);
        }
        const bf16 * from = u + t * channels + c;
        bf16 * to = out + t * channels + c;
        const auto read = [&](int64_t rows) { return *reinterpret_cast<const Row *>(from + rows * channels); };
        // One position: row t, which next[i] holds, becomes out[t].
        Row next[ahead] = {};
        const auto step = [&](int i) {
#pragma unroll
            for (int j = 0; j + 1 < taps; j++)
#pragma unroll
                for (int l = 0; l < lanes; l++) window[j][l] = window[j + 1][l];
            widen(next[i], window[taps - 1]);
            float sums[lanes];
#pragma unroll
            for (int l = 0; l < lanes; l++) {
                sums[l] = 0;
#pragma unroll
                for (int j = 0; j < taps; j++) sums[l] = fmaf(w[l * taps + j], window[j][l], sums[l]);
            }
            widen(narrow(sums), sums);
#pragma unroll
            for (int l = 0; l < lanes; l++) sums[l] = silu(sums[l]);
            const Row result = narrow(sums);
            *reinterpret_cast<Row *>(to + i * channels) = result;
        };
#pragma unroll
        for (int i = 0; i < ahead; i++)
            if (t + i < stop) next[i] = read(i);
        for (; t + ahead <= stop; t += ahead) {
#pragma unroll
            for (int i = 0; i < ahead; i++) {
                step(i);
                if (t + ahead + i < stop) next[i] = read(ahead + i);
            }
            from += ahead * channels, to += ahead * channels;
        }
#pragma unroll
        for (int i = 0; i < ahead - 1; i++)
            if (t < stop) t++, step(i);
    }
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
        out[t * channels + c] = __float2bfloat16_rn(silu(sum));
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
                                               kernels_of<8>(std::make_index_sequence<max_taps>())};
    const bool wide = channels % 8 == 0;
    const unsigned blocks_a_row = blocks_for(channels, wide ? 8 * threads : threads);
    const int64_t blocks = int64_t(context.processors) * blocks_a_processor;
    const int tile = int(std::clamp<int64_t>(tokens * blocks_a_row / blocks, least_tile, most_tile));
    kernels[wide][size_t(taps - 1)]<<<blocks_for(tokens, tile) * blocks_a_row, threads, 0, context.stream>>>(
        u.as<const bf16>(), weight.as<const float>(), segments, int(count), slots, history, call.outputs[0].as<bf16>(),
        tokens, channels, tile, blocks_a_row);
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
