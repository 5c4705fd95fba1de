// The recurrent form in F32: columns of the state are independent of each other, so a few threads hold one column each
// part in registers and walk through the text; no value passes between blocks. Blocks of 32 columns fill the device
// even for one text. Segments of more than one position take the chunked form if the head size has one.
#include "cuda/chain.cuh"
#include "cuda/gated_delta_net_step.cuh"
#include "cuda/kernels.cuh"

#include <limits>

namespace gnv::cuda {

namespace {

constexpr int columns_per_block = 32;
constexpr int parts = 4;            // threads that share a column: rows i * 16 + part * 4 + (0..3)
constexpr int columns_per_warp = 8; // 32 / parts
constexpr int threads_per_block = columns_per_block * parts;
constexpr int warps_per_block = threads_per_block / warp_size;
constexpr int staged_positions = 8;
// As on the CPU: a text that comes in pieces of 64, or of multiples, has the same bits as one that comes at once.
constexpr int shortest_chunked = 2;

__device__ float part_sum(float value) {
    value += __shfl_xor_sync(all_lanes, value, 8);
    return value + __shfl_xor_sync(all_lanes, value, 16);
}

// k and q of some positions with length one, q over sqrt(Dk) too; a row is the work of a warp.
template <int key_head>
__device__ void stage_keys(const Delta & d, const bf16 * qkv, int64_t first, int count, int key,
                           float (*staged)[2][key_head]) {
    constexpr int rows = staged_positions * 2 / warps_per_block, each = key_head / warp_size;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    float x[rows][each];
#pragma unroll
    for (int r = 0; r < rows; r++) {
        const int t = (warp * rows + r) / 2, is_query = r % 2;
        const bf16 * const from =
            qkv + (first + t) * d.width() + (is_query ? key : d.key_heads + key) * int64_t(key_head);
#pragma unroll
        for (int i = 0; i < each; i++) x[r][i] = t < count ? __bfloat162float(from[i * warp_size + lane]) : 0.0f;
    }
#pragma unroll
    for (int r = 0; r < rows; r++) {
        const int t = (warp * rows + r) / 2, is_query = r % 2;
        float sum = 0;
#pragma unroll
        for (int i = 0; i < each; i++) sum = fmaf(x[r][i], x[r][i], sum);
        float scale = 1.0f / sqrtf(warp_sum(sum) + 1e-6f);
        if (is_query) scale /= sqrtf(float(key_head));
#pragma unroll
        for (int i = 0; i < each; i++) staged[t][is_query][i * warp_size + lane] = x[r][i] * scale;
    }
}

template <int key_head>
__global__ void __launch_bounds__(threads_per_block) recurrent_kernel(Delta d, DeltaTensors tensors) {
    constexpr int held = key_head / 16;                                   // groups of four rows that a thread holds
    __shared__ __align__(16) float staged[staged_positions][2][key_head]; // k, q
    __shared__ float values[staged_positions][columns_per_block];
    __shared__ float2 gate[staged_positions]; // exp(g), beta
    const int64_t segment = blockIdx.z, begin = tensors.segments[segment], end = tensors.segments[segment + 1];
    if (end - begin >= d.shortest_chunked) return;
    let_later_start();
    wait_for_earlier();
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, part = lane / columns_per_warp;
    const int column = warp * columns_per_warp + lane % columns_per_warp; // in the block
    const int head = blockIdx.y, key = head / (d.value_heads / d.key_heads);
    const int64_t first_column = int64_t(blockIdx.x) * columns_per_block, value_column = first_column + column;
    const int64_t width = d.width();
    const bf16 * const v =
        tensors.qkv + 2 * int64_t(d.key_heads) * d.key_head + int64_t(head) * d.value_head + first_column;
    const bool real = value_column < d.value_head;

    float4 state[held];
    float * const own = tensors.memory
                            ? tensors.memory +
                                  (tensors.slot_of(segment) * d.value_heads + head) * int64_t(key_head) * d.value_head +
                                  value_column
                            : nullptr;
    const auto row = [&](int i, int j) { return int64_t(i * 16 + part * 4 + j) * d.value_head; };
#pragma unroll
    for (int i = 0; i < held; i++)
        state[i] = own && real ? make_float4(own[row(i, 0)], own[row(i, 1)], own[row(i, 2)], own[row(i, 3)])
                               : make_float4(0, 0, 0, 0);

    for (int64_t base = begin; base < end; base += staged_positions) {
        const int count = int(min(int64_t(staged_positions), end - base));
        __syncthreads();
        stage_keys<key_head>(d, tensors.qkv, base, count, key, staged);
        for (int i = threadIdx.x; i < count * columns_per_block; i += threads_per_block) {
            const int t = i / columns_per_block, c = i % columns_per_block;
            values[t][c] = first_column + c < d.value_head ? __bfloat162float(v[(base + t) * width + c]) : 0.0f;
        }
        if (threadIdx.x < count) {
            const float2 gates = delta_gates(d, tensors, (base + threadIdx.x) * d.value_heads + head);
            gate[threadIdx.x] = {expf(gates.x), gates.y};
        }
        __syncthreads();
        for (int t = 0; t < count; t++) {
            const float decay = gate[t].x, beta = gate[t].y;
            const auto * const keys = reinterpret_cast<const float4 *>(staged[t][0]);
            const auto * const queries = reinterpret_cast<const float4 *>(staged[t][1]);
            float4 k[held];
            float dots[4] = {0, 0, 0, 0};
#pragma unroll
            for (int i = 0; i < held; i++) {
                k[i] = keys[i * 4 + part];
                dots[0] = fmaf(k[i].x, state[i].x, dots[0]);
                dots[1] = fmaf(k[i].y, state[i].y, dots[1]);
                dots[2] = fmaf(k[i].z, state[i].z, dots[2]);
                dots[3] = fmaf(k[i].w, state[i].w, dots[3]);
            }
            const float known = decay * part_sum((dots[0] + dots[1]) + (dots[2] + dots[3]));
            const float u = beta * (values[t][column] - known);
            float sums[4] = {0, 0, 0, 0};
#pragma unroll
            for (int i = 0; i < held; i++) {
                const float4 q = queries[i * 4 + part];
                state[i].x = fmaf(k[i].x, u, decay * state[i].x);
                state[i].y = fmaf(k[i].y, u, decay * state[i].y);
                state[i].z = fmaf(k[i].z, u, decay * state[i].z);
                state[i].w = fmaf(k[i].w, u, decay * state[i].w);
                sums[0] = fmaf(q.x, state[i].x, sums[0]);
                sums[1] = fmaf(q.y, state[i].y, sums[1]);
                sums[2] = fmaf(q.z, state[i].z, sums[2]);
                sums[3] = fmaf(q.w, state[i].w, sums[3]);
            }
            const float o = part_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
            if (part == 0 && real)
                tensors.out[((base + t) * d.value_heads + head) * d.value_head + value_column] = __float2bfloat16_rn(o);
        }
    }
    if (!own || !real) return;
#pragma unroll
    for (int i = 0; i < held; i++) {
        own[row(i, 0)] = state[i].x;
        own[row(i, 1)] = state[i].y;
        own[row(i, 2)] = state[i].z;
        own[row(i, 3)] = state[i].w;
    }
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Delta d = delta_sizes(call);
    const DeltaTensors tensors = delta_tensors(call);
    if (call.as<GatedDeltaNetParams>().one_position && d.shortest_chunked > d.tokens && delta_step::fits(d, tensors))
        return delta_step::run(context, d, tensors);
    if (d.shortest_chunked <= d.tokens) GNV_TRY(run_chunked(context, d, tensors, call.scratch));
    if (d.shortest_chunked == 1) return {};
    const auto kernel = d.key_head == 128  ? recurrent_kernel<128>
                        : d.key_head == 64 ? recurrent_kernel<64>
                                           : recurrent_kernel<32>;
    const dim3 grid(blocks_for(d.value_head, columns_per_block), unsigned(d.value_heads), unsigned(d.segments));
    return launch_chained("gated_delta_net", context, kernel, grid, threads_per_block, 0, d, tensors);
}

uint64_t scratch_bytes(const KernelCall & call) {
    const Delta d = delta_sizes(call);
    return d.shortest_chunked <= d.tokens ? chunked_scratch_bytes(d) : 0;
}

Status supports(const KernelCall & call) {
    const int64_t head = call.as<GatedDeltaNetParams>().key_head;
    if (head == 32 || head == 64 || head == 128) return {};
    return fail(Code::unsupported, "key head size ", head, " is not supported on this device (32, 64, 128)");
}

} // namespace

Delta delta_sizes(const KernelCall & call) {
    using Form = GatedDeltaNetParams::Form;
    const auto & params = call.as<GatedDeltaNetParams>();
    Delta d = {call.inputs[0].shape[0],
               int(call.inputs[5].shape[0] - 1),
               int(params.key_heads),
               int(params.value_heads),
               int(params.key_head),
               int(params.value_head),
               params.form == Form::chunked ? 1 : shortest_chunked};
    if (params.form == Form::recurrent || (params.one_position && params.form == Form::automatic) ||
        !has_chunked_form(d) || d.tokens < d.shortest_chunked)
        d.shortest_chunked = std::numeric_limits<int>::max();
    return d;
}

DeltaTensors delta_tensors(const KernelCall & call) {
    return {call.inputs[0].as<const bf16>(),  call.inputs[1].as<const bf16>(),    call.inputs[2].as<const bf16>(),
            call.inputs[3].as<const float>(), call.inputs[4].as<const float>(),   call.inputs[5].as<const int32_t>(),
            call.inputs[6].as<float>(),       call.inputs[7].as<const int32_t>(), call.outputs[0].as<bf16>()};
}

const KernelEntry gated_delta_net_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
