// A block for each expert walks over all choices twice: to count, then to write down its slots in order.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int threads_per_block = 256, warps_per_block = threads_per_block / warp_size;

__global__ void count_kernel(const int32_t * indices, int64_t slots, int first, int32_t * counts) {
    const int expert = first + int(blockIdx.x);
    int count = 0;
    for (int64_t i = threadIdx.x; i < slots; i += threads_per_block) count += indices[i] == expert;
    count = __reduce_add_sync(all_lanes, count);
    __shared__ int32_t of_warp[warps_per_block];
    if (threadIdx.x % warp_size == 0) of_warp[threadIdx.x / warp_size] = count;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < warps_per_block; w++) count += of_warp[w];
    counts[blockIdx.x] = count;
}

__global__ void write_kernel(const int32_t * indices, int64_t slots, int first, int experts, const int32_t * counts,
                             int32_t * out, int32_t * offsets) {
    const int expert = first + int(blockIdx.x), lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    __shared__ int32_t begin, of_warp[warps_per_block];
    if (threadIdx.x == 0) {
        int32_t sum = 0;
        for (int e = 0; e < int(blockIdx.x); e++) sum += counts[e];
        begin = sum;
        offsets[blockIdx.x] = sum;
        if (int(blockIdx.x) == experts - 1) offsets[experts] = sum + counts[blockIdx.x];
    }
    __syncthreads();
    int32_t at = begin;
    for (int64_t base = 0; base < slots; base += threads_per_block) {
        const int64_t i = base + threadIdx.x;
        const bool chosen = i < slots && indices[i] == expert;
        const unsigned lanes = __ballot_sync(all_lanes, chosen);
        if (lane == 0) of_warp[warp] = __popc(lanes);
        __syncthreads();
        int32_t place = at + __popc(lanes & ((1u << lane) - 1));
        for (int w = 0; w < warps_per_block; w++) {
            if (w < warp) place += of_warp[w];
            at += of_warp[w];
        }
        if (chosen) out[place] = int32_t(i);
        __syncthreads();
    }
}

Status run(CudaContext & context, KernelCall & call) {
    const auto & params = call.as<ExpertOrderParams>();
    const int64_t slots = call.inputs[0].shape.elements();
    const auto * indices = call.inputs[0].as<const int32_t>();
    auto * counts = static_cast<int32_t *>(call.scratch);
    const auto blocks = unsigned(params.count);
    count_kernel<<<blocks, threads_per_block, 0, context.stream>>>(indices, slots, int(params.first), counts);
    write_kernel<<<blocks, threads_per_block, 0, context.stream>>>(indices, slots, int(params.first), int(params.count),
                                                                   counts, call.outputs[0].as<int32_t>(),
                                                                   call.outputs[1].as<int32_t>());
    return launched("expert_order");
}

uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.as<ExpertOrderParams>().count) * sizeof(int32_t);
}

} // namespace

const CudaEntry expert_order_entry = {run, scratch_bytes};

} // namespace gnv::cuda
