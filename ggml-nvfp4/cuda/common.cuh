// Shared code of all kernels of this folder. Activations are BF16 in memory and F32 in registers; stores round to
// nearest even, which is the [r] of graph/ops.h.
#pragma once

#include "core/status.h"
#include "exec/backend.h"

#include <algorithm>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace gnv::cuda {

using bf16 = __nv_bfloat16;

inline constexpr int warp_size = 32;
inline constexpr unsigned all_lanes = 0xffffffff;

class GemmLt;

// One device's queue and the data that its kernels keep between launches.
struct CudaContext : KernelContext {
    cudaStream_t stream = nullptr;
    GemmLt * gemm = nullptr;
    int processors = 0;                   // streaming multiprocessors
    int most_shared_bytes = 48 << 10;     // of a block
    bool chains = false;                  // a kernel may start before the one before it ends (chain.cuh)
    uint32_t * made = nullptr;            // on the device: a count for add_made() (chain.cuh)
    ScreeningCounts * screened = nullptr; // on the device
    bool hopper = false; // the kernels for compute capability 9.0 are there, and run on this device (wgmma.cuh)
};
inline CudaContext & context_of(const KernelCall & call) { return static_cast<CudaContext &>(*call.context); }

inline uint64_t aligned(uint64_t bytes) { return device_aligned(bytes); } // a part of scratch memory
inline unsigned blocks_for(int64_t items, int64_t per_block) { return unsigned((items + per_block - 1) / per_block); }
// Blocks of 256 threads for a loop over any number of items.
inline unsigned grid_for(int64_t items) { return unsigned(std::clamp<int64_t>(blocks_for(items, 256), 1, 65535)); }

inline Status launched(const char * op) {
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return {};
    return fail(Code::device, op, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

// Two BF16 numbers in a word, the first in its low half.
__device__ inline uint32_t pair_of(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}
__device__ inline float2 numbers_of(uint32_t pair) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000)};
}
// Eight BF16 numbers as the 16 bytes of one access. A struct of __nv_bfloat162 would be copied in pieces of 4.
__device__ inline uint4 pack(const float (&values)[8]) {
    return {pair_of(values[0], values[1]), pair_of(values[2], values[3]), pair_of(values[4], values[5]),
            pair_of(values[6], values[7])};
}
__device__ inline void unpack(const uint4 & eight, float (&out)[8]) {
    const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 both = numbers_of(words[i]);
        out[2 * i] = both.x, out[2 * i + 1] = both.y;
    }
}
// An assignment behind a condition would become four of four bytes.
__device__ inline void store_eight(bf16 * to, const uint4 & eight) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(eight.x),
                 "r"(eight.y), "r"(eight.z), "r"(eight.w)
                 : "memory");
}

// `n` neighbours in one access: 1, 2, 4 or 8 BF16 numbers that begin at a multiple of n, or as many floats.
template <int n>
__device__ void load_several(const bf16 * from, float (&out)[n]) {
    struct alignas(n * sizeof(bf16)) Several {
        bf16 values[n];
    };
    const Several several = *reinterpret_cast<const Several *>(from);
#pragma unroll
    for (int i = 0; i < n; i++) out[i] = __bfloat162float(several.values[i]);
}
template <int n>
__device__ void load_several(const float * from, float (&out)[n]) {
    constexpr int once = n < 4 ? n : 4; // at most 16 bytes
    struct alignas(once * sizeof(float)) Several {
        float values[once];
    };
#pragma unroll
    for (int i = 0; i < n; i += once) {
        const Several several = *reinterpret_cast<const Several *>(from + i);
#pragma unroll
        for (int j = 0; j < once; j++) out[i + j] = several.values[j];
    }
}
template <int n>
__device__ void store_several(bf16 * to, const float (&values)[n]) {
    struct alignas(n * sizeof(bf16)) Several {
        bf16 values[n];
    } several;
#pragma unroll
    for (int i = 0; i < n; i++) several.values[i] = __float2bfloat16_rn(values[i]);
    *reinterpret_cast<Several *>(to) = several;
}

__device__ inline float rounded(float value) { return __bfloat162float(__float2bfloat16_rn(value)); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// For BF16 numbers x there are forms without the branches of a division, so that a thread works on several numbers at a time.
// tests/cuda/test_sigmoid_cuda.cpp has all of them. A quarter of 1 + exp(-x) has a reciprocal that is not subnormal, if the
// exponential is finite.
__device__ inline float reciprocal_estimate(float x) {
    float out;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}
// The bits of sigmoid(x): a step of Newton's method rounds as a division does.
__device__ inline float sigmoid_of_bf16(float x) {
    const float exponential = expf(-x), quarter = fmaf(0.25f, exponential, 0.25f);
    const float estimate = reciprocal_estimate(quarter);
    const float result = 0.25f * fmaf(fmaf(-quarter, estimate, 1.0f), estimate, estimate);
    return exponential == INFINITY ? 0.0f : result;
}
// 4 sigmoid(x), and from it what has the bits of sigmoid(x) and of x * sigmoid(x) after a rounding to BF16.
__device__ inline float four_sigmoids(float x) {
    float quarter; // of exp(-x)
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(quarter) : "f"(fmaf(x, -1.44269504f, -2.0f)));
    return reciprocal_estimate(0.25f + quarter);
}
__device__ inline float rounded_sigmoid(float x) { return rounded(0.25f * four_sigmoids(x)); }
__device__ inline float silu(float x) { return 0.25f * x * four_sigmoids(x); }

__device__ inline unsigned largest_of_warp(unsigned value) { return __reduce_max_sync(all_lanes, value); }
__device__ inline unsigned smallest_of_warp(unsigned value) { return __reduce_min_sync(all_lanes, value); }

// The same value in every lane.
__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(all_lanes, value, step);
    return value;
}

} // namespace gnv::cuda
