// The recurrent form in F32: columns of the state are independent of each other, so a few threads hold one column each part
// in registers and walk through the text; no value passes between blocks. Blocks of 32 columns fill the device even for one
// text.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int columns_per_block = 32;
constexpr int parts = 4;            // threads that share a column: rows i * 16 + part * 4 + (0..3)
constexpr int columns_per_warp = 8; // 32 / parts
constexpr int threads_per_block = columns_per_block * parts;
constexpr int chunk = 8; // positions that are staged together

struct Delta {
    int64_t tokens;
    int key_heads, value_heads, key_head, value_head;
};

// q and k with length one (q over sqrt(Dk) too): f32 [T, Hk, 2, Dk], k first; a warp for each.
__global__ void normalize_kernel(Delta d, const bf16 * qkv, float * out) {
    const int64_t item = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / warp_size;
    const int lane = threadIdx.x % warp_size;
    if (item >= d.tokens * d.key_heads * 2) return;
    const int64_t t = item / (d.key_heads * 2);
    const int head = int(item / 2 % d.key_heads), is_query = int(item % 2);
    const int64_t width = 2 * int64_t(d.key_heads) * d.key_head + int64_t(d.value_heads) * d.value_head;
    const bf16 * const from = qkv + t * width + (is_query ? 0 : int64_t(d.key_heads) * d.key_head) + head * d.key_head;
    float sum = 0;
    for (int i = lane; i < d.key_head; i += warp_size) {
        const float value = __bfloat162float(from[i]);
        sum = fmaf(value, value, sum);
    }
    float scale = 1.0f / sqrtf(warp_sum(sum) + 1e-6f);
    if (is_query) scale /= sqrtf(float(d.key_head));
    float * const to = out + item * d.key_head;
    for (int i = lane; i < d.key_head; i += warp_size) to[i] = __bfloat162float(from[i]) * scale;
}

// exp(g) and beta, [T, Hv]
__global__ void gates_kernel(Delta d, const bf16 * a, const bf16 * b, const float * a_log, const float * dt_bias,
                             float2 * out) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= d.tokens * d.value_heads) return;
    const int head = int(i % d.value_heads);
    const float x = __bfloat162float(a[i]) + dt_bias[head];
    const float softplus = x > 20 ? x : log1pf(expf(x));
    out[i] = {expf(-expf(a_log[head]) * softplus), rounded(sigmoid(__bfloat162float(b[i])))};
}

__device__ float part_sum(float value) {
    value += __shfl_xor_sync(all_lanes, value, 8);
    return value + __shfl_xor_sync(all_lanes, value, 16);
}

