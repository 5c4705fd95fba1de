// Both kernels move more bytes than they compute on: 16-byte loads, grid-stride loops, one thread per block of 16
// weights. Experts are small: a launch takes many weights, each of which gets its share of the device. Every rounding
// is an explicit IEEE operation (__fdiv_rn and the like), which no compiler flag fuses or approximates.
#include "core/status.h"
#include "cuda/nvfp4_pack.cuh"
#include "cuda/weight_batches.cuh"

#include <vector>

namespace gnv::cuda {

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

static __global__ void __launch_bounds__(threads_per_group)
    absolute_maximum_kernel(const __grid_constant__ Batch<WeightsToMeasure> batch) {
    const uint16_t * const weights = batch.weights[blockIdx.y].weights;
    const int64_t count = batch.weights[blockIdx.y].count;
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
    if (threadIdx.x % 32 == 0) // integers: any order gives the same
        atomicMax(batch.weights[blockIdx.y].largest, of_warp);
}

cudaError_t nvfp4_absolute_maximum(cudaStream_t stream, int processors, std::span<const WeightsToMeasure> weights) {
    for (const WeightsToMeasure & one : weights) GNV_CHECK(is_aligned(one.weights, 16));
    int at_once = 0;
    if (const cudaError_t error = groups_at_once(absolute_maximum_kernel, processors, at_once)) return error;
    return launch_in_batches(weights, at_once, &WeightsToMeasure::count,
                             [&](const Batch<WeightsToMeasure> & batch, const dim3 & grid) {
                                 absolute_maximum_kernel<<<grid, threads_per_group, 0, stream>>>(batch);
                             });
}

// --- Pack ------------------------------------------------------------------------------------------------------------

static __device__ float round_to_bf16(float x) {
    const uint32_t bits = __float_as_uint(x);
    return __uint_as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

// The E4M3 byte of a block. In the sum product + offset the processor rounds where E4M3 does, because the sum's last
// bit is worth one step of E4M3 at the product.
//
// amax / 6 is rounded twice, to F32 and to BF16. The product with F32's sixth, which is off by less than 2^-23 of
// itself, comes to the same BF16 number: amax has 8 bits, so amax / 6 is a third of a number of 8 bits. When that
// is no whole number of half BF16 steps, it is at least 1/6 of a step, 2^-11 of itself, away from where BF16
// rounding turns; when it is, F32 has that number, and the product, off by less than F32's half step, is rounded
// to it. (The tests try all.)
static __device__ uint32_t block_scale(float amax, float global) {
    const float scale = round_to_bf16(__fmul_rn(amax, 1.0f / 6.0f));
    const float product = fminf(__fmul_rn(global, scale), 448.0f);
    const uint32_t exponent = max(__float_as_uint(product) >> 23, 127u - 6) + 20;
    const float offset = __uint_as_float(exponent << 23);
    const float sum = __fadd_rn(product, offset);
    const uint32_t steps = __float_as_uint(sum) & 31;
    return sum == offset ? 0x20 : (exponent - (127 - 6 + 20)) * 8 + steps;
}

// A weight w has the code that counts the boundaries which x = w / (scale / global), rounded to F32, passes. That
// quotient never falls when |w| grows, and there are 127 scales: so for each scale and boundary the smallest BF16
// magnitude that passes is found once, by dividing as the definition does, and each weight is then compared with those,
// two at a time, as integers. The first boundary is that of the sign: a quotient of zero has none.
static constexpr int boundaries = 8;
static __constant__ const float boundary_of[boundaries] = {0.0f, 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
static constexpr int scale_codes = 127;
static constexpr uint32_t infinite = 0x7f80; // above all finite magnitudes

// Summands for a word with two magnitudes that set the top bit of a half if its magnitude passes: 0x8000 minus the
// smallest that passes.
struct Boundaries {
    uint4 sign_to_1_25[scale_codes + 1], from_1_75[scale_codes + 1]; // by scale byte
};

// A boundary belongs to the neighbour with the even code.
static __device__ bool passes(uint32_t magnitude, float divisor, int boundary) {
    const float x = __fdiv_rn(__uint_as_float(magnitude << 16), divisor);
    return boundary > 0 && boundary % 2 == 0 ? x >= boundary_of[boundary] : x > boundary_of[boundary];
}

// Two or three quotients suffice where the product of divisor and boundary, which is where the search starts, is not
// far off. For the sign that product is half the smallest number, 2^-150, times the divisor.
static __device__ uint32_t smallest_that_passes(float divisor, int boundary) {
    const float guess =
        boundary == 0 ? __fmul_rn(__fmul_rn(divisor, 0x1p-75f), 0x1p-75f) : __fmul_rn(divisor, boundary_of[boundary]);
    uint32_t smallest = min(__float_as_uint(guess) >> 16, infinite);
    while (smallest > 0 && passes(smallest - 1, divisor, boundary)) smallest--;
    while (smallest < infinite && !passes(smallest, divisor, boundary)) smallest++;
    return smallest;
}

static __device__ void find_boundaries(float global, Boundaries & out) {
    for (int i = threadIdx.x; i < scale_codes * boundaries; i += blockDim.x) {
        const int code = i % scale_codes, boundary = i / scale_codes, exponent = code / 8, steps = code % 8;
        const float scale = exponent == 0 ? float(steps) * 0x1p-9f
                                          : float(8 + steps) * __uint_as_float(uint32_t(exponent - 10 + 127) << 23);
        const uint32_t addend = (0x8000 - smallest_that_passes(__fdiv_rn(scale, global), boundary)) * 0x10001;
        uint4 * const to = boundary < 4 ? out.sign_to_1_25 : out.from_1_75;
        reinterpret_cast<uint32_t *>(to + code)[boundary % 4] = addend;
    }
}

// Bits of codes of two weights, each in the top bit of its half; the rest of a half is noise.
struct CodeBits {
    uint32_t sign, four, two, one;
};

static __device__ CodeBits code_bits(uint32_t pair, const uint4 & low, const uint4 & high) {
    const uint32_t magnitudes = pair & 0x7fff7fff;
    const uint32_t second = magnitudes + low.z, fourth = magnitudes + high.x, sixth = magnitudes + high.z;
    const uint32_t odd = (magnitudes + low.y) ^ (magnitudes + low.w) ^ (magnitudes + high.y) ^ (magnitudes + high.w);
    // Boundaries are passed in order: the parity of their number is the last bit of it.
    return {pair & (magnitudes + low.x), fourth, second ^ fourth ^ sixth, second ^ fourth ^ sixth ^ odd};
}

// Four codes in the upper halves of four bytes.
static __device__ uint32_t four_codes(const CodeBits & a, const CodeBits & b) {
    const auto tops = [](uint32_t x, uint32_t y) { return __byte_perm(x, y, 0x7531); }; // the bytes with the top bits
    return (tops(a.sign, b.sign) & 0x80808080) | (tops(a.four, b.four) >> 1 & 0x40404040) |
           (tops(a.two, b.two) >> 2 & 0x20202020) | (tops(a.one, b.one) >> 3 & 0x10101010);
}

// Four code bytes from eight weights.
static __device__ uint32_t eight_codes(const uint4 & weights, const uint4 & low, const uint4 & high) {
    const uint32_t first = four_codes(code_bits(weights.x, low, high), code_bits(weights.y, low, high));
    const uint32_t second = four_codes(code_bits(weights.z, low, high), code_bits(weights.w, low, high));
    return (__byte_perm(first, second, 0x6420) >> 4 & 0x0f0f0f0f) | (__byte_perm(first, second, 0x7531) & 0xf0f0f0f0);
}

static __global__ void __launch_bounds__(threads_per_group)
    pack_kernel(const __grid_constant__ Batch<WeightToPack> batch) {
    const WeightToPack & weight = batch.weights[blockIdx.y];
    const auto * const weights = reinterpret_cast<const uint4 *>(weight.weights);
    auto * const codes = reinterpret_cast<uint2 *>(weight.codes);
    uint8_t * const scales = weight.scales;
    const int64_t blocks = weight.blocks;
    const float global = weight.global;
    if (int64_t(blockIdx.x) * blockDim.x >= blocks) return;
    constexpr int at_once = 2; // blocks that are loaded together
    __shared__ Boundaries table;
    find_boundaries(global, table);
    __syncthreads();
    for (int64_t first = first_index(); first < blocks; first += at_once * index_step()) {
        uint4 a[at_once], b[at_once];
#pragma unroll
        for (int j = 0; j < at_once; j++) {
            const int64_t i = first + j * index_step();
            if (i >= blocks) continue;
            a[j] = weights[2 * i];
            b[j] = weights[2 * i + 1];
        }
#pragma unroll
        for (int j = 0; j < at_once; j++) {
            const int64_t i = first + j * index_step();
            if (i >= blocks) continue;
            uint32_t pair = 0;
            for (const uint32_t two : {a[j].x, a[j].y, a[j].z, a[j].w, b[j].x, b[j].y, b[j].z, b[j].w})
                pair = larger_magnitudes(pair, two);
            const uint32_t scale = block_scale(__uint_as_float(larger_of(pair) << 16), global);
            scales[i] = uint8_t(scale);
            const uint4 low = table.sign_to_1_25[scale], high = table.from_1_75[scale];
            codes[i] = make_uint2(eight_codes(a[j], low, high), eight_codes(b[j], low, high));
        }
    }
}

cudaError_t nvfp4_pack(cudaStream_t stream, int processors, std::span<const WeightsToPack> weights) {
    std::vector<WeightToPack> list;
    for (const WeightsToPack & one : weights) {
        list.push_back({one.weights, one.packed.rows * (one.packed.columns / 16), one.scale, one.packed.data[0],
                        one.packed.data[1]});
        GNV_CHECK(is_aligned(one.weights, 16) && is_aligned(list.back().codes, 8));
    }
    // No more groups than run at the same time: each finds the boundaries for itself.
    int at_once = 0;
    if (const cudaError_t error = groups_at_once(pack_kernel, processors, at_once)) return error;
    return launch_in_batches(std::span<const WeightToPack>(list), at_once, &WeightToPack::blocks,
                             [&](const Batch<WeightToPack> & batch, const dim3 & grid) {
                                 pack_kernel<<<grid, threads_per_group, 0, stream>>>(batch);
                             });
}

} // namespace gnv::cuda
