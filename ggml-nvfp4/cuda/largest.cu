// A row of logits is half a megabyte: with few rows, a cluster of blocks shares each, and the first of them joins what all have found
// through their shared memory. With many rows, or where there are no clusters, a block has a row. The largest of a row, and of equal
// ones the first, is the same in any order.
#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/ordered_key.cuh"

namespace gnv::cuda {

namespace {

constexpr int threads = 1024;
constexpr unsigned cluster = 8; // blocks

struct Largest {
    unsigned key = 0; // in the order of numbers, NaN above all; 0: none
    int column = -1;
    __device__ void take(const Largest & other) {
        if (other.key > key || (other.key == key && other.key > 0 && unsigned(other.column) < unsigned(column)))
            *this = other;
    }
};

// `to` in the shared memory of the cluster's first block.
__device__ inline void give_to_first(Largest & to, const Largest & found) {
#if __CUDA_ARCH__ >= 900
    uint32_t address;
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(address) : "r"(uint32_t(__cvta_generic_to_shared(&to))));
    asm volatile("st.shared::cluster.v2.u32 [%0], {%1, %2};" ::"r"(address), "r"(found.key), "r"(found.column)
                 : "memory");
#endif
}

// Block: row, or part of a row.
template <int lanes, bool shares>
__global__ void __launch_bounds__(threads)
    largest_kernel(const bf16 * x, const uint8_t * allowed, int32_t * columns, float * numbers, int64_t width) {
    constexpr int blocks = shares ? int(cluster) : 1, at_once = 4; // loads of a thread
    __shared__ __align__(8) Largest of_warp[warp_size], of_block[blocks];
    let_later_start();
    if (shares) arrive_in_cluster();
    wait_for_earlier();
    const int64_t row = blockIdx.x / blocks;
    const int block = int(blockIdx.x) % blocks;
    x += row * width;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    Largest largest;
    struct alignas(lanes * sizeof(bf16)) Several {
        bf16 values[lanes];
    };
    struct alignas(lanes) Flags {
        uint8_t flags[lanes];
    };
    constexpr int stride = blocks * threads * lanes;
    for (int64_t first = (int64_t(block) * threads + threadIdx.x) * lanes; first < width; first += at_once * stride) {
        Several found[at_once];
#pragma unroll
        for (int u = 0; u < at_once; u++)
            if (first + u * stride < width) found[u] = *reinterpret_cast<const Several *>(x + first + u * stride);
#pragma unroll
        for (int u = 0; u < at_once; u++) {
            const int64_t i = first + u * stride;
            if (i >= width) break;
            Flags wanted = {};
            if (allowed) wanted = *reinterpret_cast<const Flags *>(allowed + i);
#pragma unroll
            for (int j = 0; j < lanes; j++)
                if (!allowed || wanted.flags[j])
                    largest.take({ordered_key(__bfloat162float(found[u].values[j])), int(i) + j});
        }
    }
    const auto over_warp = [&] {
        for (int step = 16; step > 0; step /= 2)
            largest.take(
                {__shfl_xor_sync(all_lanes, largest.key, step), __shfl_xor_sync(all_lanes, largest.column, step)});
    };
    over_warp();
    if (lane == 0) of_warp[warp] = largest;
    __syncthreads();
    if (shares) wait_for_cluster(); // all blocks have begun
    if (warp == 0) {
        largest = of_warp[lane];
        over_warp();
        if (shares && lane == 0) give_to_first(of_block[block], largest);
        __syncwarp();
    }
    if constexpr (shares) {
        arrive_in_cluster();
        wait_for_cluster();
        if (block == 0)
            for (const Largest & other : of_block) largest.take(other);
    }
    if (block > 0 || threadIdx.x > 0) return;
    columns[row] = largest.column;
    numbers[row] = largest.column < 0 ? 0.0f : __bfloat162float(x[largest.column]);
}

Status run(KernelCall & call) {
    const CudaContext & context = context_of(call);
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), width = x.shape.last();
    if (rows == 0) return {};
    const bool shares = context.chains && rows * cluster <= 2 * context.processors && width > threads * 8;
    const auto kernel = width % 8 == 0 ? (shares ? largest_kernel<8, true> : largest_kernel<8, false>)
                                       : (shares ? largest_kernel<1, true> : largest_kernel<1, false>);
    const unsigned blocks = shares ? cluster : 1;
    return launch_clusters("largest", context, kernel, unsigned(rows) * blocks, blocks, threads, 0, x.as<const bf16>(),
                           call.inputs[1].as<const uint8_t>(), call.outputs[0].as<int32_t>(),
                           call.outputs[1].as<float>(), width);
}

} // namespace

const KernelEntry largest_entry = {run};

} // namespace gnv::cuda
