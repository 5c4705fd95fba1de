// All experts in one launch: a block finds its expert and its rows by the offsets, which only the device knows. Inputs
// of W4A4 are quantized before, into one block of memory; NVFP4 weights become BF16 on their way into shared memory.
#include "cuda/few_rows.cuh"
#include "cuda/grouped_product.cuh"
#include "cuda/kernels.cuh"
#include "cuda/plain_product.cuh"

namespace gnv::cuda {

namespace {

using Row = GroupedLinearParams::Row;

enum { in_x, in_weight, in_slots, in_offsets, in_input_scales, in_places };

// rows[j]: the row of x for each slot in use.
__global__ void rows_kernel(const int32_t * slots, const int32_t * used, int slots_per_token, int32_t * rows,
                            int64_t count) {
    const int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (j < count && j < *used) rows[j] = slots[j] / slots_per_token;
}

struct Scratch { // offsets
    uint64_t rows = 0, first_tiles = 0, inputs = 0, total = 0;
    explicit Scratch(const KernelCall & call) {
        const Tensor & w = call.inputs[in_weight];
        const uint64_t slots = uint64_t(call.inputs[in_slots].shape[0]);
        const bool quantizes = call.inputs[in_input_scales].shape.rank > 0;
        first_tiles = aligned(slots * sizeof(int32_t));
        inputs = first_tiles + aligned((uint64_t(w.shape[0]) + 1) * sizeof(int32_t));
        total = inputs + (quantizes ? aligned(slots * uint64_t(w.shape.last()) * sizeof(bf16)) : 0);
        if (call.as<GroupedLinearParams>().few_rows && quantizes) // for a pair of products
            total = std::max(total, 2 * aligned(slots * uint64_t(w.shape.last()) * sizeof(bf16)));
    }
};

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<GroupedLinearParams>();
    const Tensor & w = call.inputs[in_weight];
    const int64_t groups = w.shape[0], n = w.shape[1], k = w.shape[2], slots = call.inputs[in_slots].shape[0];
    const auto * const offsets = call.inputs[in_offsets].as<const int32_t>();
    const auto * const input_scales = call.inputs[in_input_scales].as<const float>();
    auto * const out = call.outputs[0].as<bf16>();
    if (slots == 0) return {};
    if (params.few_rows && few_rows_can_read(w.dtype, k)) return few_rows_experts(context, few_rows_experts_of(call));
    const Scratch scratch(call);
    auto * const memory = static_cast<uint8_t *>(call.scratch);
    auto * const first_tiles = reinterpret_cast<int32_t *>(memory + scratch.first_tiles);
    const auto * a = call.inputs[in_x].as<const bf16>();
    const int32_t * gathered = nullptr; // rows of `a`; null: in order
    if (params.row == Row::token) {
        auto * const rows = reinterpret_cast<int32_t *>(memory + scratch.rows);
        rows_kernel<<<blocks_for(slots, 256), 256, 0, context.stream>>>(
            call.inputs[in_slots].as<const int32_t>(), offsets + groups, int(params.slots_per_token), rows, slots);
        GNV_TRY(launched("grouped_linear"));
        gathered = rows;
    }
    if (input_scales) {
        auto * const quantized = reinterpret_cast<bf16 *>(memory + scratch.inputs);
        GNV_TRY(
            quantize_inputs(context.stream, {a, gathered, slots, k, input_scales, offsets, int(groups)}, quantized));
        a = quantized;
        gathered = nullptr;
    }
    if (is_plain(w))
        return plain_product(context.stream, w, {slots, a, out, input_scales, gathered, offsets, first_tiles});
    GroupedProduct product = {a, gathered, offsets, out, slots, n, k, int(groups)};
    product.input_scales = input_scales;
    if (w.dtype == DType::f4) {
        product.codes = w.as<const uint8_t>();
        product.block_scales = w.block_scales;
        product.global_scales = w.global_scales;
        product.experts_a_global_scale = std::max<int64_t>(1, w.global_scale_rows / n);
    } else {
        product.w = w.as<const bf16>();
    }
    return grouped_product(context, product, first_tiles);
}

uint64_t scratch_bytes(const KernelCall & call) { return Scratch(call).total; }

Status supports(const KernelCall & call) {
    const Tensor & w = call.inputs[in_weight];
    const bool has_places = call.inputs[in_places].shape.rank > 0;
    if (!has_places || (call.as<GroupedLinearParams>().few_rows && few_rows_can_read(w.dtype, w.shape.last())))
        return {};
    return Status(Code::unsupported, "cached experts are for few rows, in BF16 or NVFP4");
}

} // namespace

const KernelEntry grouped_linear_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
