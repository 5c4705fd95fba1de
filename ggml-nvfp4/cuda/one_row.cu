// Linears of one row. A block has some steps: columns of a weight that its warps multiply at once, each warp a part of k of 16 columns
// (few_rows_product.cuh). A warp copies its weights through a ring of its own, group by group, and waits for no other warp but at the
// end of its steps.
#include "cuda/one_row.cuh"

#include "cuda/chain.cuh"
#include "cuda/one_row_group.cuh"
#include "cuda/row_ops.cuh"

#include <bit>

namespace gnv::cuda {

namespace {

using few_rows::Parts;
using few_rows::SharedRows;
using few_rows::threads;
using one_row::group;
using one_row::tile;
using one_row::warps;

constexpr int most_sums = 16;         // steps whose sums are kept
constexpr int blocks_each = 2;        // of a processor, where they have work
constexpr int most_groups_beside = 2; // of a warp, where the launch shares its processors
constexpr int reserved_bytes = 2048;  // of shared memory, for each block: by the device, and by route_by_block()

// The same for all weights of a kind.
struct Kind {
    int row_bytes, part_bytes, groups; // groups of a part
    int parts, shift;                  // parts: a power of two
    __host__ __device__ int columns() const { return warps * tile >> shift; }
};

struct Plan {
    Kind kinds[2];                   // BF16, coded
    int first[most_few_weights + 1]; // steps before weight i
    int slot_bytes;                  // of the ring
    int widest;                      // binary logarithm of the most columns of a step
    bool has_coded;
    bool shares; // its processors with the next launch
    // Of such a launch: steps of the first weight that the next launch needs, and of all weights. Of the first
    // weight, 1 << run steps that are needed and as many that are not take turns, or all are needed.
    int needed_of_first, all_needed, run;

    // The i-th step: those that the next launch does not need come last.
    __device__ int step_at(int i) const {
        if (!shares) return i;
        if (i >= needed_of_first && i < all_needed) return i - needed_of_first + first[1];
        const bool late = i >= all_needed;
        if (late) i -= all_needed;
        return (i >> run << run) + i + (late ? 1 << run : 0);
    }
};
constexpr int whole_run = 30; // all steps are needed

// What a warp asks for, group by group.
struct Requests {
    one_row::GroupSource source;
    int at, group = 0, groups = 0; // of the launch's steps; of this step

