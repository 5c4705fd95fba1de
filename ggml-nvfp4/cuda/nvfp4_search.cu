// Round to the nearest code with the best of all block scales: a thread a block of 16 weights.
#include "cuda/nvfp4_search.cuh"

#include "core/status.h"
#include "cuda/nvfp4_pack.cuh"
#include "cuda/weight_batches.cuh"

#include <vector>

namespace gnv::cuda {

static __global__ void __launch_bounds__(threads_per_group)
    least_squares_kernel(const __grid_constant__ Batch<WeightToPack> batch) {
    const WeightToPack & weight = batch.weights[blockIdx.y];
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < weight.blocks; i += step) {
        float weights[block_columns], shifts[block_columns] = {}, values[block_columns];
        load_block(weight.weights + i * block_columns, weights);
        const BlockCodes found =
            search_block<Metric::squares>(weights, shifts, nullptr, nullptr, weight.global, values);
        weight.scales[i] = uint8_t(found.scale);
        reinterpret_cast<uint2 *>(weight.codes)[i] = found.codes;
    }
}

cudaError_t nvfp4_pack_least_squares(cudaStream_t stream, int processors, std::span<const WeightsToPack> weights) {
    std::vector<WeightToPack> list;
    for (const WeightsToPack & one : weights) {
        list.push_back({one.weights, one.packed.rows * (one.packed.columns / block_columns), one.scale,
                        one.packed.data[0], one.packed.data[1]});
        GNV_CHECK(reinterpret_cast<uintptr_t>(one.weights) % 16 == 0);
        GNV_CHECK(reinterpret_cast<uintptr_t>(list.back().codes) % 8 == 0);
    }
    // Searches take differently long: more groups than run at the same time even that out.
    int at_once = 0;
    if (const cudaError_t error = groups_at_once(least_squares_kernel, processors, at_once)) return error;
    constexpr int turns = 4;
    return launch_in_batches(std::span<const WeightToPack>(list), turns * at_once, &WeightToPack::blocks,
                             [&](const Batch<WeightToPack> & batch, const dim3 & grid) {
                                 least_squares_kernel<<<grid, threads_per_group, 0, stream>>>(batch);
                             });
}

} // namespace gnv::cuda
