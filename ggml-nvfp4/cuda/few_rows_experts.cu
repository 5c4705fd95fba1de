// Experts' products of few rows. A warp works alone: it finds its slot's expert and reads rows of that
// expert's weights. few_rows_combine gives each slot of a token a warp and adds what they made in the order of
// slots.
#include "cuda/chain.cuh"
#include "cuda/few_rows_dot.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace {

using few_rows::threads;
using few_rows::warps;

__device__ float factor_of_expert(const FewRowsWeight & w, int group, int64_t row) {
    const float * const global =
        w.block_scales ? w.global_scales + unsigned(group * w.n + row) / unsigned(w.global_scale_rows) : nullptr;
    return factor_of(global, w.input_scale ? w.input_scale + group : nullptr);
}

// The expert of slot j; a warp calls it.
__device__ int expert_of(const FewRowsExperts & p, int j) {
    unsigned before = 0; // experts whose slots all lie before j
    for (int g = threadIdx.x % warp_size; g < p.groups; g += warp_size) before += p.offsets[g + 1] <= j;
    return int(__reduce_add_sync(all_lanes, before));
}

// Rows of w [n, k] of an expert.
struct ExpertRows {
    const uint8_t *data, *scales;
    int64_t bytes_a_row, scales_a_row;
    __device__ ExpertRows(const FewRowsWeight & w, int group, int64_t k) {
        const bool coded = w.block_scales != nullptr;
        bytes_a_row = coded ? k / 2 : k * 2, scales_a_row = k / 16;
        data = static_cast<const uint8_t *>(w.data) + group * w.n * bytes_a_row;
        scales = coded ? w.block_scales + group * w.n * scales_a_row : nullptr;
    }
    __device__ const uint8_t * codes(int64_t row) const { return data + row * bytes_a_row; }
    __device__ const uint8_t * scales_of(int64_t row) const { return scales + row * scales_a_row; }
    __device__ const uint4 * numbers(int64_t row) const { return reinterpret_cast<const uint4 *>(codes(row)); }
};

// Rows of w that a share of a warp takes at once.
constexpr int rows_at_once = 4;

// How a warp divides itself.
struct Shares {
    int lanes, count;
    __host__ __device__ Shares(const FewRowsWeight & w, int64_t k)
        : lanes(w.block_scales ? few_rows::lanes_of_row(k) : warp_size), count(warp_size / lanes) {}
};

// --- Products ---------------------------------------------------------------------------------------------------------

