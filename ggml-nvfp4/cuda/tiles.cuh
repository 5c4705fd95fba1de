// Stretches of rows of any lengths, cut into tiles: which stretch a block works on is found on the device.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// first_tiles [count + 1]: the tiles of rows_per_tile rows before each stretch starts[s] <= row < starts[s + 1], and in
// all. Stretches of fewer than `shortest` rows have none. `zero`, which may be null, becomes 0: a kernel counts in it.
void count_tiles(cudaStream_t stream, const int32_t * starts, int count, int shortest, int rows_per_tile,
                 int32_t * first_tiles, int32_t * zero = nullptr);

// The one of `count` stretches that holds `at`: the last that begins at or before it. starts[0] <= at.
__device__ inline int stretch_of(const int32_t * starts, int count, int64_t at) {
    int low = 0, high = count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (starts[middle] <= at) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

} // namespace gnv::cuda