    __device__ void begin(const FewRowsLinears & p, const Plan & plan) {
        const int step = plan.step_at(at);
        int i = 0;
        while (step >= plan.first[i + 1]) i++;
        const FewRowsWeight & w = p.weights[i];
        const Kind & kind = plan.kinds[w.block_scales != nullptr];
        const int warp = threadIdx.x / warp_size, part = warp & (kind.parts - 1);
        const int64_t row = int64_t(step - plan.first[i]) * kind.columns() + (warp >> kind.shift) * tile;
        source.begin(w, row * kind.row_bytes + part * kind.part_bytes, kind.row_bytes, w.n - row);
        group = 0, groups = kind.groups;
    }
    __device__ void next(const FewRowsLinears & p, const Plan & plan, int total, int blocks, uint8_t * to) {
        if (group == groups) {
            at += blocks;
            if (at < total) begin(p, plan);
        }
        if (at < total) {
            source.copy(to);
            group++;
        }
        commit_copies(); // of nothing, too: the ring counts them
    }
};

// --- The row ----------------------------------------------------------------------------------------------------------

// Makes the row, and with `arranges` the same arranged for codes. The constructor, before the wait, reads what no kernel writes.
struct RowMaker {
    float weights[8]; // of a norm, of this thread's first numbers
    __device__ RowMaker(const RowSource & source, int64_t k) {
        if (source.kind == RowSource::Kind::rms_norm && int64_t(threadIdx.x) * 8 < k)
            load_several<8>(source.weight + threadIdx.x * 8, weights);
    }
    __device__ void make(const RowSource & source, int64_t k, const SharedRows & plain, const SharedRows & arranged,
                         bool arranges, bool writes) {
        using Kind = RowSource::Kind;
        const int chunks = int(k / 8);
        const auto put = [&](int i, const uint4 & eight) {
            plain.chunk(0, i) = eight;
            if (arranges) arranged.chunk(0, i) = few_rows::arranged(eight);
            if (writes && source.kind != Kind::plain && source.out) reinterpret_cast<uint4 *>(source.out)[i] = eight;
        };
        if (source.kind == Kind::rms_norm) {
            float first[8] = {};
            if (int(threadIdx.x) < chunks) load_several<8>(source.x + threadIdx.x * 8, first);
            const float scale = rms_scale<8>(source.x, k, source.epsilon); // each warp: that takes no barrier
            for (int i = threadIdx.x; i < chunks; i += threads) {
                float values[8];
                if (i >= threads) {
                    load_several<8>(source.x + i * 8, first);
                    load_several<8>(source.weight + i * 8, weights);
                }
#pragma unroll
                for (int j = 0; j < 8; j++) values[j] = rms_normed(first[j], scale, source.offset, weights[j]);
                put(i, pack(values));
            }
            return;
        }
        for (int i = threadIdx.x; i < chunks; i += threads)
            put(i, source.kind == Kind::plain ? reinterpret_cast<const uint4 *>(source.x)[i]
                                              : few_rows::joined_chunk(source, i));
    }
};

// to = from as inputs of a W4A4 product, arranged.
__device__ void quantize_arranged(const SharedRows & from, const SharedRows & to, int64_t k, float scale) {
    for (int i = threadIdx.x; i < int(k / 16); i += threads) {
        uint4 low = from.chunk(0, 2 * i), high = from.chunk(0, 2 * i + 1);
        few_rows::quantize_chunks(low, high, scale);
        to.chunk(0, 2 * i) = few_rows::arranged(low), to.chunk(0, 2 * i + 1) = few_rows::arranged(high);
    }
}

// --- Columns ----------------------------------------------------------------------------------------------------------

// A column that a thread finishes: the factor of its product, which no kernel writes, and the operands of the steps behind it.
struct Column {
    int weight;
    int64_t at;
    bool exists;
    float factor, bias, operands[most_row_steps];