template <bool pair>
__global__ void __launch_bounds__(threads, 2) experts_kernel(const __grid_constant__ FewRowsExperts p) {
    extern __shared__ uint4 quantized[];                                   // row of x
    constexpr int products = pair ? 2 : 1, each = rows_at_once / products; // rows of each product
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, j = blockIdx.y;
    const Shares shares(p.weight, p.k);
    const int64_t n = p.weight.n;
    const int64_t first = ((int64_t(blockIdx.x) * warps + warp) * shares.count + lane / shares.lanes) * each;
    wait_for_earlier();
    if (j >= p.offsets[p.groups]) return;
    const int64_t source = p.slots_per_token > 0 ? p.slots[j] / int(p.slots_per_token) : j;
    const bf16 * const x = p.x + source * p.k;
    const int group = expert_of(p, j);
    const ExpertRows sources[2] = {{p.weight, group, p.k}, {pair ? p.second : p.weight, group, p.k}};
    const auto scale_of = [&](const FewRowsWeight & w) { return w.input_scale ? w.input_scale[group] : 0.0f; };
    const float input_scale = scale_of(p.weight);
    // At the end a lane has a row; loaded before the products, which hide it.
    const int64_t row = min(first + lane % shares.lanes, n - 1);
    const float factor = factor_of_expert(p.weight, group, row);
    const float second_factor = pair ? factor_of_expert(p.second, group, row) : 1.0f;
    const auto row_of = [&](int i) { return min(first + i % each, n - 1); };
    float sums[rows_at_once][1];
    const auto multiply = [&](float scale) {
        const bf16 * from = x;
        if (scale != 0) { // once for all warps
            auto * const to = reinterpret_cast<bf16 *>(quantized);
            for (int i = threadIdx.x * 16; i < p.k; i += threads * 16) {
                float values[2][8];
                for (int half = 0; half < 2; half++) load_several<8>(x + i + half * 8, values[half]);
                quantize_block(values, scale);
                for (int half = 0; half < 2; half++) store_several<8>(to + i + half * 8, values[half]);
            }
            __syncthreads();
            from = to;
        }
        if (p.weight.block_scales) {
            few_rows::dot_nvfp4_of_row<rows_at_once>([&](int i) { return sources[i / each].codes(row_of(i)); },
                                                     [&](int i) { return sources[i / each].scales_of(row_of(i)); },
                                                     from, 0, int(p.k / 32), shares.lanes, sums);
        } else {
            few_rows::dot_bf16_of_row<rows_at_once>([&](int i) { return sources[i / each].numbers(row_of(i)); }, from,
                                                    0, int(p.k / 8), sums);
        }
    };
    multiply(input_scale);
    if constexpr (pair) { // products of a pair share their input, and nearly always its scale
        const float other = scale_of(p.second);
        if (other != input_scale) {
            float kept[each];
            for (int i = 0; i < each; i++) kept[i] = sums[i][0];
            __syncthreads(); // all have read the first
            multiply(other);
            for (int i = 0; i < each; i++) sums[i][0] = kept[i];
        }
    }
    let_later_start();
    for (int i = lane % shares.lanes; i < each; i += shares.lanes) {
        float mine[products] = {};
#pragma unroll
        for (int at = 0; at < each; at++)
            if (i == at)
                for (int product = 0; product < products; product++) mine[product] = sums[product * each + at][0];
        const int64_t at = first + i, to = j * n + at;
        if (at >= n) break;
        const bool loaded = at == row;
        const float gate = rounded(mine[0] * (loaded ? factor : factor_of_expert(p.weight, group, at)));
        p.weight.out[to] = __float2bfloat16_rn(gate);
        if constexpr (pair) {
            const float up = rounded(mine[1] * (loaded ? second_factor : factor_of_expert(p.second, group, at)));
            p.second.out[to] = __float2bfloat16_rn(up);
            p.activation[to] = __float2bfloat16_rn(silu_mul(gate, up));
        }
    }
}

// --- Combined ---------------------------------------------------------------------------------------------------------

constexpr int most_columns = rows_at_once * warp_size; // of a block

// The i-th of the slots of token t; a warp calls it. -1: there are fewer.
__device__ int slot_of_token(const FewRowsCombine & p, int t, int i) {
    const FewRowsExperts & e = p.experts;
    const int used = e.offsets[e.groups];
    for (int base = 0; base < used; base += warp_size) {
        const int j = base + int(threadIdx.x % warp_size);
        unsigned mine = __ballot_sync(all_lanes, j < used && e.slots[min(j, used - 1)] / int(p.chosen) == t);
        const int count = __popc(mine);
        if (i < count) {
            for (; i > 0; i--) mine &= mine - 1;
            return base + __ffs(int(mine)) - 1;
        }
        i -= count;
    }
    return -1;
}

