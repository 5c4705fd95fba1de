// Experts' products of few rows. Work is cut into items: some columns of an expert that slots chose, and all its slots, so each
// weight that is needed is read once. As many blocks as the device holds take items in turn, and load the first weights of the
// next item before they finish one.
#include "cuda/chain.cuh"
#include "cuda/few_rows_product.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace {

using few_rows::Parts;
using few_rows::SharedRows;
using few_rows::sum_stride;
using few_rows::threads;
using few_rows::tile;
using few_rows::warps;

// An expert and its slots.
struct Expert {
    int group, first, count;
};

// Puts the experts with slots into `list`, in order, and returns how many they are; a block calls it.
__device__ int list_experts(const int32_t * offsets, int groups, Expert * list) {
    constexpr int once = 8; // of a lane
    __shared__ int found;
    if (threadIdx.x < warp_size) {
        const int lane = threadIdx.x;
        int total = 0;
        for (int base = 0; base < groups; base += once * warp_size) {
            int begin[once], end[once];
#pragma unroll
            for (int step = 0; step < once; step++) {
                const int group = base + step * warp_size + lane;
                begin[step] = offsets[min(group, groups)], end[step] = offsets[min(group + 1, groups)];
            }
#pragma unroll
            for (int step = 0; step < once; step++) {
                const bool has = end[step] > begin[step];
                const unsigned with = __ballot_sync(all_lanes, has);
                if (has)
                    list[total + __popc(with & ((1u << lane) - 1))] = {base + step * warp_size + lane, begin[step],
                                                                       end[step] - begin[step]};
                total += __popc(with);
            }
        }
        if (lane == 0) found = total;
    }
    __syncthreads();
    return found;
}

// Rows of an expert's weight, where it lies.
__device__ few_rows::TileRows rows_of_expert(const FewRowsExperts & p, int group, int64_t first, const Parts & parts) {
    return {p.weight, p.places ? p.places[group] : group, first, parts};
}

// --- Products ---------------------------------------------------------------------------------------------------------

// What a launch of it needs.
template <int mt, int nt>
struct ExpertForm {
    static constexpr int units = mt == 1 ? 4 : 2;           // that a lane loads at once of each product
    static constexpr int sums = few_rows::sums_of_warp<nt>; // of a product
    static constexpr int64_t sum_bytes = int64_t(sizeof(float)) * warps * mt * sums;
    static constexpr int blocks = 2;     // of a processor
    static int rows_at_once(int64_t k) { // that fit into shared memory
        return int(std::min<int64_t>(nt * few_rows::x_rows, most_row_bytes / SharedRows::bytes_for(k)));
    }
};