    // The i-th of the columns of a block's steps from its step `first` on.
    __device__ Column(const FewRowsLinears & p, const Plan & plan, int first, int blocks, int total, int i) {
        const int place = first + (i >> plan.widest) * blocks, in_step = i & ((1 << plan.widest) - 1);
        exists = place < total;
        if (!exists) return;
        const int step = plan.step_at(place);
        weight = 0;
        while (step >= plan.first[weight + 1]) weight++;
        const FewRowsWeight & w = p.weights[weight];
        const int columns = plan.kinds[w.block_scales != nullptr].columns();
        at = int64_t(step - plan.first[weight]) * columns + in_step;
        exists = in_step < columns && at < w.n;
        if (!exists) return;
        factor = few_rows::product_factor(w, at, w.input_scale);
        bias = w.bias ? w.bias[at] : 0.0f;
    }
    __device__ void load_operands(const FewRowsLinears & p) {
#pragma unroll
        for (int i = 0; i < most_row_steps; i++) {
            if (!exists || i >= p.steps) break;
            const RowStep & step = p.step[i];
            const bool is_gate = step.kind == RowStep::Kind::gate;
            const int64_t from = is_gate ? step.column : at;
            operands[i] = step.in_f32 ? static_cast<const float *>(step.operand)[from]
                                      : __bfloat162float(static_cast<const bf16 *>(step.operand)[from]);
            if (is_gate) operands[i] = rounded(sigmoid(operands[i]));
        }
    }
    // `sums`: of a step's warps.
    __device__ void finish(const FewRowsLinears & p, const Plan & plan, const float * sums, int in_step) const {
        const FewRowsWeight & w = p.weights[weight];
        const Kind & kind = plan.kinds[w.block_scales != nullptr];
        const float * from = sums + (in_step / tile * tile << kind.shift) + in_step % tile;
        float value = *from;
        for (int part = 1; part < kind.parts; part++) value += *(from += tile);
        value = rounded(value * factor);
        if (w.bias) value = rounded(value + bias);
        w.out[at] = __float2bfloat16_rn(value);
#pragma unroll
        for (int i = 0; i < most_row_steps; i++) {
            if (i >= p.steps) break;
            const bool is_gate = p.step[i].kind == RowStep::Kind::gate;
            value = rounded(is_gate ? value * operands[i] : value + operands[i]);
            p.step[i].out[at] = __float2bfloat16_rn(value);
        }
    }
};

// --- Kernels ----------------------------------------------------------------------------------------------------------

// The share of one of `blocks` blocks.
template <int slots>
__device__ void multiply_row(const FewRowsLinears & p, const Plan & plan, int block, int blocks) {
    extern __shared__ uint4 memory[];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, total = plan.first[p.count];
    const int chunks = SharedRows::chunks_for(p.k);
    uint8_t * const ring = reinterpret_cast<uint8_t *>(memory) + warp * slots * plan.slot_bytes;
    uint8_t * const ring_end = ring + slots * plan.slot_bytes;
    const SharedRows plain = {memory + warps * slots * plan.slot_bytes / int(sizeof(uint4)), chunks};
    const SharedRows arranged = {plain.memory + chunks, chunks};
    auto * const sums = reinterpret_cast<float *>((plan.has_coded ? arranged : plain).memory + chunks);
    const bool shares = slots == 1 && plan.shares;

    Requests requests;
    requests.at = block - blocks;
#pragma unroll 1
    for (int i = 0; i < slots; i++) { // one behind the other: more at once would only keep earlier kernels waiting
        if (i > 0) wait_for_copies<0>();
        requests.next(p, plan, total, blocks, ring + i * plan.slot_bytes);
    }
    RowMaker maker(p.source, p.k);
    Column first_column(p, plan, block, blocks, total, int(threadIdx.x));
    wait_for_earlier();
    if (shares) let_later_start();
    first_column.load_operands(p);
    maker.make(p.source, p.k, plain, arranged, plan.has_coded, block == 0);
    __syncthreads();
    let_later_start(); // the device holds all blocks of a launch: later ones take no place of theirs

    uint8_t * slot = ring;
    float quantized_by = 0; // input scales are never 0
    int weight = 0, kept = 0, first_kept = block;
    [[maybe_unused]] int finished = 0; // of the steps that are kept
    for (int at = block; at < total; at += blocks) {
        const int step = plan.step_at(at);
        if (shares) weight = 0;
        while (step >= plan.first[weight + 1]) weight++;
        const FewRowsWeight & w = p.weights[weight];
        const bool coded = w.block_scales != nullptr;
        const Kind & kind = plan.kinds[coded];
        if (w.input_scale && *w.input_scale != quantized_by) {
            quantized_by = *w.input_scale;
            __syncthreads();
            quantize_arranged(plain, arranged, p.k, quantized_by);
            __syncthreads();
        }
        int unit = (warp & (kind.parts - 1)) * kind.groups * group;
        float sum[4] = {};
        for (int i = 0; i < kind.groups; i++, unit += group) {
            wait_for_copies<slots - 1>();
            __syncwarp(); // the copies of all lanes
            const auto read = [&] {
                __syncwarp(); // all lanes have
                requests.next(p, plan, total, blocks, slot);
            };
            if (coded) {
                one_row::add_coded(slot, one_row::arranged_chunks(arranged.memory, unit), sum);
                read();
            } else {
                one_row::add_plain(slot, one_row::plain_chunks(plain.memory, unit), sum, read);
            }
            slot += plan.slot_bytes;
            if (slot == ring_end) slot = ring;
        }
        if (lane % 4 == 0) { // the only row of x
            float * const to = sums + (kept * warps + warp) * tile + lane / 4;
            to[0] = sum[0], to[8] = sum[2];
        }
        const bool more = at + blocks < total, counts = shares && at < plan.all_needed;
        if (++kept < most_sums && more && !counts) continue;
        __syncthreads();
        for (int i = threadIdx.x; i < kept << plan.widest; i += threads) {
            if (shares && i >> plan.widest < finished) continue;
            const float * const of_step = sums + (i >> plan.widest) * warps * tile;
            const int in_step = i & ((1 << plan.widest) - 1);
            if (i < threads && first_kept == block) {
                if (first_column.exists) first_column.finish(p, plan, of_step, in_step);
                continue;
            }
            Column column(p, plan, first_kept, blocks, total, i);
            column.load_operands(p);
            if (column.exists) column.finish(p, plan, of_step, in_step);
        }
        if (more || counts) __syncthreads();
        if (shares) { // all steps are kept
            finished = kept;
            if (counts && threadIdx.x == 0)
                add_made(p.made, uint32_t(min(int64_t(kind.columns()),
                                              w.n - int64_t(step - plan.first[weight]) * kind.columns())));
        } else {
            first_kept = at + blocks, kept = 0;
        }
    }
}

// Without a ring, registers leave room for the next launch. It is one kernel whether it shares or not: code that has just run is near.
template <int slots>
__global__ void __launch_bounds__(slots == 1 ? threads + threads / 4 : threads, blocks_each)
    one_row_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ Plan plan) {
    multiply_row<slots>(p, plan, int(blockIdx.x), int(gridDim.x));
}

// The first block chooses experts.
template <int slots, int each>
__global__ void __launch_bounds__(threads, blocks_each)
    one_row_beside_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ Plan plan,
                          const __grid_constant__ RoutedFew route) {
    static_assert(threads == most_few_slots);
    if (blockIdx.x == 0) {
        wait_for_earlier();
        let_later_start();
        route_by_block<each>(route);
    } else {
        multiply_row<slots>(p, plan, int(blockIdx.x) - 1, int(gridDim.x) - 1);
    }
}

