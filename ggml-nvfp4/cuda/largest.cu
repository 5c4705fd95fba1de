// A block for each row: half a megabyte of logits takes it as long as a second launch would.
#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/ordered_key.cuh"

namespace gnv::cuda {

namespace {

constexpr int threads = 1024;

struct Largest {
    unsigned key = 0; // in the order of numbers, NaN above all; 0: none
    int column = -1;
    __device__ void take(const Largest & other) {
        if (other.key > key || (other.key == key && other.key > 0 && unsigned(other.column) < unsigned(column)))
            *this = other;
    }
};

template <int lanes>
__global__ void __launch_bounds__(threads)
    largest_kernel(const bf16 * x, const uint8_t * allowed, int32_t * columns, float * numbers, int64_t width) {
    __shared__ Largest of_warp[warp_size];
    let_later_start();
    wait_for_earlier();
    x += blockIdx.x * width;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    Largest largest;
#pragma unroll 4
    for (int64_t i = int64_t(threadIdx.x) * lanes; i < width; i += threads * lanes) {
        float values[lanes];
        load_several<lanes>(x + i, values);
        struct alignas(lanes) Flags {
            uint8_t flags[lanes];
        } wanted = {};
        if (allowed) wanted = *reinterpret_cast<const Flags *>(allowed + i);
#pragma unroll
        for (int j = 0; j < lanes; j++)
            if (!allowed || wanted.flags[j]) largest.take({ordered_key(values[j]), int(i) + j});
    }
    const auto over_warp = [&] {
        for (int step = 16; step > 0; step /= 2)
            largest.take(
                {__shfl_xor_sync(all_lanes, largest.key, step), __shfl_xor_sync(all_lanes, largest.column, step)});
    };
    over_warp();
    if (lane == 0) of_warp[warp] = largest;
    __syncthreads();
    if (warp > 0) return;
    largest = of_warp[lane];
    over_warp();
    if (lane > 0) return;
    columns[blockIdx.x] = largest.column;
    numbers[blockIdx.x] = largest.column < 0 ? 0.0f : __bfloat162float(x[largest.column]);
}

Status run(KernelCall & call) {
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), width = x.shape.last();
    if (rows == 0) return {};
    const auto kernel = width % 8 == 0 ? largest_kernel<8> : largest_kernel<1>;
    return launch_chained("largest", context_of(call), kernel, unsigned(rows), threads, 0, x.as<const bf16>(),
                          call.inputs[1].as<const uint8_t>(), call.outputs[0].as<int32_t>(),
                          call.outputs[1].as<float>(), width);
}

} // namespace

const KernelEntry largest_entry = {run};

} // namespace gnv::cuda
