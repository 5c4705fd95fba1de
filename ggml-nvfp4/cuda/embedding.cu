#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"

namespace gnv::cuda {

// Block: a row. A thread takes `lanes` neighbours at a time.
template <class T, int lanes>
static __global__ void embedding_kernel(const int32_t * ids, const T * table, const bf16 * given, bf16 * out,
                                        int64_t width) {
    let_later_start();
    wait_for_earlier();
    const int64_t id = ids[blockIdx.x];
    bf16 * const to = out + int64_t(blockIdx.x) * width;
    const auto copy = [&](const auto * from) {
        for (int64_t i = int64_t(threadIdx.x) * lanes; i < width; i += int64_t(blockDim.x) * lanes) {
            float numbers[lanes];
            load_several<lanes>(from + i, numbers);
            store_several<lanes>(to + i, numbers);
        }
    };
    if (id < 0) {
        copy(given + (-1 - id) * width);
    } else {
        copy(table + id * width);
    }
}

template <class T>
static Status launch(const CudaContext & context, const KernelCall & call) {
    const int64_t count = call.inputs[0].shape[0], width = call.inputs[1].shape[1];
    if (count == 0) return {};
    const auto * const table = call.inputs[1].as<const T>();
    const auto * const given = call.inputs[2].as<const bf16>();
    const bool whole =
        width % 8 == 0 && (reinterpret_cast<uintptr_t>(table) | reinterpret_cast<uintptr_t>(given)) % 16 == 0;
    return launch_chained("embedding", context, whole ? embedding_kernel<T, 8> : embedding_kernel<T, 1>,
                          unsigned(count), 256, 0, call.inputs[0].as<const int32_t>(), table, given,
                          call.outputs[0].as<bf16>(), width);
}

static Status run(KernelCall & call) {
    const CudaContext & context = context_of(call);
    return call.inputs[1].dtype == DType::bf16 ? launch<bf16>(context, call) : launch<float>(context, call);
}

const KernelEntry embedding_entry = {run};

} // namespace gnv::cuda