struct Launch {
    Plan plan = {};
    unsigned blocks = 0;
    int slots = 1;
    size_t bytes = 0; // of shared memory
};

Kind kind_of(bool coded, int64_t k) {
    const Parts parts(coded, k);
    int shift = 0;
    while (1 << shift < parts.count) shift++;
    return {parts.row_bytes, parts.each * one_row::unit_bytes, parts.each / group, parts.count, shift};
}

// `others`: blocks of the same launch that do something else.
Launch plan_launch(const CudaContext & context, const FewRowsLinears & p, int others) {
    Launch launch;
    Plan & plan = launch.plan;
    for (const bool coded : {false, true}) plan.kinds[coded] = kind_of(coded, p.k);
    int most_groups = 0;
    for (int i = 0; i < p.count; i++) {
        const FewRowsWeight & w = p.weights[i];
        const Kind & kind = plan.kinds[w.block_scales != nullptr];
        plan.first[i + 1] = plan.first[i] + int(blocks_for(w.n, kind.columns()));
        plan.has_coded = plan.has_coded || w.block_scales;
        while (1 << plan.widest < kind.columns()) plan.widest++;
        most_groups = std::max(most_groups, kind.groups);
    }
    plan.slot_bytes = plan.has_coded ? one_row::coded_bytes : one_row::codes_bytes;
    const int total = plan.first[p.count];
    if (total == 0) return launch;
    size_t rest = 0;
    const auto bytes_with = [&](int slots) { return size_t(warps * slots * plan.slot_bytes) + rest; };
    const auto set_blocks = [&](int each) {
        launch.blocks =
            unsigned(std::min(total, context.processors * each - (total > context.processors ? others : 0)));
        launch.slots = 1;
        const int steps = int(blocks_for(total, launch.blocks));
        rest = size_t(SharedRows::bytes_for(p.k)) * (plan.has_coded ? 2 : 1) +
               sizeof(float) * size_t(std::min(steps, most_sums) * warps * tile);
        return steps;
    };
    const int most_each = total > context.processors ? blocks_each : 1;
    // A warp has one group under way then: where it has many, memory is busy without the next launch.
    if (p.bytes_beside > 0) {
        const int steps = set_blocks(most_each);
        launch.bytes = bytes_with(1);
        const int columns = plan.kinds[p.weights[0].block_scales != nullptr].columns();
        const int64_t needed = p.needed / columns; // steps
        const bool late = p.period == 2 * p.needed && p.needed % columns == 0 &&
                          std::has_single_bit(uint64_t(needed)) && p.weights[0].n % p.period == 0;
        plan.run = late ? std::countr_zero(uint64_t(needed)) : whole_run;
        plan.needed_of_first = late ? plan.first[1] / 2 : plan.first[1];
        plan.all_needed = plan.needed_of_first + total - plan.first[1];
        plan.shares =
            steps * most_groups <= most_groups_beside &&
            size_t(most_each) * (launch.bytes + reserved_bytes) + p.bytes_beside <= size_t(context.most_shared_bytes);
        if (plan.shares) return launch;
    }
    for (int each = most_each; each > 0; each--) { // blocks of a processor
        const int steps = set_blocks(each);
        for (const int slots : {2, 3, 4})
            if (launch.slots < steps * most_groups &&
                bytes_with(slots) + reserved_bytes <= size_t(context.most_shared_bytes) / size_t(each))
                launch.slots = slots;
        if (launch.slots > 1) break; // one block with a ring is better than two without
    }
    launch.bytes = bytes_with(launch.slots);
    return launch;
}

} // namespace

