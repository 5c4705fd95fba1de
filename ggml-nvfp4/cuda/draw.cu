// A row in parts, a block for each; then a warp for each row. Compiled without fused multiply-add: the noise has the CPU's bits.
#include "core/noise.h"
#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int threads = 512;
constexpr int64_t part_columns = 1 << 13;

__device__ void take_over_warp(Drawn & drawn) {
    for (int step = 16; step > 0; step /= 2)
        drawn.take(Drawn{__shfl_xor_sync(all_lanes, drawn.key, step), __shfl_xor_sync(all_lanes, drawn.id, step)});
}

// Blocks [parts, rows].
__global__ void __launch_bounds__(threads)
    part_kernel(const bf16 * x, const uint8_t * allowed, const Draw * draws, Drawn * found, int64_t width) {
    __shared__ Drawn of_warp[threads / warp_size];
    let_later_start();
    wait_for_earlier();
    x += blockIdx.y * width;
    const Draw draw = draws[blockIdx.y];
    const int64_t first = blockIdx.x * part_columns, last = min(width, first + part_columns);
    Drawn drawn;
    for (int64_t column = first + threadIdx.x; column < last; column += threads)
        if (!allowed || allowed[column]) drawn.take(draw, int32_t(column), __bfloat162float(x[column]));
    take_over_warp(drawn);
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    if (lane == 0) of_warp[warp] = drawn;
    __syncthreads();
    if (warp > 0) return;
    drawn = lane < threads / warp_size ? of_warp[lane] : Drawn();
    take_over_warp(drawn);
    if (lane == 0) found[blockIdx.y * gridDim.x + blockIdx.x] = drawn;
}

__global__ void row_kernel(const bf16 * x, const Drawn * found, int32_t * ids, float * logits, int64_t width,
                           int parts) {
    let_later_start();
    wait_for_earlier();
    Drawn drawn;
    for (int part = threadIdx.x; part < parts; part += warp_size) drawn.take(found[blockIdx.x * parts + part]);
    take_over_warp(drawn);
    if (threadIdx.x > 0) return;
    ids[blockIdx.x] = drawn.id;
    logits[blockIdx.x] = drawn.id < 0 ? 0.0f : __bfloat162float(x[blockIdx.x * width + drawn.id]);
}

int64_t parts_of(const KernelCall & call) { return (call.inputs[0].shape.last() + part_columns - 1) / part_columns; }

Status run(KernelCall & call) {
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), width = x.shape.last(), parts = parts_of(call);
    if (rows == 0) return {};
    auto * const found = static_cast<Drawn *>(call.scratch);
    GNV_TRY(launch_chained("draw", context_of(call), part_kernel, dim3(unsigned(parts), unsigned(rows)), threads, 0,
                           x.as<const bf16>(), call.inputs[1].as<const uint8_t>(), call.inputs[2].as<const Draw>(),
                           found, width));
    return launch_chained("draw", context_of(call), row_kernel, unsigned(rows), warp_size, 0, x.as<const bf16>(),
                          static_cast<const Drawn *>(found), call.outputs[0].as<int32_t>(), call.outputs[1].as<float>(),
                          width, int(parts));
}

uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.inputs[0].shape.rows() * parts_of(call)) * sizeof(Drawn);
}

} // namespace

const KernelEntry draw_entry = {run, scratch_bytes};

} // namespace gnv::cuda
