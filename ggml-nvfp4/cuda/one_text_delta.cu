// A block has a value head, and a cluster the value heads of a key head: each computes their q and k for itself, so all have to read
// the history of q and k before one of them writes it. States and history are read before the wait, past the L1 cache: the last kernel
// that wrote them belongs to an earlier pass, and the products before this kernel let it start only when all earlier ones have ended.
#include "cuda/one_text_delta.cuh"

#include "cuda/chain.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace {

constexpr int head = 128; // rows and columns of a state
constexpr int parts = 4, groups = head / 16;
constexpr int column_warps = 4, threads = parts * column_warps * warp_size;
constexpr int taps = 4, most_cluster = 8;

// A channel of the convolution.
struct Channel {
    int64_t at;
    float w[taps], window[taps];
    __device__ void load_known(const ConvStep & p, int64_t slot, int64_t channels, int64_t channel) {
        at = channel;
        load_several<taps>(p.weight + channel * taps, w);
#pragma unroll
        for (int i = 0; i + 1 < taps; i++) window[i] = __ldcg(p.history + (slot * (taps - 1) + i) * channels + channel);
    }
    __device__ bf16 result(const bf16 * row) {
        window[taps - 1] = __bfloat162float(row[at]);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < taps; i++) sum = fmaf(w[i], window[i], sum);
        sum = rounded(sum);
        return __float2bfloat16_rn(sum * sigmoid(sum));
    }
    __device__ void store(const ConvStep & p, int64_t slot, int64_t channels, bf16 * row, bf16 found) const {
        row[at] = found;
#pragma unroll
        for (int i = 0; i + 1 < taps; i++) p.history[(slot * (taps - 1) + i) * channels + at] = window[i + 1];
    }
};

