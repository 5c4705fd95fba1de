#include "cuda/kernels.cuh"
#include "cuda/row_ops.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

// Eight neighbours.
__device__ uint4 silu_mul_of_eight(const bf16 * gate, const bf16 * up) {
    float g[8], u[8];
    load_several<8>(gate, g);
    load_several<8>(up, u);
#pragma unroll
    for (int j = 0; j < 8; j++) g[j] = silu_mul(g[j], u[j]);
    return pack(g);
}

__global__ void silu_mul_kernel(const bf16 * gate, const bf16 * up, bf16 * out, int64_t count) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x, first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    for (int64_t i = first; i < count / 8; i += step)
        reinterpret_cast<uint4 *>(out)[i] = silu_mul_of_eight(gate + i * 8, up + i * 8);
    for (int64_t i = count / 8 * 8 + first; i < count; i += step)
        out[i] = __float2bfloat16_rn(silu_mul(__bfloat162float(gate[i]), __bfloat162float(up[i])));
}

constexpr int rows_per_warp = 8, warps_per_block = 8;

// The same, with the largest magnitudes by group: a group is some columns of all rows or, with offsets, a
// stretch of rows. Magnitudes of floats are in the order of their bits, NaN and Inf above all: integer maxima
// are the same in any order.
template <bool with_offsets>
__global__ void __launch_bounds__(warps_per_block * warp_size, 5)
    observed_kernel(const bf16 * gate, const bf16 * up, bf16 * out, int * maxima, const int32_t * offsets, int groups,
                    int64_t rows, int64_t stride, int width) {
    const int64_t first = (int64_t(blockIdx.x) * warps_per_block + threadIdx.y) * rows_per_warp;
    const int count = int(min(int64_t(rows_per_warp), rows - first)), lane = threadIdx.x;
    int group = with_offsets ? 0 : int(blockIdx.y);
    const int64_t begin = first * stride + (with_offsets ? 0 : int64_t(group) * width);
    gate += begin, up += begin, out += begin;
    unsigned largest = 0; // of two halves of words
    int64_t stop = 0;     // of the group's rows
    const auto flush = [&] {
        if (with_offsets && stop == 0) return; // no group yet
        const int most = int(__reduce_max_sync(all_lanes, max(largest & 0xffff, largest >> 16)) << 16);
        // Another block may store a larger one in between; maxima never shrink.
        if (lane == 0 && most > *reinterpret_cast<volatile int *>(maxima + group)) atomicMax(maxima + group, most);
        largest = 0;
    };
    for (int row = 0; row < count; row++, gate += stride, up += stride, out += stride) {
        const bool observed = !with_offsets || first + row < offsets[groups];
        if (with_offsets && observed && first + row >= stop) {
            flush();
            group = stretch_of(offsets, groups, first + row);
            stop = offsets[group + 1];
        }
        unsigned most = 0;
        if (width % 8 == 0 && stride % 8 == 0) {
            for (int i = lane; i < width / 8; i += warp_size) {
                const uint4 eight = silu_mul_of_eight(gate + i * 8, up + i * 8);
                reinterpret_cast<uint4 *>(out)[i] = eight;
                for (const unsigned pair : {eight.x, eight.y, eight.z, eight.w})
                    most = __vmaxu2(most, pair & 0x7fff7fff);
            }
        } else {
            for (int i = lane; i < width; i += warp_size) {
                const bf16 y = __float2bfloat16_rn(silu_mul(__bfloat162float(gate[i]), __bfloat162float(up[i])));
                out[i] = y;
                most = max(most, unsigned(__bfloat16_as_ushort(y) & 0x7fff));
            }
        }
        if (observed) largest = __vmaxu2(largest, most);
    }
    flush();
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto *gate = call.inputs[0].as<const bf16>(), *up = call.inputs[1].as<const bf16>();
    auto * const out = call.outputs[0].as<bf16>();
    const Shape & shape = call.outputs[0].shape;
    const int64_t groups = call.as<SiluMulParams>().groups, count = shape.elements();
    if (count == 0) return {};
    if (groups == 0) return activate(context, gate, up, out, count);
    const auto * const offsets = call.inputs[3].as<const int32_t>();
    auto * const maxima = call.inputs[2].as<float>();
    if (offsets)
        return activate_observed(context, gate, up, out, shape.rows(), int(shape.last()), maxima, offsets, int(groups));
    const dim3 grid(blocks_for(shape.rows(), rows_per_warp * warps_per_block), unsigned(groups));
    observed_kernel<false><<<grid, dim3(warp_size, warps_per_block), 0, context.stream>>>(
        gate, up, out, reinterpret_cast<int *>(maxima), nullptr, int(groups), shape.rows(), shape.last(),
        int(shape.last() / groups));
    return launched("silu_mul");
}

} // namespace

Status activate(const CudaContext & context, const bf16 * gate, const bf16 * up, bf16 * out, int64_t count) {
    const unsigned blocks = unsigned(std::clamp<int64_t>(blocks_for(count, 8 * 256), 1, context.processors * 16));
    silu_mul_kernel<<<blocks, 256, 0, context.stream>>>(gate, up, out, count);
    return launched("silu_mul");
}

Status activate_observed(const CudaContext & context, const bf16 * gate, const bf16 * up, bf16 * out, int64_t rows,
                         int columns, float * maxima, const int32_t * offsets, int groups) {
    const unsigned blocks = blocks_for(rows, rows_per_warp * warps_per_block);
    observed_kernel<true><<<blocks, dim3(warp_size, warps_per_block), 0, context.stream>>>(
        gate, up, out, reinterpret_cast<int *>(maxima), offsets, groups, rows, columns, columns);
    return launched("silu_mul");
}

const KernelEntry silu_mul_entry = {run};

} // namespace gnv::cuda