bool one_row_fits(const CudaContext & context, const FewRowsLinears & p) {
    if (p.rows != 1 || p.count == 0) return false;
    bool quantizes[2] = {}; // some codes take the row as it is, some as inputs of a W4A4 product
    for (int i = 0; i < p.count; i++) {
        const bool coded = p.weights[i].block_scales != nullptr;
        if (!one_row::is_aligned(p.weights[i])) return false;
        if (coded) quantizes[p.weights[i].input_scale != nullptr] = true;
        if (coded ? p.k % 256 != 0 : p.weights[i].input_scale != nullptr) return false;
        const Parts parts(coded, p.k);
        if (parts.row_bytes % one_row::unit_bytes != 0 || parts.units % parts.count != 0 || parts.each % group != 0)
            return false;
    }
    if (quantizes[0] && quantizes[1]) return false; // the kernel keeps one row for codes
    const Launch launch = plan_launch(context, p, 0);
    if (launch.bytes + reserved_bytes > size_t(context.most_shared_bytes)) return false;
    // Long ways are faster in the kernel of few rows: a head of 248,320 x 2048, 59 steps a block, in 267 us for 304 (H200).
    return launch.blocks == 0 || blocks_for(launch.plan.first[p.count], launch.blocks) <= unsigned(most_sums);
}

int64_t one_row_shares(const CudaContext & context, const FewRowsLinears & p) {
    if (!context.chains || !one_row_fits(context, p)) return 0;
    const Launch launch = plan_launch(context, p, 0);
    if (!launch.plan.shares) return 0;
    int64_t columns = launch.plan.run == whole_run ? p.weights[0].n : p.weights[0].n / 2;
    for (int i = 1; i < p.count; i++) columns += p.weights[i].n;
    return columns;
}

Status one_row_linears(const CudaContext & context, const FewRowsLinears & p) {
    const Launch launch = plan_launch(context, p, 0);
    if (launch.blocks == 0) return {};
    const auto kernel = launch.slots == 1   ? one_row_kernel<1>
                        : launch.slots == 2 ? one_row_kernel<2>
                        : launch.slots == 3 ? one_row_kernel<3>
                                            : one_row_kernel<4>;
    // A launch that shares its processors could only start where the one before it has ended, if that divided the memory otherwise: the
    // products behind attention, which have no ring, mostly.
    if (context.hopper && launch.slots == 1) take_all_shared_memory(kernel);
    return launch_chained("linear", context, kernel, launch.blocks, threads, launch.bytes, p, launch.plan);
}

Status one_row_linears_beside(const CudaContext & context, const FewRowsLinears & p, const RoutedFew & route) {
    const Launch launch = plan_launch(context, p, 1);
    const auto kernel_for = [&](auto each) {
        return launch.slots == 1   ? one_row_beside_kernel<1, each>
               : launch.slots == 2 ? one_row_beside_kernel<2, each>
               : launch.slots == 3 ? one_row_beside_kernel<3, each>
                                   : one_row_beside_kernel<4, each>;
    };
    const auto kernel = route.experts <= 8 * warp_size ? kernel_for(std::integral_constant<int, 8>())
                                                       : kernel_for(std::integral_constant<int, most_router_logits>());
    return launch_chained("router, linear", context, kernel, launch.blocks + 1, threads, launch.bytes, p, launch.plan,
                          route);
}

} // namespace gnv::cuda