// mt: products of the same rows, of which a second is activated. `at_once`: rows of x in shared memory. `quantizes`: rows are
// not quantized yet. second_x: rows for the second product, where they differ; null: the same.
template <int mt, int nt>
__global__ void __launch_bounds__(threads, ExpertForm<mt, nt>::blocks)
    experts_kernel(const __grid_constant__ FewRowsExperts p, int at_once, bool quantizes, const bf16 * second_x) {
    using F = ExpertForm<mt, nt>;
    extern __shared__ uint4 memory[];
    auto * const sums = reinterpret_cast<float *>(memory);
    const SharedRows x = {memory + F::sum_bytes / sizeof(uint4), SharedRows::chunks_for(p.k)};
    auto * const experts = reinterpret_cast<Expert *>(x.memory + at_once * x.chunks_a_row);
    const Parts parts(p.weight.block_scales != nullptr, p.k);
    const int warp = threadIdx.x / warp_size, part = warp % parts.count;
    const int columns = warps / parts.count * tile;
    const int64_t n = p.weight.n;
    const int items_each = int((n + columns - 1) / columns); // of an expert
    wait_for_earlier();
    const int items = list_experts(p.offsets, p.groups, experts) * items_each;

    few_rows::TileRows of_w[mt];
    few_rows::Loaded<F::units> ahead[mt];
    const auto load_first = [&] { load(ahead, of_w, few_rows::Walk(parts, part), parts); };
    const auto begin_item = [&](int item) {
        const int64_t first = int64_t(item % items_each) * columns + warp / parts.count * tile;
        const int group = experts[item / items_each].group;
        of_w[0] = rows_of_expert(p, group, first, parts);
        if constexpr (mt == 2) of_w[1] = of_w[0].of(p.second);
        load_first();
    };
    if (int(blockIdx.x) < items) begin_item(int(blockIdx.x));
    for (int item = int(blockIdx.x); item < items; item += int(gridDim.x)) {
        const Expert expert = experts[item / items_each];
        const auto scale_of = [&](const FewRowsWeight & weight) {
            return weight.input_scale ? weight.input_scale + expert.group : nullptr;
        };
        const float *scale = scale_of(p.weight), *second_scale = mt == 2 ? scale_of(p.second) : nullptr;
        const bool differ = mt == 2 && scale && *scale != *second_scale; // nearly never
        for (int done = 0; done < expert.count; done += at_once) {
            const int rows = min(at_once, expert.count - done), slot = expert.first + done;
            const auto make_rows = [&](const bf16 * from, bool by_token, const float * input_scale) {
                const int blocks = int((p.k + 15) / 16);
                for (int i = threadIdx.x; i < rows * blocks; i += threads) {
                    const int row = i / blocks, chunk = i % blocks * 2, j = slot + row;
                    const int64_t source = by_token ? p.slots[j] / int(p.slots_per_token) : j;
                    const auto * const of_x = reinterpret_cast<const uint4 *>(from + source * p.k) + chunk;
                    const bool has_two = chunk * 8 + 8 < p.k;
                    uint4 low = of_x[0], high = has_two ? of_x[1] : uint4{0, 0, 0, 0};
                    if (input_scale) few_rows::quantize_chunks(low, high, *input_scale);
                    x.chunk(row, chunk) = low;
                    if (has_two) x.chunk(row, chunk + 1) = high;
                }
                __syncthreads(); // also: the sums before these are read
            };
            const bool by_token = p.slots_per_token > 0 && (quantizes || !scale);
            float sum[mt][nt][4];
            const auto multiply = [&] {
                const few_rows::SharedOperand operand(x, rows, p.k);
                if (p.weight.block_scales) {
                    few_rows::add_parts<mt, nt, true, false>(ahead, of_w, parts, part, 1, operand, sum);
                } else {
                    few_rows::add_parts<mt, nt, false, false>(ahead, of_w, parts, part, 1, operand, sum);
                }
            };
            const auto put = [&](int m) { few_rows::put_sums<nt>(sums + (warp * mt + m) * F::sums, sum[m]); };
            make_rows(p.x, by_token, quantizes ? scale : nullptr);
            multiply();
            put(0);
            if constexpr (mt == 2) {
                if (differ) {
                    __syncthreads(); // all have read the rows
                    load_first();
                    make_rows(quantizes ? p.x : second_x, by_token, quantizes ? second_scale : nullptr);
                    multiply();
                }
                put(1);
            }
            if (done + at_once < expert.count) {
                load_first();
            } else if (item + int(gridDim.x) < items) {
                begin_item(item + int(gridDim.x));
            } else {
                let_later_start();
            }
            __syncthreads();
            const int64_t first = int64_t(item % items_each) * columns;
            for (int i = threadIdx.x; i < columns * rows; i += threads) {
                const int row = i / columns, in_block = i % columns;
                const int64_t column = first + in_block, to = (slot + row) * n + column;
                if (column >= n) continue;
                const auto value_of = [&](const FewRowsWeight & weight, int m, const float * input_scale) {
                    const float * from =
                        sums + (in_block / tile * parts.count * mt + m) * F::sums + row * sum_stride + in_block % tile;
                    float found = *from;
                    for (int other = 1; other < parts.count; other++) found += *(from += mt * F::sums);
                    return rounded(found * few_rows::product_factor(weight, expert.group * n + column, input_scale));
                };
                const float value = value_of(p.weight, 0, scale);
                p.weight.out[to] = __float2bfloat16_rn(value);
                if constexpr (mt == 2) {
                    const float up = value_of(p.second, 1, second_scale);
                    p.second.out[to] = __float2bfloat16_rn(up);
                    p.activation[to] = __float2bfloat16_rn(silu_mul(value, up));
                }
            }
        }
    }
}

// --- Combined ---------------------------------------------------------------------------------------------------------

// What is added to the sum of a token, and all that is stored. Operands are loaded before anything is stored.
struct Additions {
    float operands[most_row_steps] = {};
    __device__ Additions(const FewRowsCombine & p, int64_t at, bool exists) {
#pragma unroll
        for (int i = 0; i < most_row_steps; i++)
            if (exists && i < p.steps)
                operands[i] = p.step[i].in_f32 ? static_cast<const float *>(p.step[i].operand)[at]
                                               : __bfloat162float(static_cast<const bf16 *>(p.step[i].operand)[at]);
    }
    __device__ void store(const FewRowsCombine & p, int64_t at, float total) const {
        p.out[at] = total;
#pragma unroll
        for (int i = 0; i < most_row_steps; i++) {
            if (i >= p.steps) break;
            total = rounded(total + operands[i]);
            p.step[i].out[at] = __float2bfloat16_rn(total);
        }
    }
};

