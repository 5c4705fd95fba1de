// BF16 weights and inputs as they are: all experts in one launch. Otherwise rows of each expert are gathered, and quantized,
// into one block of memory, then a product for each expert that has any.
#include "cuda/gemm_lt.h"
#include "cuda/grouped_product.cuh"
#include "cuda/kernels.cuh"
#include "cuda/plain_product.cuh"
#include "cuda/widen.cuh"

#include <vector>

namespace gnv::cuda {

namespace {

using Row = GroupedLinearParams::Row;

// Which row of x stands behind each slot in use.
__global__ void rows_kernel(const int32_t * slots, const int32_t * used, int slots_per_token, int32_t * rows,
                            int64_t count) {
    const int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (j < count && j < *used) rows[j] = slots[j] / slots_per_token;
}

__global__ void gather_kernel(const bf16 * x, const int32_t * rows, const int32_t * used, int64_t width, bf16 * out) {
    const int64_t j = blockIdx.x;
    if (j >= *used) return;
    if (width % 8 != 0) {
        for (int64_t i = threadIdx.x; i < width; i += blockDim.x) out[j * width + i] = x[int64_t(rows[j]) * width + i];
        return;
    }
    const auto * const from = reinterpret_cast<const uint4 *>(x + int64_t(rows[j]) * width);
    auto * const to = reinterpret_cast<uint4 *>(out + j * width);
    for (int64_t i = threadIdx.x; i < width / 8; i += blockDim.x) to[i] = from[i];
}

bool in_one_launch(const KernelCall & call) {
    const Tensor &w = call.inputs[1], &input_scales = call.inputs[4];
    return w.dtype == DType::bf16 && w.shape.last() % 8 == 0 && input_scales.shape.rank == 0;
}

struct Scratch { // offsets
    uint64_t rows = 0, inputs = 0, weight = 0, factor = 0, total = 0;
    explicit Scratch(const KernelCall & call) {
        const Tensor & w = call.inputs[1];
        const uint64_t slots = uint64_t(call.inputs[2].shape[0]), k = uint64_t(w.shape[2]);
        inputs = aligned(slots * sizeof(int32_t));
        if (in_one_launch(call)) {
            total = inputs + grouped_product_bytes(w.shape[0]);
            return;
        }
        weight = inputs + aligned(slots * k * sizeof(bf16));
        factor = weight + (w.dtype == DType::f4 ? aligned(uint64_t(w.shape[1]) * k * sizeof(bf16)) : 0);
        total = factor + 256;
    }
};

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<GroupedLinearParams>();
    const Tensor &x = call.inputs[0], &w = call.inputs[1];
    const int64_t groups = w.shape[0], n = w.shape[1], k = w.shape[2], slots = call.inputs[2].shape[0];
    const auto * offsets = call.inputs[3].as<const int32_t>();
    const auto * input_scales = call.inputs[4].as<const float>();
    const Scratch scratch(call);
    auto * const memory = static_cast<uint8_t *>(call.scratch);
    auto * const rows = reinterpret_cast<int32_t *>(memory + scratch.rows);
    auto * const inputs = reinterpret_cast<bf16 *>(memory + scratch.inputs);
    auto * const widened = reinterpret_cast<bf16 *>(memory + scratch.weight);
    auto * const factor = reinterpret_cast<float *>(memory + scratch.factor);
    const auto * a = x.as<const bf16>();
    if (params.row != Row::own) {
        rows_kernel<<<blocks_for(slots, 256), 256, 0, context.stream>>>(
            call.inputs[2].as<const int32_t>(), offsets + groups, int(params.slots_per_token), rows, slots);
        if (!input_scales && !in_one_launch(call)) {
            gather_kernel<<<unsigned(slots), 128, 0, context.stream>>>(a, rows, offsets + groups, k, inputs);
            a = inputs;
        }
        GNV_TRY(launched("grouped_linear"));
    }
    if (in_one_launch(call))
        return grouped_product(context.stream,
                               {a, w.as<const bf16>(), params.row == Row::own ? nullptr : rows, offsets,
                                call.outputs[0].as<bf16>(), slots, n, k, int(groups)},
                               memory + scratch.inputs);
    // The host launches the products: it has to know where each expert's rows are.
    std::vector<int32_t> begins(size_t(groups) + 1);
    cudaError_t error = cudaMemcpyAsync(begins.data(), offsets, begins.size() * sizeof(int32_t), cudaMemcpyDeviceToHost,
                                        context.stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(context.stream);
    if (error != cudaSuccess) return fail(Code::device, "grouped_linear: ", cudaGetErrorString(error));
    auto * const out = call.outputs[0].as<bf16>();
    for (int64_t g = 0; g < groups; g++) {
        const int64_t first = begins[size_t(g)], m = begins[size_t(g) + 1] - first;
        if (m == 0) continue;
        const bf16 * expert_inputs = a + first * k;
        if (input_scales) {
            const bool own = params.row == Row::own;
            GNV_TRY(quantize_inputs(context.stream, own ? a + first * k : a, own ? nullptr : rows + first, m, k,
                                    input_scales + g, inputs + first * k));
            expert_inputs = inputs + first * k;
        }
        const bf16 * weight = w.as<const bf16>() + g * n * k;
        const float * global = nullptr;
        if (w.dtype == DType::f4) {
            GNV_TRY(widen_nvfp4(context.stream, w.as<const uint8_t>() + g * n * k / 2, w.block_scales + g * n * k / 16,
                                n, k, widened));
            weight = widened;
            global = w.global_scales + g * n / w.global_scale_rows;
        }
        const bool scaled = global || input_scales;
        if (scaled) GNV_TRY(product_factor(context.stream, global, input_scales ? input_scales + g : nullptr, factor));
        const float * const scale = scaled ? factor : nullptr;
        if (w.dtype == DType::f32) {
            const float * const own = w.as<const float>() + g * n * k;
            GNV_TRY(plain_product(context.stream, m, n, k, expert_inputs, own, out + first * n, n, scale));
        } else if (is_plain(w)) {
            GNV_TRY(plain_product(context.stream, m, n, k, expert_inputs, weight, out + first * n, n, scale));
        } else {
            GNV_TRY(context.gemm->run(context.stream, m, n, k, expert_inputs, k, weight, out + first * n, n, scale));
        }
    }
    return {};
}

uint64_t scratch_bytes(const KernelCall & call) { return Scratch(call).total; }

} // namespace

const KernelEntry grouped_linear_entry = {run, scratch_bytes};

} // namespace gnv::cuda
