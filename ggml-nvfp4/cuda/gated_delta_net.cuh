// The two forms of gated_delta_net: one position at a time (gated_delta_net.cu), and 64 at once on tensor cores
// (gated_delta_net_chunked.cu). A segment's length alone decides which form it takes.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

struct Delta {
    int64_t tokens;
    int segments, key_heads, value_heads, key_head, value_head;
    int shortest_chunked; // segments of at least so many positions take the chunked form

    __host__ __device__ int64_t width() const {
        return 2 * int64_t(key_heads) * key_head + int64_t(value_heads) * value_head;
    }
};

// As in graph/ops.h.
struct DeltaTensors {
    const bf16 *qkv, *a, *b;
    const float *a_log, *dt_bias;
    const int32_t * segments;
    float * memory;        // or null
    const int32_t * slots; // or null
    bf16 * out;

    __device__ int64_t slot_of(int64_t segment) const { return slots ? slots[segment] : segment; }
};

__device__ inline float & component(float4 & four, int i) {
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

// g and beta of one position of one value head; `at` counts those.
__device__ inline float2 delta_gates(const DeltaTensors & tensors, int head, bf16 a, bf16 b) {
    const float x = __bfloat162float(a) + tensors.dt_bias[head];
    const float softplus = x > 20 ? x : log1pf(expf(x));
    return {-expf(tensors.a_log[head]) * softplus, rounded(sigmoid(__bfloat162float(b)))};
}
__device__ inline float2 delta_gates(const Delta & d, const DeltaTensors & tensors, int64_t at) {
    return delta_gates(tensors, int(at % d.value_heads), tensors.a[at], tensors.b[at]);
}

// A row of k or q, of which a lane has columns i * 32 + lane, with length one, and q over the root of its size; column r goes to
// [r % 4][r / 4 % parts][r / 16], where kernels of one position read it. A warp calls it.
template <int each, int parts, int groups>
__device__ void stage_unit_row(const float (&x)[each], bool is_query, float (&staged)[4][parts][groups]) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < each; i++) sum = fmaf(x[i], x[i], sum);
    float scale = 1.0f / sqrtf(warp_sum(sum) + 1e-6f);
    if (is_query) scale /= sqrtf(float(each * warp_size));
#pragma unroll
    for (int i = 0; i < each; i++) {
        const int r = i * warp_size + int(threadIdx.x) % warp_size;
        staged[r % 4][r / 4 % parts][r / 16] = x[i] * scale;
    }
}

// Of a call of gated_delta_net.
Delta delta_sizes(const KernelCall & call);
DeltaTensors delta_tensors(const KernelCall & call);

bool has_chunked_form(const Delta & d);
uint64_t chunked_scratch_bytes(const Delta & d);
Status run_chunked(CudaContext & context, const Delta & d, const DeltaTensors & tensors, void * scratch);

} // namespace gnv::cuda
