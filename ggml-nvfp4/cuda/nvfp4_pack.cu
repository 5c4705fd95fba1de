// Both kernels move more bytes than they compute on: 16-byte loads, grid-stride loops, one thread per block of 16 weights.
// Every rounding is an explicit IEEE operation (__fdiv_rn and the like), which no compiler flag fuses or approximates.
#include "core/status.h"
#include "cuda/nvfp4_pack.cuh"

#include <algorithm>

namespace gnv::cuda {

static constexpr int threads_per_group = 256;

static int groups_for(int64_t threads) {
    constexpr int64_t enough_for_any_device = 4096;
    return int(std::clamp((threads + threads_per_group - 1) / threads_per_group, int64_t(1), enough_for_any_device));
}

static bool is_aligned(const void * memory, uintptr_t alignment) {
    return reinterpret_cast<uintptr_t>(memory) % alignment == 0;
}

static __device__ int64_t first_index() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
static __device__ int64_t index_step() { return int64_t(gridDim.x) * blockDim.x; }

// Two BF16 magnitudes, each the larger of `largest` and of `pair`'s.
static __device__ uint32_t larger_magnitudes(uint32_t largest, uint32_t pair) {
    return __vmaxu2(largest, pair & 0x7fff7fff);
}

static __device__ uint32_t larger_of(uint32_t pair) { return max(pair & 0xffff, pair >> 16); }

// --- Largest magnitude -----------------------------------------------------------------------------------------------

static __global__ void absolute_maximum_kernel(const uint16_t * weights, int64_t count, uint32_t * largest) {
    const auto * quads = reinterpret_cast<const uint4 *>(weights); // 8 weights each
    uint32_t pair = 0;
    for (int64_t i = first_index(); i < count / 8; i += index_step()) {
        const uint4 quad = quads[i];
        pair = larger_magnitudes(larger_magnitudes(pair, quad.x), quad.y);
        pair = larger_magnitudes(larger_magnitudes(pair, quad.z), quad.w);
    }
    for (int64_t i = count / 8 * 8 + first_index(); i < count; i += index_step())
        pair = larger_magnitudes(pair, weights[i]);
    const uint32_t of_warp = __reduce_max_sync(0xffffffff, larger_of(pair));
    if (threadIdx.x % 32 == 0) atomicMax(largest, of_warp); // integers: any order gives the same
}

cudaError_t nvfp4_absolute_maximum(cudaStream_t stream, const uint16_t * weights, int64_t count, uint32_t * largest) {
    GNV_CHECK(is_aligned(weights, 16));
    if (count == 0) return cudaSuccess;
    absolute_maximum_kernel<<<groups_for(count / 8), threads_per_group, 0, stream>>>(weights, count, largest);
    return cudaGetLastError();
}

// --- Pack ------------------------------------------------------------------------------------------------------------

static __device__ float round_to_bf16(float x) {
    const uint32_t bits = __float_as_uint(x);
    return __uint_as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

// The E4M3 byte of a block, and the number that it stands for. In the sum product + offset the processor rounds where E4M3
// does, because the sum's last bit is worth one step of E4M3 at the product.
static __device__ uint8_t block_scale(float amax, float global, float & value) {
    const float scale = round_to_bf16(__fdiv_rn(amax, 6.0f));
    const float product = fminf(__fmul_rn(global, scale), 448.0f);
    const uint32_t exponent = max(__float_as_uint(product) >> 23, 127u - 6) + 20;
    const float offset = __uint_as_float(exponent << 23);
    const float sum = __fadd_rn(product, offset);
    value = __fsub_rn(sum, offset);
    if (value == 0.0f) {
        value = 0.125f;
        return 0x20;
    }
    const uint32_t steps = __float_as_uint(sum) & 31;
    return uint8_t((exponent - (127 - 6 + 20)) * 8 + steps);
}

// Counts the boundaries that |x| passes; each belongs to the neighbour with the even code.
static __device__ uint32_t element_code(float weight, float divisor) {
    const float x = __fdiv_rn(weight, divisor);
    const float magnitude = fabsf(x);
    const uint32_t code = uint32_t(magnitude > 0.25f) + uint32_t(magnitude >= 0.75f) + uint32_t(magnitude > 1.25f) +
                          uint32_t(magnitude >= 1.75f) + uint32_t(magnitude > 2.5f) + uint32_t(magnitude >= 3.5f) +
                          uint32_t(magnitude > 5.0f);
    return code | (x < 0.0f ? 8 : 0); // -0 has no sign
}

// Two code bytes from four weights.
static __device__ uint32_t two_bytes(uint32_t first, uint32_t second, float divisor) {
    return element_code(__uint_as_float(first << 16), divisor) |
           element_code(__uint_as_float(first & 0xffff0000), divisor) << 4 |
           element_code(__uint_as_float(second << 16), divisor) << 8 |
           element_code(__uint_as_float(second & 0xffff0000), divisor) << 12;
}

static __global__ void pack_kernel(const uint4 * weights, int64_t blocks, float global, uint2 * codes,
                                   uint8_t * scales) {
    for (int64_t i = first_index(); i < blocks; i += index_step()) {
        const uint4 a = weights[2 * i], b = weights[2 * i + 1];
        uint32_t pair = 0;
        for (const uint32_t two : {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}) pair = larger_magnitudes(pair, two);
        float value;
        scales[i] = block_scale(__uint_as_float(larger_of(pair) << 16), global, value);
        const float divisor = __fdiv_rn(value, global);
        codes[i] = make_uint2(two_bytes(a.x, a.y, divisor) | two_bytes(a.z, a.w, divisor) << 16,
                              two_bytes(b.x, b.y, divisor) | two_bytes(b.z, b.w, divisor) << 16);
    }
}

cudaError_t nvfp4_pack(cudaStream_t stream, const uint16_t * weights, int64_t blocks, float global, uint8_t * codes,
                       uint8_t * scales) {
    GNV_CHECK(is_aligned(weights, 16) && is_aligned(codes, 8));
    if (blocks == 0) return cudaSuccess;
    pack_kernel<<<groups_for(blocks), threads_per_group, 0, stream>>>(reinterpret_cast<const uint4 *>(weights), blocks,
                                                                      global, reinterpret_cast<uint2 *>(codes), scales);
    return cudaGetLastError();
}

} // namespace gnv::cuda