__global__ void __launch_bounds__(threads, 2) combine_kernel(const __grid_constant__ FewRowsCombine p) {
    __shared__ float made[most_combined][most_columns], weight_of[most_combined];
    __shared__ int counts[warps];
    const FewRowsExperts & e = p.experts;
    const int64_t n = e.weight.n;
    const int t = blockIdx.y, lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const Shares shares(e.weight, e.k);
    const int columns = rows_at_once * shares.count; // of the block
    const int64_t first_of_block = int64_t(blockIdx.x) * columns;
    const int64_t first = first_of_block + lane / shares.lanes * rows_at_once;
    wait_for_earlier();
    const int64_t column = first_of_block + threadIdx.x; // of this thread, of the sum
    const bool sums = int(threadIdx.x) < columns && column < n;
    float operands[most_row_steps] = {};
#pragma unroll
    for (int i = 0; i < most_row_steps; i++)
        if (sums && i < p.steps)
            operands[i] = p.step[i].in_f32
                              ? static_cast<const float *>(p.step[i].operand)[t * n + column]
                              : __bfloat162float(static_cast<const bf16 *>(p.step[i].operand)[t * n + column]);
    int count = 0;
    for (int i = warp; i < int(p.chosen); i += warps) {
        const int j = slot_of_token(p, t, i);
        if (j < 0) break;
        count = i + 1;
        const int group = expert_of(e, j);
        const ExpertRows source(e.weight, group, e.k);
        const bf16 * const x = e.x + j * e.k;
        const float input_scale = e.weight.input_scale ? e.weight.input_scale[group] : 0.0f;
        const float share = p.weights[e.slots[j]];
        const int64_t row = min(first + lane % shares.lanes, n - 1);
        const float factor = factor_of_expert(e.weight, group, row);
        const auto row_of = [&](int r) { return min(first + r, n - 1); };
        float products[rows_at_once][1];
        if (e.weight.block_scales) {
            few_rows::dot_nvfp4_of_row<rows_at_once>([&](int r) { return source.codes(row_of(r)); },
                                                     [&](int r) { return source.scales_of(row_of(r)); }, x, input_scale,
                                                     int(e.k / 32), shares.lanes, products);
        } else {
            few_rows::dot_bf16_of_row<rows_at_once>([&](int r) { return source.numbers(row_of(r)); }, x, input_scale,
                                                    int(e.k / 8), products);
        }
        if (lane == 0) weight_of[i] = share;
        few_rows::hand_out(products, shares.lanes, [&](int r, int, float sum) {
            const int64_t at = first + r;
            if (at >= n) return;
            const float y = rounded(sum * (at == row ? factor : factor_of_expert(e.weight, group, at)));
            e.weight.out[j * n + at] = __float2bfloat16_rn(y);
            made[i][at - first_of_block] = y;
        });
    }
    let_later_start();
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    if (!sums) return;
    int found = 0;
    for (const int of_warp : counts) found = max(found, of_warp);
    float total = p.sum ? p.sum[t * n + column] : 0.0f;
    for (int i = 0; i < found; i++) total = fmaf(weight_of[i], made[i][threadIdx.x], total);
    p.out[t * n + column] = total;
#pragma unroll
    for (int i = 0; i < most_row_steps; i++) {
        if (i >= p.steps) break;
        total = rounded(total + operands[i]);
        p.step[i].out[t * n + column] = __float2bfloat16_rn(total);
    }
}

} // namespace

FewRowsExperts few_rows_experts_of(const KernelCall & call) {
    enum { in_x, in_weight, in_slots, in_offsets, in_input_scales };
    const auto & params = call.as<GroupedLinearParams>();
    const Tensor & w = call.inputs[in_weight];
    FewRowsExperts p;
    p.x = call.inputs[in_x].as<const bf16>();
    p.slots = call.inputs[in_slots].as<const int32_t>();
    p.offsets = call.inputs[in_offsets].as<const int32_t>();
    p.count = call.inputs[in_slots].shape[0];
    p.groups = int(w.shape[0]);
    p.slots_per_token = params.row == GroupedLinearParams::Row::token ? params.slots_per_token : 0;
    p.k = w.shape.last();
    p.weight = few_rows_weight(w, call.inputs[in_input_scales].as<const float>(), nullptr, call.outputs[0].data);
    return p;
}

Status few_rows_experts(const CudaContext & context, const FewRowsExperts & p) {
    const bool pair = p.second.data != nullptr;
    const int rows = warps * Shares(p.weight, p.k).count * rows_at_once / (pair ? 2 : 1);
    const auto kernel = pair ? experts_kernel<true> : experts_kernel<false>;
    const size_t bytes = p.weight.input_scale ? size_t(p.k) * sizeof(bf16) : 0;
    if (p.count == 0 || p.weight.n == 0) return {};
    return launch_chained("grouped_linear", context, kernel, dim3(blocks_for(p.weight.n, rows), unsigned(p.count)),
                          threads, bytes, p);
}

Status few_rows_combine(const CudaContext & context, const FewRowsCombine & p) {
    const FewRowsExperts & e = p.experts;
    const int columns = rows_at_once * Shares(e.weight, e.k).count;
    if (p.tokens == 0 || e.weight.n == 0) return {};
    return launch_chained("expert_combine", context, combine_kernel,
                          dim3(blocks_for(e.weight.n, columns), unsigned(p.tokens)), threads, 0, p);
}

} // namespace gnv::cuda
