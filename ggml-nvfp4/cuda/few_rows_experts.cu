// Experts' products of few rows. Work is cut into items: some columns of an expert, and as many of its slots as fit into shared
// memory, nearly always all, so each weight that is needed is read once. As many blocks as the device holds have as many items
// each, one behind the other: those of the same slots share their rows of x. A block loads the first weights of the next item
// before it finishes one.
#include "cuda/chain.cuh"
#include "cuda/few_rows_product.cuh"
#include "cuda/one_row.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace {

using few_rows::Parts;
using few_rows::SharedRows;
using few_rows::sum_stride;
using few_rows::threads;
using few_rows::tile;
using few_rows::warps;

// An expert and slots of it.
struct Slots {
    int group, first, count;
};

// Puts all slots into `list`, in order, at most `most` of an expert together, and returns how many entries there are; a block
// calls it.
__device__ int list_slots(const int32_t * offsets, int groups, int most, Slots * list) {
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
                const int group = base + step * warp_size + lane, count = end[step] - begin[step];
                if (__any_sync(all_lanes, count > most)) { // few groups with many slots
                    const int entries = (count + most - 1) / most;
                    int behind = entries; // entries of this lane and of those before it
                    for (int other = 1; other < warp_size; other *= 2) {
                        const int theirs = __shfl_up_sync(all_lanes, behind, other);
                        if (lane >= other) behind += theirs;
                    }
                    for (int i = 0; i < entries; i++) {
                        const int first = begin[step] + i * most;
                        list[total + behind - entries + i] = {group, first, min(most, end[step] - first)};
                    }
                    total += __shfl_sync(all_lanes, behind, warp_size - 1);
                } else {
                    const unsigned with = __ballot_sync(all_lanes, count > 0);
                    if (count > 0) list[total + __popc(with & ((1u << lane) - 1))] = {group, begin[step], count};
                    total += __popc(with);
                }
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

// What a launch of it needs. `together`: a warp multiplies a tile of each product at once, which waits least; else one product
// after the other, with fewer registers.
template <int mt, int nt>
struct ExpertForm {
    static constexpr bool together = nt == 1;
    static constexpr int tiles = together ? mt : 1, passes = mt / tiles;
    static constexpr bool arranges = tiles == 1;
    static constexpr int units = 2;                           // that a lane loads at once of each tile
    static constexpr int blocks = mt == 1 && nt == 1 ? 3 : 2; // of a processor
    static constexpr int sums = few_rows::sums_of_warp<nt>;   // of a product
    // Two sets where they fit: threads may finish one item while others begin the next.
    static constexpr int sum_sets = nt == 1 ? 2 : 1;
    static constexpr int64_t sum_bytes = int64_t(sizeof(float)) * warps * mt * sums * sum_sets;
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
    auto * const list = reinterpret_cast<Slots *>(x.memory + at_once * x.chunks_a_row);
    const Parts parts(p.weight.block_scales != nullptr, p.k);
    const int warp = threadIdx.x / warp_size, part = warp % parts.count;
    const int columns = warps / parts.count * tile;
    const bool coded = p.weight.block_scales != nullptr, arranges = F::arranges && coded;
    const int64_t n = p.weight.n;
    const int items_each = int((n + columns - 1) / columns); // of the same slots
    wait_for_earlier();
    const int items = list_slots(p.offsets, p.groups, at_once, list) * items_each;

    using Loaded = few_rows::Loaded<F::units>;
    few_rows::TileRows of_w[F::tiles];
    const auto load_first = [&](Loaded(&to)[F::tiles]) { load(to, of_w, few_rows::Walk(parts, part), parts); };
    const auto begin_item = [&](Loaded(&to)[F::tiles], int item) {
        const int64_t first = int64_t(item % items_each) * columns + warp / parts.count * tile;
        of_w[0] = rows_of_expert(p, list[item / items_each].group, first, parts);
        if constexpr (F::tiles == 2) of_w[1] = of_w[0].of(p.second);
        load_first(to);
    };
    const int each = items / int(gridDim.x), with_more = items % int(gridDim.x), block = int(blockIdx.x);
    const int begin = each * block + min(block, with_more), end = begin + each + (block < with_more);
    int made_for = -1; // the entry whose rows are in shared memory
    float * mine = sums;
    Loaded ahead[F::tiles];
    if (begin < end) begin_item(ahead, begin);
    for (int item = begin; item < end; item++) {
        const int entry = item / items_each;
        const Slots slots = list[entry];
        const int rows = slots.count;
        const auto scale_of = [&](const FewRowsWeight & weight) {
            return weight.input_scale ? weight.input_scale + slots.group : nullptr;
        };
        const float *scale = scale_of(p.weight), *second_scale = mt == 2 ? scale_of(p.second) : nullptr;
        const bool differ = mt == 2 && scale && *scale != *second_scale; // nearly never
        const auto make_rows = [&](const bf16 * from, bool by_token, const float * input_scale) {
            const int blocks = int((p.k + 15) / 16);
            for (int i = threadIdx.x; i < rows * blocks; i += threads) {
                const int row = i / blocks, chunk = i % blocks * 2, j = slots.first + row;
                const int64_t source = by_token ? p.slots[j] / int(p.slots_per_token) : j;
                const auto * const of_x = reinterpret_cast<const uint4 *>(from + source * p.k) + chunk;
                const bool has_two = chunk * 8 + 8 < p.k;
                uint4 low = of_x[0], high = has_two ? of_x[1] : uint4{0, 0, 0, 0};
                if (input_scale) few_rows::quantize_chunks(low, high, *input_scale);
                x.chunk(row, chunk) = arranges ? few_rows::arranged(low) : low;
                if (has_two) x.chunk(row, chunk + 1) = arranges ? few_rows::arranged(high) : high;
            }
            if (arranges) x.clear_ends(rows, p.k);
            __syncthreads();
        };
        const bool by_token = p.slots_per_token > 0 && (quantizes || !scale);
        const int passes = differ ? mt : F::passes;
        if (made_for != entry) make_rows(p.x, by_token, quantizes ? scale : nullptr);
        made_for = differ ? -1 : entry;
        for (int pass = 0; pass < passes; pass++) {
            if (pass > 0 && differ) {
                __syncthreads(); // all have read the rows
                make_rows(quantizes ? p.x : second_x, by_token, quantizes ? second_scale : nullptr);
            }
            const auto follow = [&](Loaded(&to)[F::tiles]) {
                if (pass + 1 < passes) {
                    if constexpr (mt > F::tiles) of_w[0] = of_w[0].of(p.second);
                    load_first(to);
                } else if (item + 1 < end) {
                    begin_item(to, item + 1);
                }
            };
            float sum[F::tiles][nt][4];
            if (coded) {
                const std::conditional_t<F::arranges, few_rows::ArrangedOperand, few_rows::SharedOperand> operand(
                    x, rows, p.k);
                few_rows::add_parts<F::tiles, nt, true, false>(ahead, of_w, parts, part, 1, operand, sum, follow);
            } else {
                const few_rows::SharedOperand operand(x, rows, p.k);
                few_rows::add_parts<F::tiles, nt, false, false>(ahead, of_w, parts, part, 1, operand, sum, follow);
            }
            if (F::sum_sets == 1 && pass == 0) __syncthreads(); // the sums before these are read
            const auto put = [&](int m) {
                few_rows::put_sums<nt>(mine + (warp * mt + m) * F::sums, sum[F::tiles == mt ? m : 0]);
            };
            if (F::tiles == 1) {
                put(pass);
            } else {
                if (pass == 0) put(0);
                if (pass == passes - 1) put(mt - 1);
            }
        }
        if (item + 1 == end) let_later_start();
        __syncthreads(); // the sums are there, and the rows are read
        const int64_t first = int64_t(item % items_each) * columns;
        for (int i = threadIdx.x; i < columns * rows; i += threads) {
            const int row = i / columns, in_block = i % columns;
            const int64_t column = first + in_block, to = (slots.first + row) * n + column;
            if (column >= n) continue;
            const auto value_of = [&](const FewRowsWeight & weight, int m, const float * input_scale) {
                const float * from =
                    mine + (in_block / tile * parts.count * mt + m) * F::sums + row * sum_stride + in_block % tile;
                float found = *from;
                for (int other = 1; other < parts.count; other++) found += *(from += mt * F::sums);
                return rounded(found * few_rows::product_factor(weight, slots.group * n + column, input_scale));
            };
            const float value = value_of(p.weight, 0, scale);
            p.weight.out[to] = __float2bfloat16_rn(value);
            if constexpr (mt == 2) {
                const float up = value_of(p.second, 1, second_scale);
                p.second.out[to] = __float2bfloat16_rn(up);
                p.activation[to] = __float2bfloat16_rn(silu_mul(value, up));
            }
        }
        if constexpr (F::sum_sets == 2) mine = mine == sums ? sums + warps * mt * F::sums : sums;
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
        few_rows::store_sum(p, at, total, operands);
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
            few_rows::add_parts<1, 1, true, true>(ahead, w, parts, 0, parts.count, operand, sum,
                                                  few_rows::LoadNothing());
        } else {
            few_rows::add_parts<1, 1, false, true>(ahead, w, parts, 0, parts.count, operand, sum,
                                                   few_rows::LoadNothing());
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
    const int64_t most_entries = std::min<int64_t>(p.count, p.groups + p.count / at_once);
    const size_t bytes =
        size_t(F::sum_bytes + at_once * SharedRows::bytes_for(p.k)) + size_t(most_entries) * sizeof(Slots);
    const int columns = warps / Parts(p.weight.block_scales != nullptr, p.k).count * tile;
    const int64_t items = int64_t(blocks_for(p.weight.n, columns)) * most_entries;
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
    if (one_row_fits(context, p)) return one_row_experts(context, p);
    const bool apart = p.weight.input_scale && p.count > most_quantized_by_blocks;
    bf16 * const second_x = p.scratch + p.count * p.k;
    if (apart) {
        const auto quantize = [&](const FewRowsWeight & w, bf16 * to, const float * known_scales) {
            InputsToQuantize inputs = {call.x, nullptr, p.count, p.k, w.input_scale, p.offsets, p.groups};
            inputs.known_scales = known_scales;
            inputs.gather = p.slots_per_token > 0 ? p.slots : nullptr;
            inputs.slots_per_row = std::max<int64_t>(1, p.slots_per_token);
            return quantize_inputs(context.stream, inputs, to);
        };
        GNV_TRY(quantize(p.weight, p.scratch, nullptr));
        if (pair) GNV_TRY(quantize(p.second, second_x, p.weight.input_scale));
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
    if (one_row_fits(context, p)) return one_row_combine(context, p, false);
    const int64_t bytes = e.weight.input_scale ? warps * e.k * int64_t(sizeof(bf16)) : 0;
    if (p.tokens <= most_combined_tokens && bytes <= most_row_bytes)
        return launch_chained("expert_combine", context, combine_kernel,
                              dim3(blocks_for(e.weight.n, tile), unsigned(p.tokens)), threads, size_t(bytes), p);
    GNV_TRY(few_rows_experts(context, e));
    return launch_chained("expert_combine", context, sum_kernel,
                          dim3(blocks_for(e.weight.n, threads), unsigned(p.tokens)), threads, 0, p);
}

} // namespace gnv::cuda