// The expert of slot j; a warp calls it.
__device__ int expert_of(const FewRowsExperts & p, int j) {
    unsigned before = 0; // experts whose slots all lie before j
    for (int g = threadIdx.x % warp_size; g < p.groups; g += warp_size) before += p.offsets[g + 1] <= j;
    return int(__reduce_add_sync(all_lanes, before));
}

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

// Rows of one token: each warp has a slot, with all parts of its product.
__global__ void __launch_bounds__(threads, 2) combine_kernel(const __grid_constant__ FewRowsCombine p) {
    __shared__ float made[most_combined][tile], weight_of[most_combined];
    __shared__ int counts[warps];
    extern __shared__ uint4 memory[]; // quantized rows, one for each warp
    const FewRowsExperts & e = p.experts;
    const int64_t n = e.weight.n, first = int64_t(blockIdx.x) * tile;
    const int t = blockIdx.y, lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const Parts parts(e.weight.block_scales != nullptr, e.k);
    wait_for_earlier();
    const int64_t column = first + threadIdx.x; // of this thread, of the sum
    const bool sums = int(threadIdx.x) < tile && column < n;
    const Additions additions(p, t * n + column, sums);
    int count = 0;
    for (int i = warp; i < int(p.chosen); i += warps) {
        const int j = slot_of_token(p, t, i);
        if (j < 0) break;
        count = i + 1;
        const int group = expert_of(e, j);
        const few_rows::TileRows w[1] = {rows_of_expert(e, group, first, parts)};
        few_rows::Loaded<4> ahead[1];
        load(ahead, w, few_rows::Walk(parts, 0), parts);
        const bf16 * x = e.x + j * e.k;
        const float * const input_scale = e.weight.input_scale ? e.weight.input_scale + group : nullptr;
        if (input_scale) {
            uint4 * const quantized = memory + warp * (e.k / 8);
            __syncwarp(); // the row before is read
            for (int block = lane; block < int(e.k / 16); block += warp_size) {
                const auto * const from = reinterpret_cast<const uint4 *>(x) + block * 2;
                uint4 low = from[0], high = from[1];
                few_rows::quantize_chunks(low, high, *input_scale);
                quantized[block * 2] = low, quantized[block * 2 + 1] = high;
            }
            __syncwarp();
            x = reinterpret_cast<const bf16 *>(quantized);
        }
        const few_rows::DirectOperand<1> operand(x, 1, e.k);
        float sum[1][1][4];
        if (e.weight.block_scales) {
            few_rows::add_parts<1, 1, true, true>(ahead, w, parts, 0, parts.count, operand, sum);
        } else {
            few_rows::add_parts<1, 1, false, true>(ahead, w, parts, 0, parts.count, operand, sum);
        }
        if (lane == 0) weight_of[i] = p.weights[e.slots[j]];
        if (lane % 4 == 0) // the only row of x
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = lane / 4 + half * 8;
                const int64_t at = first + row;
                if (at >= n) continue;
                const float factor = few_rows::product_factor(e.weight, group * n + at, input_scale);
                const float y = rounded(sum[0][0][half * 2] * factor);
                e.weight.out[j * n + at] = __float2bfloat16_rn(y);
                made[i][row] = y;
            }
    }
    let_later_start();
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    if (!sums) return;
    int found = 0;
    for (const int of_warp : counts) found = max(found, of_warp);
    float total = p.sum ? p.sum[t * n + column] : 0.0f;
    for (int i = 0; i < found; i++) total = fmaf(weight_of[i], made[i][threadIdx.x], total);
    additions.store(p, t * n + column, total);
}

// The sums of products that are there: a block has a token, and a column a thread.
__global__ void __launch_bounds__(threads) sum_kernel(const __grid_constant__ FewRowsCombine p) {
    __shared__ int found[most_combined], ordered[most_combined], count;
    __shared__ float weight_of[most_combined];
    const FewRowsExperts & e = p.experts;
    const int64_t n = e.weight.n, t = blockIdx.y, column = int64_t(blockIdx.x) * threads + threadIdx.x;
    let_later_start();
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    wait_for_earlier();
    const Additions additions(p, t * n + column, column < n);
    const int used = e.offsets[e.groups];
    for (int j = threadIdx.x; j < used; j += threads)
        if (e.slots[j] / int(p.chosen) == t) found[atomicAdd(&count, 1)] = j;
    __syncthreads();
    if (int(threadIdx.x) < count) { // in the order of slots
        const int j = found[threadIdx.x];
        int place = 0;
        for (int i = 0; i < count; i++) place += found[i] < j;
        ordered[place] = j, weight_of[place] = p.weights[e.slots[j]];
    }
    __syncthreads();
    if (column >= n) return;
    float total = p.sum ? p.sum[t * n + column] : 0.0f;
#pragma unroll 8
    for (int i = 0; i < count; i++)
        total = fmaf(weight_of[i], __bfloat162float(e.weight.out[ordered[i] * n + column]), total);
    additions.store(p, t * n + column, total);
}

