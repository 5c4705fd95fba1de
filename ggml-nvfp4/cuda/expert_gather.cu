// A warp for each row that these experts have. Numbers are only moved: 16 bytes at a time where they
// divide a row, else two.
#include "cuda/kernels.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace {

constexpr int threads = 256, rows_at_once = threads / warp_size; // of a block
constexpr int blocks_per_processor = 8;                          // all that fit

// `offsets`: those of the `experts` experts of x [T, experts, width] alone. `width` in pieces.
template <class Piece>
__global__ void __launch_bounds__(threads)
    expert_gather_kernel(const Piece * __restrict__ x, const int32_t * __restrict__ slots,
                         const int32_t * __restrict__ offsets, int experts, int slots_per_token, int64_t width,
                         Piece * __restrict__ y) {
    const int64_t end = offsets[experts], step = int64_t(gridDim.x) * rows_at_once;
    const int64_t first = offsets[0] + int64_t(blockIdx.x) * rows_at_once + threadIdx.x / warp_size;
    for (int64_t j = first; j < end; j += step) {
        const int64_t row = int64_t(slots[j] / slots_per_token) * experts + stretch_of(offsets, experts, j);
        const Piece * const from = x + row * width;
        Piece * const to = y + j * width;
#pragma unroll 4
        for (int64_t i = threadIdx.x % warp_size; i < width; i += warp_size) to[i] = from[i];
    }
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<ExpertGatherParams>();
    const Tensor &x = call.inputs[0], &into = call.inputs[3], &y = call.outputs[0];
    const auto * const slots = call.inputs[1].as<const int32_t>();
    const auto * const offsets = call.inputs[2].as<const int32_t>() + params.first;
    const int experts = int(params.count), slots_per_token = int(params.slots_per_token);
    const int64_t rows = y.shape[0];
    const auto row_bytes = int64_t(tensor_bytes(y.dtype, {y.shape[1]}));
    if (rows == 0) return {};
    if (into.exists() && into.data != y.data) // in another place: all of it, and the rows of these experts over it
        (void)cudaMemcpyAsync(y.data, into.data, size_t(rows * row_bytes), cudaMemcpyDeviceToDevice, context.stream);
    // Only the device knows the number of rows: as many blocks as run at once, or as the rows can need.
    const unsigned most = unsigned(context.processors * blocks_per_processor);
    const unsigned blocks = std::min(blocks_for(rows, rows_at_once), most);
    if (row_bytes % int64_t(sizeof(uint4)) == 0) {
        expert_gather_kernel<<<blocks, threads, 0, context.stream>>>(x.as<const uint4>(), slots, offsets, experts,
                                                                     slots_per_token,
                                                                     row_bytes / int64_t(sizeof(uint4)), y.as<uint4>());
    } else {
        expert_gather_kernel<<<blocks, threads, 0, context.stream>>>(
            x.as<const uint16_t>(), slots, offsets, experts, slots_per_token, row_bytes / int64_t(sizeof(uint16_t)),
            y.as<uint16_t>());
    }
    return launched("expert_gather");
}

} // namespace

const KernelEntry expert_gather_entry = {run};

} // namespace gnv::cuda
