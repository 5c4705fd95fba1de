// Largest magnitudes by group of columns. Magnitudes of floats are in the order of their bits, and NaN and Inf above all:
// integer maxima find both in any order.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int rows_per_block = 32;

__device__ int magnitude_bits(bf16 value) { return int(__bfloat16_as_ushort(value) & 0x7fff) << 16; }

// Rows of a tile against the columns of one group; with offsets rows choose the group.
__global__ void maximum_kernel(const bf16 * x, float * total, const int32_t * offsets, int64_t rows, int64_t stride,
                               int64_t width, int groups) {
    const int group = blockIdx.y;
    int64_t first = int64_t(blockIdx.x) * rows_per_block, last = min(first + rows_per_block, rows);
    int64_t column = int64_t(group) * width;
    if (offsets) {
        first = max(first, int64_t(offsets[group]));
        last = min(last, int64_t(offsets[group + 1]));
        column = 0;
    }
    if (first >= last) return;
    int largest = 0;
    for (int64_t row = first + threadIdx.y; row < last; row += blockDim.y) {
        const bf16 * const values = x + row * stride + column;
        if (width % 8 == 0 && stride % 8 == 0) {
            for (int64_t i = threadIdx.x * 8; i < width; i += warp_size * 8) {
                const uint4 eight = *reinterpret_cast<const uint4 *>(values + i);
                const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
                unsigned most = 0;
                for (const unsigned pair : pairs) most = __vmaxu2(most, pair & 0x7fff7fff);
                largest = max(largest, int(max(most & 0xffff, most >> 16)) << 16);
            }
        } else {
            for (int64_t i = threadIdx.x; i < width; i += warp_size) largest = max(largest, magnitude_bits(values[i]));
        }
    }
    largest = __reduce_max_sync(all_lanes, largest);
    if (threadIdx.x == 0) atomicMax(reinterpret_cast<int *>(total) + group, largest);
}

Status run(CudaContext & context, KernelCall & call) {
    const auto & params = call.as<ObserveParams>();
    if (params.statistic != Statistic::maximum)
        return Status(Code::unsupported, "observe: this statistic is not there on CUDA yet");
    const Tensor & x = call.inputs[0];
    const auto * offsets = call.inputs[2].as<const int32_t>();
    const int64_t rows = x.shape.rows(), stride = x.shape.last(), width = offsets ? stride : stride / params.groups;
    if (rows == 0) return {};
    const dim3 grid(blocks_for(rows, rows_per_block), unsigned(params.groups)), block(warp_size, 8);
    maximum_kernel<<<grid, block, 0, context.stream>>>(x.as<const bf16>(), call.inputs[1].as<float>(), offsets, rows,
                                                       stride, width, int(params.groups));
    return launched("observe");
}

} // namespace

const CudaEntry observe_entry = {run, nullptr};

} // namespace gnv::cuda