template <int key_head>
__global__ void __launch_bounds__(threads_per_block)
    delta_kernel(Delta d, const bf16 * qkv, const float * keys, const float2 * gates, const int32_t * segments,
                 float * memory, bf16 * out) {
    constexpr int held = key_head / 16;               // groups of four rows that a thread holds
    __shared__ float4 staged[chunk][2][key_head / 4]; // k, q
    __shared__ float values[chunk][columns_per_block];
    __shared__ float2 gate[chunk];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, part = lane / columns_per_warp;
    const int column = warp * columns_per_warp + lane % columns_per_warp; // in the block
    const int head = blockIdx.y, key = head / (d.value_heads / d.key_heads);
    const int64_t segment = blockIdx.z, begin = segments[segment], end = segments[segment + 1];
    const int64_t first_column = int64_t(blockIdx.x) * columns_per_block, value_column = first_column + column;
    const int64_t width = 2 * int64_t(d.key_heads) * d.key_head + int64_t(d.value_heads) * d.value_head;
    const bf16 * const v = qkv + 2 * int64_t(d.key_heads) * d.key_head + int64_t(head) * d.value_head + first_column;
    const bool real = value_column < d.value_head;

    float4 state[held];
    float * const own =
        memory ? memory + (segment * d.value_heads + head) * int64_t(key_head) * d.value_head + value_column : nullptr;
    const auto row = [&](int i, int j) { return int64_t(i * 16 + part * 4 + j) * d.value_head; };
#pragma unroll
    for (int i = 0; i < held; i++)
        state[i] = own && real ? make_float4(own[row(i, 0)], own[row(i, 1)], own[row(i, 2)], own[row(i, 3)])
                               : make_float4(0, 0, 0, 0);

    for (int64_t base = begin; base < end; base += chunk) {
        const int count = int(min(int64_t(chunk), end - base));
        __syncthreads();
        for (int i = threadIdx.x; i < count * 2 * (key_head / 4); i += threads_per_block) {
            const int t = i / (2 * (key_head / 4)), rest = i % (2 * (key_head / 4));
            (&staged[t][0][0])[rest] =
                reinterpret_cast<const float4 *>(keys + ((base + t) * d.key_heads + key) * 2 * key_head)[rest];
        }
        for (int i = threadIdx.x; i < count * columns_per_block; i += threads_per_block) {
            const int t = i / columns_per_block, c = i % columns_per_block;
            values[t][c] = first_column + c < d.value_head ? __bfloat162float(v[(base + t) * width + c]) : 0.0f;
        }
        if (threadIdx.x < count) gate[threadIdx.x] = gates[(base + threadIdx.x) * d.value_heads + head];
        __syncthreads();
        for (int t = 0; t < count; t++) {
            const float decay = gate[t].x, beta = gate[t].y;
            float4 k[held];
            float dots[4] = {0, 0, 0, 0};
#pragma unroll
            for (int i = 0; i < held; i++) {
                k[i] = staged[t][0][i * 4 + part];
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
                const float4 q = staged[t][1][i * 4 + part];
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
                out[((base + t) * d.value_heads + head) * d.value_head + value_column] = __float2bfloat16_rn(o);
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

Delta sizes_of(const KernelCall & call) {
    const auto & params = call.as<GatedDeltaNetParams>();
    return {call.inputs[0].shape[0], int(params.key_heads), int(params.value_heads), int(params.key_head),
            int(params.value_head)};
}

uint64_t key_bytes(const Delta & d) {
    return aligned(uint64_t(d.tokens) * uint64_t(d.key_heads) * 2 * uint64_t(d.key_head) * 4);
}

Status run(CudaContext & context, KernelCall & call) {
    const Delta d = sizes_of(call);
    const auto * qkv = call.inputs[0].as<const bf16>();
    auto * keys = static_cast<float *>(call.scratch);
    auto * gates = reinterpret_cast<float2 *>(static_cast<uint8_t *>(call.scratch) + key_bytes(d));
    normalize_kernel<<<blocks_for(d.tokens * d.key_heads * 2, 8), 256, 0, context.stream>>>(d, qkv, keys);
    gates_kernel<<<blocks_for(d.tokens * d.value_heads, 256), 256, 0, context.stream>>>(
        d, call.inputs[1].as<const bf16>(), call.inputs[2].as<const bf16>(), call.inputs[3].as<const float>(),
        call.inputs[4].as<const float>(), gates);
    const auto kernel = d.key_head == 128 ? delta_kernel<128> : d.key_head == 64 ? delta_kernel<64> : delta_kernel<32>;
    const dim3 grid(blocks_for(d.value_head, columns_per_block), unsigned(d.value_heads),
                    unsigned(call.inputs[5].shape[0] - 1));
    kernel<<<grid, threads_per_block, 0, context.stream>>>(d, qkv, keys, gates, call.inputs[5].as<const int32_t>(),
                                                           call.inputs[6].as<float>(), call.outputs[0].as<bf16>());
    return launched("gated_delta_net");
}

uint64_t scratch_bytes(const KernelCall & call) {
    const Delta d = sizes_of(call);
    return key_bytes(d) + uint64_t(d.tokens) * uint64_t(d.value_heads) * sizeof(float2);
}

Status supports(const KernelCall & call) {
    const int64_t head = call.as<GatedDeltaNetParams>().key_head;
    if (head == 32 || head == 64 || head == 128) return {};
    return fail(Code::unsupported, "key heads of ", head, " dims; they have 32, 64 or 128 there");
}

} // namespace

const CudaEntry gated_delta_net_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
