#include "cuda/tiles.cuh"

namespace gnv::cuda {

// One warp.
static __global__ void count_tiles_kernel(const int32_t * starts, int count, int shortest, int rows_per_tile,
                                          int32_t * first_tiles, int32_t * zero) {
    const int lane = threadIdx.x;
    int total = 0;
    for (int base = 0; base < count; base += warp_size) {
        const int s = base + lane, length = s < count ? starts[s + 1] - starts[s] : 0;
        const int tiles = length >= shortest ? (length + rows_per_tile - 1) / rows_per_tile : 0;
        int sum = tiles; // and of the lanes before
        for (int step = 1; step < warp_size; step *= 2) {
            const int before = __shfl_up_sync(all_lanes, sum, step);
            if (lane >= step) sum += before;
        }
        if (s < count) first_tiles[s] = total + sum - tiles;
        total += __shfl_sync(all_lanes, sum, warp_size - 1);
    }
    if (lane == 0) first_tiles[count] = total;
    if (lane == 0 && zero) *zero = 0;
}

void count_tiles(cudaStream_t stream, const int32_t * starts, int count, int shortest, int rows_per_tile,
                 int32_t * first_tiles, int32_t * zero) {
    count_tiles_kernel<<<1, warp_size, 0, stream>>>(starts, count, shortest, rows_per_tile, first_tiles, zero);
}

} // namespace gnv::cuda
