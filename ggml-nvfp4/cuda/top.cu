// A block for each row. Each thread finds the largest number of its share; the bound is the `wanted`-th largest of these, so at
// least so many numbers reach it. A second reading takes them: of a vocabulary in any order, a few more than wanted.
#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/ordered_key.cuh"

namespace gnv::cuda {

namespace {

constexpr int threads = 1024;

// Calls take(column, number) for this thread's share of the allowed columns.
template <int lanes, class Take>
__device__ void for_share(const bf16 * x, const uint8_t * allowed, int64_t width, const Take & take) {
    struct alignas(lanes * sizeof(bf16)) Numbers {
        bf16 numbers[lanes];
    };
    struct alignas(lanes) Flags {
        uint8_t flags[lanes];
    };
#pragma unroll 4
    for (int64_t i = int64_t(threadIdx.x) * lanes; i < width; i += threads * lanes) {
        const Numbers here = *reinterpret_cast<const Numbers *>(x + i);
        Flags wanted = {};
        if (allowed) wanted = *reinterpret_cast<const Flags *>(allowed + i);
#pragma unroll
        for (int j = 0; j < lanes; j++)
            if (!allowed || wanted.flags[j]) take(int(i) + j, here.numbers[j]);
    }
}

template <int lanes>
__global__ void __launch_bounds__(threads) top_kernel(const bf16 * x, const uint8_t * allowed, int32_t * columns,
                                                      float * numbers, int64_t width, int wanted, int most) {
    __shared__ int count;
    let_later_start();
    wait_for_earlier();
    x += blockIdx.x * width;
    columns += int64_t(blockIdx.x) * (1 + most);
    numbers += int64_t(blockIdx.x) * most;
    if (threadIdx.x == 0) count = 0;
    unsigned largest = 0;
    for_share<lanes>(x, allowed, width, [&](int, bf16 number) { largest = max(largest, ordered_key(number)); });
    unsigned bound = 0;
    for (unsigned bit = 0x8000; bit > 0; bit >>= 1)
        if (__syncthreads_count(largest >= (bound | bit)) >= wanted) bound |= bit;
    if (largest >= bound) // else its share has none
        for_share<lanes>(x, allowed, width, [&](int column, bf16 number) {
            if (ordered_key(number) < bound) return;
            const int place = atomicAdd(&count, 1);
            if (place >= most) return;
            columns[1 + place] = column;
            numbers[place] = __bfloat162float(number);
        });
    __syncthreads();
    if (threadIdx.x == 0) columns[0] = count;
}

Status run(KernelCall & call) {
    const Tensor & x = call.inputs[0];
    const auto & params = call.as<TopParams>();
    const int64_t rows = x.shape.rows(), width = x.shape.last();
    if (rows == 0) return {};
    const auto kernel = width % 8 == 0 ? top_kernel<8> : top_kernel<1>;
    return launch_chained("top", context_of(call), kernel, unsigned(rows), threads, 0, x.as<const bf16>(),
                          call.inputs[1].as<const uint8_t>(), call.outputs[0].as<int32_t>(),
                          call.outputs[1].as<float>(), width, int(params.wanted), int(params.most));
}

} // namespace

const KernelEntry top_entry = {run};

} // namespace gnv::cuda