template <int mt, int nt>
Status launch_experts(const CudaContext & context, const FewRowsExperts & p, bool quantizes, const bf16 * second_x) {
    using F = ExpertForm<mt, nt>;
    const int at_once = F::rows_at_once(p.k);
    const int64_t most_experts = std::min<int64_t>(p.count, p.groups);
    const size_t bytes =
        size_t(F::sum_bytes + at_once * SharedRows::bytes_for(p.k)) + size_t(most_experts) * sizeof(Expert);
    const int columns = warps / Parts(p.weight.block_scales != nullptr, p.k).count * tile;
    const int64_t items = int64_t(blocks_for(p.weight.n, columns)) * most_experts;
    const auto blocks = unsigned(std::min<int64_t>(items, F::blocks * context.processors));
    return launch_chained("grouped_linear", context, experts_kernel<mt, nt>, blocks, threads, bytes, p, at_once,
                          quantizes, second_x);
}

constexpr int64_t most_quantized_by_blocks = 32; // slots: each block quantizes its own rows
constexpr int64_t most_combined_tokens = 4;      // whose products read weights for each token

} // namespace

FewRowsExperts few_rows_experts_of(const KernelCall & call) {
    enum { in_x, in_weight, in_slots, in_offsets, in_input_scales, in_places };
    const auto & params = call.as<GroupedLinearParams>();
    const Tensor & w = call.inputs[in_weight];
    FewRowsExperts p;
    p.x = call.inputs[in_x].as<const bf16>();
    p.slots = call.inputs[in_slots].as<const int32_t>();
    p.offsets = call.inputs[in_offsets].as<const int32_t>();
    p.count = call.inputs[in_slots].shape[0];
    p.places = call.inputs[in_places].as<const int32_t>();
    p.groups = int(call.inputs[in_offsets].shape[0] - 1);
    p.slots_per_token = params.row == GroupedLinearParams::Row::token ? params.slots_per_token : 0;
    p.k = w.shape.last();
    p.weight = few_rows_weight(w, call.inputs[in_input_scales].as<const float>(), nullptr, call.outputs[0].data);
    p.scratch = static_cast<bf16 *>(call.scratch);
    return p;
}

Status few_rows_experts(const CudaContext & context, const FewRowsExperts & call) {
    FewRowsExperts p = call;
    const bool pair = p.second.data != nullptr;
    if (p.count == 0 || p.weight.n == 0) return {};
    const bool apart = p.weight.input_scale && p.count > most_quantized_by_blocks;
    bf16 * const second_x = p.scratch + p.count * p.k;
    if (apart) {
        const auto quantize = [&](const FewRowsWeight & w, bf16 * to) {
            InputsToQuantize inputs = {call.x, nullptr, p.count, p.k, w.input_scale, p.offsets, p.groups};
            inputs.gather = p.slots_per_token > 0 ? p.slots : nullptr;
            inputs.slots_per_row = std::max<int64_t>(1, p.slots_per_token);
            return quantize_inputs(context.stream, inputs, to);
        };
        GNV_TRY(quantize(p.weight, p.scratch));
        if (pair) GNV_TRY(quantize(p.second, second_x));
        p.x = p.scratch;
    }
    const bool quantizes = p.weight.input_scale && !apart;
    const bool many = p.count > 4 * int64_t(p.groups); // slots of an expert
    const auto launch = pair ? (many ? launch_experts<2, 2> : launch_experts<2, 1>)
                             : (many ? launch_experts<1, 2> : launch_experts<1, 1>);
    return launch(context, p, quantizes, second_x);
}

Status few_rows_combine(const CudaContext & context, const FewRowsCombine & p) {
    const FewRowsExperts & e = p.experts;
    if (p.tokens == 0 || e.weight.n == 0) return {};
    const int64_t bytes = e.weight.input_scale ? warps * e.k * int64_t(sizeof(bf16)) : 0;
    if (p.tokens <= most_combined_tokens && bytes <= most_row_bytes)
        return launch_chained("expert_combine", context, combine_kernel,
                              dim3(blocks_for(e.weight.n, tile), unsigned(p.tokens)), threads, size_t(bytes), p);
    GNV_TRY(few_rows_experts(context, e));
    return launch_chained("expert_combine", context, sum_kernel,
                          dim3(blocks_for(e.weight.n, threads), unsigned(p.tokens)), threads, 0, p);
}

} // namespace gnv::cuda
