// Each position gathers its rows of y in the order of experts, which is the order of rows.
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int most_chosen = 32;

// Where each slot's row of y is; -1 for slots of other experts.
__global__ void place_kernel(const int32_t * slots, const int32_t * offsets, int groups, int32_t * rows) {
    const int64_t used = offsets[groups], step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < used; j += step) rows[slots[j]] = int32_t(j);
}

__global__ void combine_kernel(const float * sum, const bf16 * y, const int32_t * rows, const float * weights,
                               float * out, int chosen, int64_t width) {
    const int64_t t = blockIdx.x;
    __shared__ int32_t row[most_chosen];
    __shared__ float weight[most_chosen];
    __shared__ int used;
    if (threadIdx.x == 0) {
        used = 0;
        for (int k = 0; k < chosen; k++) { // insertion by row
            const int32_t r = rows[t * chosen + k];
            if (r < 0) continue;
            int place = used++;
            for (; place > 0 && row[place - 1] > r; place--)
                row[place] = row[place - 1], weight[place] = weight[place - 1];
            row[place] = r, weight[place] = weights[t * chosen + k];
        }
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        float total = sum ? sum[t * width + i] : 0.0f;
        for (int k = 0; k < used; k++) total = fmaf(weight[k], __bfloat162float(y[int64_t(row[k]) * width + i]), total);
        out[t * width + i] = total;
    }
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor & weights = call.inputs[4];
    const int64_t tokens = weights.shape[0], width = call.inputs[1].shape[1];
    const int chosen = int(weights.shape[1]), groups = int(call.inputs[3].shape[0] - 1);
    auto * rows = static_cast<int32_t *>(call.scratch);
    (void)cudaMemsetAsync(rows, 0xff, size_t(tokens * chosen) * sizeof(int32_t), context.stream);
    place_kernel<<<blocks_for(call.inputs[2].shape[0], 256), 256, 0, context.stream>>>(
        call.inputs[2].as<const int32_t>(), call.inputs[3].as<const int32_t>(), groups, rows);
    combine_kernel<<<unsigned(tokens), 256, 0, context.stream>>>(
        call.inputs[0].as<const float>(), call.inputs[1].as<const bf16>(), rows, weights.as<const float>(),
        call.outputs[0].as<float>(), chosen, width);
    return launched("expert_combine");
}

uint64_t scratch_bytes(const KernelCall & call) { return uint64_t(call.inputs[4].shape.elements()) * sizeof(int32_t); }

Status supports(const KernelCall & call) {
    const int64_t chosen = call.inputs[4].shape[1];
    if (chosen <= most_chosen) return {};
    return fail(Code::unsupported, chosen, " experts a token are not supported on this device (at most ", most_chosen,
                ")");
}

} // namespace

const KernelEntry expert_combine_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
