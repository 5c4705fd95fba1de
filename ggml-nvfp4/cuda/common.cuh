// What all kernels of this folder share. Activations are BF16 in memory and F32 in registers; storing rounds to nearest even,
// which is the [r] of graph/ops.h.
#pragma once

#include "core/status.h"
#include "exec/kernel.h"

#include <algorithm>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace gnv::cuda {

using bf16 = __nv_bfloat16;

inline constexpr int warp_size = 32;
inline constexpr unsigned all_lanes = 0xffffffff;

class GemmLt;

// One device's queue and what its kernels keep between launches.
struct CudaContext {
    cudaStream_t stream = nullptr;
    GemmLt * gemm = nullptr;
    int processors = 0; // streaming multiprocessors
};

// As exec/kernel.h, with the device's context. Failures to launch stick to the stream; Status is for what a kernel refuses.
struct CudaEntry {
    Status (*run)(CudaContext & context, KernelCall & call) = nullptr;
    uint64_t (*scratch_bytes)(const KernelCall & call) = nullptr;
    // What the contract allows and the kernel does not take; tensors have shapes and no data. Null: it takes everything.
    Status (*supports)(const KernelCall & call) = nullptr;
};

inline uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }
inline unsigned blocks_for(int64_t items, int64_t per_block) { return unsigned((items + per_block - 1) / per_block); }

inline Status launched(const char * op) {
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return {};
    return fail(Code::device, op, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

// Eight BF16 at once, 16 bytes.
struct alignas(16) Eight {
    __nv_bfloat162 pairs[4];
};

__device__ inline void unpack(const Eight & eight, float * out) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = __bfloat1622float2(eight.pairs[i]);
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
    }
}

__device__ inline Eight pack(const float * values) {
    Eight eight;
#pragma unroll
    for (int i = 0; i < 4; i++) eight.pairs[i] = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
    return eight;
}

__device__ inline float rounded(float value) { return __bfloat162float(__float2bfloat16_rn(value)); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The same value in every lane.
__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(all_lanes, value, step);
    return value;
}

} // namespace gnv::cuda