// A thread has four neighbouring columns of rows i * 16 + part * 4 + j: a quarter of a thread's share in gated_delta_net_step.cuh, whose
// sums these are, in the same order. Warp 4 * part + i has columns [32 i, 32 i + 32). Registers: this and the products before it, or
// behind it, fit on one processor.
__global__ void __maxnreg__(72)
    one_text_kernel(const __grid_constant__ ConvStep conv, const __grid_constant__ Delta d,
                    const __grid_constant__ DeltaTensors tensors, const __grid_constant__ NormStep norm) {
    __shared__ float of_conv[3][head];                          // k, q, v
    __shared__ __align__(16) float staged[2][4][parts][groups]; // k, q: of rows i * 16 + part * 4 + j at [j][part][i]
    __shared__ __align__(16) float sums[2][parts][head];        // over rows of a part, by column
    __shared__ float2 shared_gates;
    let_later_start();
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, part = warp / column_warps, j = lane / 8;
    const int column = warp % column_warps * warp_size + lane % 8 * 4;
    const int a_key = d.value_heads / d.key_heads, at_head = blockIdx.x, key = at_head / a_key, rank = at_head % a_key;
    const int64_t t = tensors.segments[0], slot = tensors.slot_of(0), width = d.width();
    constexpr int last = 8; // warp that makes the results
    const int kind = warp / column_warps,
              in_head = threadIdx.x % head; // of this thread's channel: 0 k, 1 q, 2 v, 3 none
    Channel channel = {};
    if (kind < 3)
        channel.load_known(conv, slot, width,
                           (kind == 0   ? d.key_heads + key
                            : kind == 1 ? key
                                        : 2 * d.key_heads + at_head) *
                                   int64_t(head) +
                               in_head);
    float4 * const own =
        reinterpret_cast<float4 *>(tensors.memory + (slot * d.value_heads + at_head) * int64_t(head) * head + column);
    const auto place = [&](int i) { return own + (i * 16 + part * 4 + j) * (head / 4); };
    float4 state[groups];
#pragma unroll
    for (int i = 0; i < groups; i++) state[i] = __ldcg(place(i));
    float norm_weights[4] = {};
    if (warp == last) load_several<4>(norm.weight + lane * 4, norm_weights);
    const int64_t at = (t * d.value_heads + at_head) * head + lane * 4; // of that warp's results
    wait_for_earlier();
    float opened[4] = {};
    if (warp == last) load_several<4>(norm.z + at, opened);
    bf16 found = {};
    if (kind < 3) {
        found = channel.result(conv.u + t * width);
        of_conv[kind][in_head] = __bfloat162float(found);
    }
    if (a_key > 1) arrive_in_cluster(); // its history is read
    __syncthreads();
    if (warp < 2) { // k, q
        float x[head / warp_size];
#pragma unroll
        for (int i = 0; i < head / warp_size; i++) x[i] = of_conv[warp][i * warp_size + lane];
        stage_unit_row(x, warp == 1, staged[warp]);
    } else if (warp == last) {
#pragma unroll
        for (float & z : opened) z = norm.use_sigmoid ? sigmoid(z) : z * sigmoid(z);
    } else if (warp == 3 * column_warps) {
        const float2 gates = delta_gates(d, tensors, t * d.value_heads + at_head);
        if (lane == 0) shared_gates = {expf(gates.x), gates.y};
    }
    __syncthreads();
    const float decay = shared_gates.x, beta = shared_gates.y;

    float k[groups];
    load_several<groups>(staged[0][j][part], k);
    // The sums of a part over its rows, of all columns, by all parts.
    const auto exchange = [&](float(&of_column)[4], float(&out)[parts][head]) {
#pragma unroll
        for (float & sum : of_column) {
            sum += __shfl_xor_sync(all_lanes, sum, 8);
            sum += __shfl_xor_sync(all_lanes, sum, 16);
        }
        if (j == 0)
            *reinterpret_cast<float4 *>(&out[part][column]) = {of_column[0], of_column[1], of_column[2], of_column[3]};
        __syncthreads();
    };
    const auto total = [&](const float(&of_part)[parts][head], int c) {
        return (of_part[0][c] + of_part[1][c]) + (of_part[2][c] + of_part[3][c]);
    };
    float dots[4] = {};
#pragma unroll
    for (int i = 0; i < groups; i++)
#pragma unroll
        for (int c = 0; c < 4; c++) dots[c] = fmaf(k[i], component(state[i], c), dots[c]);
    exchange(dots, sums[0]);
    if (a_key > 1) wait_for_cluster();
    if (kind == 2 || (kind == 1 && rank == 0) || (kind == 0 && rank == a_key - 1))
        channel.store(conv, slot, width, conv.out + t * width, found);
    float u[4], outs[4] = {}, q[groups];
    load_several<groups>(staged[1][j][part], q);
#pragma unroll
    for (int c = 0; c < 4; c++) u[c] = beta * (of_conv[2][column + c] - decay * total(sums[0], column + c));
#pragma unroll
    for (int i = 0; i < groups; i++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
            component(state[i], c) = fmaf(k[i], u[c], decay * component(state[i], c));
            outs[c] = fmaf(q[i], component(state[i], c), outs[c]);
        }
        __stcs(place(i), state[i]);
    }
    exchange(outs, sums[1]);
    if (warp == last) {
        float o[4], sum = 0;
#pragma unroll
        for (int c = 0; c < 4; c++) o[c] = rounded(total(sums[1], lane * 4 + c));
        store_several<4>(tensors.out + at, o);
#pragma unroll
        for (const float value : o) sum = fmaf(value, value, sum);
        const float scale = 1.0f / sqrtf(warp_sum(sum) / float(head) + norm.epsilon);
#pragma unroll
        for (int c = 0; c < 4; c++) o[c] = rounded(rounded(o[c] * scale) * norm_weights[c]) * opened[c];
        store_several<4>(norm.out + at, o);
    }
}

} // namespace

bool one_text_delta_fits(const CudaContext & context, const Delta & d, const DeltaTensors & tensors, int of_taps) {
    return context.chains && of_taps == taps && d.segments == 1 && d.tokens == 1 && d.shortest_chunked > 1 &&
           tensors.memory && d.key_head == head && d.value_head == head && d.value_heads % d.key_heads == 0 &&
           d.value_heads / d.key_heads <= most_cluster;
}

Status one_text_delta(const CudaContext & context, const ConvStep & conv, const Delta & d, const DeltaTensors & tensors,
                      const NormStep & norm) {
    return launch_clusters("gated_delta_net", context, one_text_kernel, unsigned(d.value_heads),
                           unsigned(d.value_heads / d.key_heads), threads, 0, conv, d, tensors, norm);
}

} // namespace gnv::cuda
