#include "cuda/kernels.cuh"

namespace gnv::cuda {

template <class T>
static __global__ void embedding_kernel(const int32_t * ids, const T * table, const bf16 * given, bf16 * out,
                                        int64_t width) {
    const int64_t id = ids[blockIdx.x];
    bf16 * const to = out + int64_t(blockIdx.x) * width;
    if (id < 0) {
        const bf16 * const row = given + (-1 - id) * width;
        for (int64_t i = threadIdx.x; i < width; i += blockDim.x) to[i] = row[i];
        return;
    }
    const T * const from = table + id * width;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) to[i] = __float2bfloat16_rn(float(from[i]));
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor & table = call.inputs[1];
    const int64_t count = call.inputs[0].shape[0], width = table.shape[1];
    const auto * ids = call.inputs[0].as<const int32_t>();
    const auto * given = call.inputs[2].as<const bf16>();
    auto * out = call.outputs[0].as<bf16>();
    if (table.dtype == DType::bf16) {
        embedding_kernel<<<unsigned(count), 256, 0, context.stream>>>(ids, table.as<const bf16>(), given, out, width);
    } else {
        embedding_kernel<<<unsigned(count), 256, 0, context.stream>>>(ids, table.as<const float>(), given, out, width);
    }
    return launched("embedding");
}

const KernelEntry embedding_entry = {run};

} // namespace gnv::cuda
