#include "cuda/kernels.cuh"

#include <cmath>

namespace gnv::cuda {

// Where a position of a grid lies between two lines of the table's.
struct GridPlace {
    int before, after;
    float share; // of the one after
};
static __device__ GridPlace place_of(int position, int extent, int side) {
    const float at = __fdiv_rn(float(position) * float(side - 1), float(max(extent - 1, 1)));
    const int before = min(max(int(at), 0), side - 1);
    return {before, min(before + 1, side - 1), at - float(before)};
}

// A position a block.
static __global__ void grid_embedding_kernel(const float * table, const int32_t * positions, const int32_t * extents,
                                             bf16 * out, int64_t count, int side, int64_t width) {
    const int64_t t = blockIdx.x;
    const GridPlace row = place_of(positions[count + t], extents[t], side);
    const GridPlace column = place_of(positions[2 * count + t], extents[count + t], side);
    const auto at = [&](int i, int j) { return table + (int64_t(i) * side + j) * width; };
    const float * const rows[] = {at(row.before, column.before), at(row.before, column.after),
                                  at(row.after, column.before), at(row.after, column.after)};
    const float above = 1.0f - row.share, left = 1.0f - column.share;
    const float weights[] = {__fmul_rn(above, left), __fmul_rn(above, column.share), __fmul_rn(row.share, left),
                             __fmul_rn(row.share, column.share)};
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) sum = fmaf(weights[j], rows[j][i], sum);
        out[t * width + i] = __float2bfloat16_rn(sum);
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor & table = call.inputs[0];
    const int64_t count = call.inputs[1].shape[1];
    if (count == 0) return {};
    grid_embedding_kernel<<<unsigned(count), 256, 0, context.stream>>>(
        table.as<const float>(), call.inputs[1].as<const int32_t>(), call.inputs[2].as<const int32_t>(),
        call.outputs[0].as<bf16>(), count, int(std::lround(std::sqrt(double(table.shape[0])))), table.shape[1]);
    return launched("grid_embedding");
}

const KernelEntry grid_embedding_entry = {run};

} // namespace gnv::cuda
