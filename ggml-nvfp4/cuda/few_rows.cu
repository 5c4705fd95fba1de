#include "cuda/few_rows.cuh"

#include "cuda/chain.cuh"
#include "cuda/few_rows_product.cuh"
#include "cuda/many_rows_hopper.cuh"
#include "cuda/one_row.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

FewRowsWeight few_rows_weight(const Tensor & w, const float * input_scale, const float * bias, void * out) {
    FewRowsWeight weight;
    weight.data = w.data;
    if (w.dtype == DType::f4) {
        weight.block_scales = w.block_scales;
        weight.global_scales = w.global_scales;
        weight.global_scale_rows = w.global_scale_rows;
    }
    weight.input_scale = input_scale;
    weight.bias = bias;
    weight.out = static_cast<bf16 *>(out);
    weight.n = w.shape[w.shape.rank - 2];
    return weight;
}

namespace {

using few_rows::Parts;
using few_rows::SharedRows;
using few_rows::threads;
using few_rows::tile;
using few_rows::warps;

// --- Rows -------------------------------------------------------------------------------------------------------------

// Makes the rows in shared memory; `writes`: and in source.out.
__device__ void make_rows(const RowSource & source, const SharedRows & x, int rows, int64_t k, bool writes) {
    using Kind = RowSource::Kind;
    const int warp = threadIdx.x / warp_size, units = int(k / 8);
    const auto put = [&](int row, int64_t column, uint4 eight) {
        x.chunk(row, int(column / 8)) = eight;
        if (writes && source.out) *reinterpret_cast<uint4 *>(source.out + row * k + column) = eight;
    };
    switch (source.kind) {
    case Kind::rms_norm: { // a warp for each sum, all threads for the rows
        __shared__ float scales[most_few_rows];
        for (int row = warp; row < rows; row += warps) {
            const float scale = rms_scale<8>(source.x + row * source.stride, k, source.epsilon);
            if (threadIdx.x % warp_size == 0) scales[row] = scale;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < rows * units; i += threads) {
            const int row = i / units, column = i % units * 8;
            float values[8], weights[8];
            load_several<8>(source.x + row * source.stride + column, values);
            load_several<8>(source.weight + column, weights);
#pragma unroll
            for (int j = 0; j < 8; j++) values[j] = rms_normed(values[j], scales[row], source.offset, weights[j]);
            put(row, column, pack(values));
        }
        break;
    }
    case Kind::plain:
        for (int i = threadIdx.x; i < rows * units; i += threads)
            x.chunk(i / units, i % units) = reinterpret_cast<const uint4 *>(source.x)[i];
        break;
    default:
        for (int i = threadIdx.x; i < rows * units; i += threads)
            put(i / units, i % units * 8, few_rows::joined_chunk(source, i));
    }
}

// to = from as inputs of a W4A4 product; may be the same rows.
__device__ void quantize_rows(const SharedRows & from, const SharedRows & to, int rows, int64_t k, float scale) {
    const int blocks = int(k / 16);
    for (int i = threadIdx.x; i < rows * blocks; i += threads) {
        const int row = i / blocks, first = i % blocks * 2;
        uint4 low = from.chunk(row, first), high = from.chunk(row, first + 1);
        few_rows::quantize_chunks(low, high, scale);
        to.chunk(row, first) = low, to.chunk(row, first + 1) = high;
    }
}

// --- Linears ----------------------------------------------------------------------------------------------------------

// Columns that a block takes at once, weight by weight: first[i] tiles come before weight i.
struct Tiles {
    int columns[most_few_weights];
    int first[most_few_weights + 1];
    int chunks; // of rows of x
};

// The rest of a product: out, and the steps behind it. Everything is loaded before anything is stored.
__device__ void finish(const FewRowsLinears & p, const FewRowsWeight & w, int64_t row, int64_t column, float sum) {
    const int64_t at = row * w.n + column;
    float operands[most_row_steps], values[most_row_steps + 1];
#pragma unroll
    for (int i = 0; i < most_row_steps; i++) {
        if (i >= p.steps) break;
        const RowStep & step = p.step[i];
        const bool is_gate = step.kind == RowStep::Kind::gate;
        const int64_t from = is_gate ? row * step.stride + step.column : at;
        operands[i] = step.in_f32 ? static_cast<const float *>(step.operand)[from]
                                  : __bfloat162float(static_cast<const bf16 *>(step.operand)[from]);
        if (is_gate) operands[i] = rounded(sigmoid(operands[i]));
    }
    values[0] = rounded(sum * few_rows::product_factor(w, column, w.input_scale));
    if (w.bias) values[0] = rounded(values[0] + w.bias[column]);
#pragma unroll
    for (int i = 0; i < most_row_steps; i++) {
        if (i >= p.steps) break;
        const bool is_gate = p.step[i].kind == RowStep::Kind::gate;
        values[i + 1] = rounded(is_gate ? values[i] * operands[i] : values[i] + operands[i]);
    }
    w.out[at] = __float2bfloat16_rn(values[0]);
#pragma unroll
    for (int i = 0; i < most_row_steps; i++)
        if (i < p.steps) p.step[i].out[at] = __float2bfloat16_rn(values[i + 1]);
}

// How a kernel for 8 * nt rows of x works.
//   shared      rows of x are made in shared memory, for all products of a block; else they are read where they lie
//   one_tile    each warp has a tile of its own with all its parts; else warps share the parts of a tile
template <int nt>
struct Form {
    static constexpr bool shared = nt == 1, one_tile = nt == 8;
    static constexpr int units = nt == 1 ? 4 : 2; // that a lane loads at once
    static constexpr int rows = nt * few_rows::x_rows, sums = few_rows::sums_of_warp<nt>;
    static constexpr int blocks = nt == 8 ? 1 : 2; // of a processor
    // Two sets of sums, so that threads may finish one product while others begin the next.
    static constexpr int64_t sum_bytes = int64_t(sizeof(float)) * warps * sums * (one_tile ? 1 : 2);
    static __host__ __device__ int tiles(const Parts & parts) { return one_tile ? warps : warps / parts.count; }
};

// The share of one of `blocks` blocks: columns of some rows.
template <int nt>
__device__ void linears_of_block(const FewRowsLinears & p, const Tiles & tiles, int block, int blocks) {
    using F = Form<nt>;
    extern __shared__ uint4 memory[];
    auto * const sums = reinterpret_cast<float *>(memory);
    const int64_t first_row = int64_t(block % tiles.chunks) * F::rows;
    const int rows = int(min(int64_t(F::rows), p.rows - first_row)), total = tiles.first[p.count];
    const int warp = threadIdx.x / warp_size;
    SharedRows x, quantized;
    if constexpr (F::shared) {
        x = {memory + F::sum_bytes / sizeof(uint4), SharedRows::chunks_for(p.k)};
        quantized = {p.count > 1 ? x.memory + rows * x.chunks_a_row : x.memory, x.chunks_a_row};
    }
    struct Place { // of a warp
        int weight;
        Parts parts;
        int64_t first; // column of the block's
        int tile, part;
        __device__ Place(const FewRowsLinears & call, const Tiles & all, int at, int warp_of_block)
            : weight(weight_of(all, at)), parts(call.weights[weight].block_scales != nullptr, call.k) {
            first = int64_t(at - all.first[weight]) * all.columns[weight];
            tile = F::one_tile ? warp_of_block : warp_of_block / parts.count;
            part = F::one_tile ? 0 : warp_of_block % parts.count;
        }
        __device__ static int weight_of(const Tiles & all, int at) {
            int i = 0;
            while (at >= all.first[i + 1]) i++;
            return i;
        }
        __device__ few_rows::TileRows rows(const FewRowsLinears & call) const {
            return {call.weights[weight], 0, first + tile * few_rows::tile, parts};
        }
    };
    few_rows::Loaded<F::units> ahead[1];
    const auto load_first = [&](const Place & place) {
        const few_rows::TileRows w[1] = {place.rows(p)};
        load(ahead, w, few_rows::Walk(place.parts, place.part), place.parts);
    };
    int at = block / tiles.chunks;
    if (at < total) load_first(Place(p, tiles, at, warp)); // weights: no earlier kernel writes them
    wait_for_earlier();
    if constexpr (F::shared) {
        RowSource source = p.source;
        source.x += first_row * p.k; // 0 unless the source is plain
        make_rows(source, x, rows, p.k, block == 0);
        __syncthreads();
    }
    int quantized_for = -1;
    float * mine = sums;
    for (; at < total; at += blocks / tiles.chunks) {
        const Place place(p, tiles, at, warp);
        const FewRowsWeight & w = p.weights[place.weight];
        const few_rows::TileRows of_w[1] = {place.rows(p)};
        float sum[1][nt][4];
        const auto multiply = [&](const auto & operand) {
            const int count = F::one_tile ? place.parts.count : 1;
            if (w.block_scales) {
                few_rows::add_parts<1, nt, true, F::one_tile>(ahead, of_w, place.parts, place.part, count, operand, sum,
                                                              few_rows::LoadNothing());
            } else {
                few_rows::add_parts<1, nt, false, F::one_tile>(ahead, of_w, place.parts, place.part, count, operand,
                                                               sum, few_rows::LoadNothing());
            }
        };
        if constexpr (F::shared) {
            if (w.input_scale && quantized_for != place.weight) {
                __syncthreads();
                quantize_rows(x, quantized, rows, p.k, *w.input_scale);
                quantized_for = place.weight;
                __syncthreads();
            }
            multiply(few_rows::SharedOperand(w.input_scale ? quantized : x, rows, p.k));
        } else {
            multiply(few_rows::DirectOperand<nt>(p.source.x + first_row * p.k, rows, p.k));
        }
        if (at + blocks / tiles.chunks < total) load_first(Place(p, tiles, at + blocks / tiles.chunks, warp));
        few_rows::put_sums<nt>(mine + warp * F::sums, sum[0]);
        if constexpr (F::one_tile) {
            __syncwarp();
            for (int i = threadIdx.x % warp_size; i < tile * rows; i += warp_size) {
                const int64_t column = place.first + warp * tile + i % tile;
                const float found = mine[warp * F::sums + i / tile * few_rows::sum_stride + i % tile];
                if (column < w.n) finish(p, w, first_row + i / tile, column, found);
            }
            __syncwarp();
        } else {
            __syncthreads();
            const int columns = tiles.columns[place.weight], count = place.parts.count;
            for (int i = threadIdx.x; i < columns * rows; i += threads) {
                const int row = i / columns, in_block = i % columns;
                const float * from =
                    mine + in_block / tile * count * F::sums + row * few_rows::sum_stride + in_block % tile;
                float found = *from;
                for (int part = 1; part < count; part++) found += *(from += F::sums);
                if (place.first + in_block < w.n) finish(p, w, first_row + row, place.first + in_block, found);
            }
            mine = mine == sums ? sums + warps * F::sums : sums;
        }
    }
}

template <int nt>
__global__ void __launch_bounds__(threads, Form<nt>::blocks)
    linears_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ Tiles tiles) {
    linears_of_block<nt>(p, tiles, int(blockIdx.x), int(gridDim.x));
    let_later_start(); // not before: its blocks would take the place of this kernel's
}

// The first block chooses experts.
template <int each>
__global__ void __launch_bounds__(threads, 2)
    beside_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ Tiles tiles,
                  const __grid_constant__ RoutedFew route) {
    static_assert(threads == most_few_slots);
    if (blockIdx.x == 0) {
        wait_for_earlier();
        route_by_block<each>(route);
    } else {
        linears_of_block<1>(p, tiles, int(blockIdx.x) - 1, int(gridDim.x) - 1);
    }
    let_later_start();
}

// How a launch divides its work, and what it needs.
struct LaunchPlan {
    Tiles tiles = {};
    unsigned blocks = 0;
    bool all_at_once = false; // every block has one tile only
    size_t bytes = 0;         // of shared memory
};

template <int nt>
LaunchPlan plan_launch(const CudaContext & context, const FewRowsLinears & p) {
    using F = Form<nt>;
    LaunchPlan plan;
    Tiles & tiles = plan.tiles;
    bool quantizes = false;
    for (int i = 0; i < p.count; i++) {
        const FewRowsWeight & w = p.weights[i];
        tiles.columns[i] = tile * F::tiles(Parts(w.block_scales != nullptr, p.k));
        tiles.first[i + 1] = tiles.first[i] + int(blocks_for(w.n, tiles.columns[i]));
        quantizes = quantizes || w.input_scale;
    }
    tiles.chunks = int(blocks_for(p.rows, F::rows));
    plan.bytes = size_t(F::sum_bytes);
    if (F::shared)
        plan.bytes += few_rows_bytes(std::min<int64_t>(p.rows, F::rows), p.k) * (quantizes && p.count > 1 ? 2 : 1);
    const int most = std::max(1, F::blocks * context.processors / tiles.chunks);
    plan.blocks = unsigned(std::min(tiles.first[p.count], most) * tiles.chunks);
    plan.all_at_once = tiles.first[p.count] <= most;
    return plan;
}

template <int nt>
Status launch_linears(const CudaContext & context, const FewRowsLinears & p) {
    const LaunchPlan plan = plan_launch<nt>(context, p);
    if (plan.blocks == 0) return {};
    return launch_chained("linear", context, linears_kernel<nt>, plan.blocks, threads, plan.bytes, p, plan.tiles);
}

// Rows that lie where they are read. Small weights are read again by blocks with other rows, from the L2 cache, so that all
// processors have work; large ones by as few blocks as possible.
Status many_linears(const CudaContext & context, const FewRowsLinears & p) {
    if (p.rows <= 16 || plan_launch<2>(context, p).all_at_once) return launch_linears<2>(context, p);
    if (p.rows > 32 && !plan_launch<4>(context, p).all_at_once) { // where enough blocks can each have 64 rows
        const LaunchPlan plan = plan_launch<8>(context, p);
        if (int(plan.blocks) >= context.processors / 2) return launch_linears<8>(context, p);
    }
    return launch_linears<4>(context, p);
}

// The weights from `first` on that are of one kind and have the same inputs.
FewRowsLinears together(const FewRowsLinears & p, int first) {
    FewRowsLinears some = p;
    const FewRowsWeight & w = p.weights[first];
    some.count = 0;
    for (int i = first; i < p.count; i++) {
        const FewRowsWeight & other = p.weights[i];
        if (!other.block_scales != !w.block_scales || other.input_scale != w.input_scale) break;
        some.weights[some.count++] = other;
    }
    return some;
}

bool is_faster_by_many([[maybe_unused]] const CudaContext & context, [[maybe_unused]] const FewRowsLinears & some) {
#ifdef GNV_HAVE_HOPPER
    return context.hopper && many_rows_are_faster(context, some);
#else
    return false;
#endif
}

} // namespace

uint64_t few_rows_scratch_bytes(int64_t rows, int64_t k) {
    uint64_t bytes = uint64_t(rows * k) * sizeof(bf16); // quantized
#ifdef GNV_HAVE_HOPPER
    bytes = std::max(bytes, many_rows_bytes(rows, k));
#endif
    return aligned(bytes);
}

uint64_t few_rows_bytes(int64_t rows, int64_t k) { return uint64_t(rows * SharedRows::bytes_for(k)); }

Status few_rows_linears(const CudaContext & context, const FewRowsLinears & p) {
    if (p.rows == 0) return {};
    if (one_row_fits(context, p)) return one_row_linears(context, p);
    const bool fits = few_rows_bytes(std::min<int64_t>(p.rows, most_few_rows), p.k) * 2 <= uint64_t(most_row_bytes);
    if (fits && (p.rows <= most_few_rows || plan_launch<1>(context, p).all_at_once))
        return launch_linears<1>(context, p);
    bool apart = false; // weights that need inputs of their own, or have a faster kernel
    for (int i = 0; i < p.count; i++) apart = apart || p.weights[i].input_scale;
    for (int first = 0; first < p.count; first += together(p, first).count)
        apart = apart || is_faster_by_many(context, together(p, first));
    if (!apart) return many_linears(context, p);
    for (int first = 0; first < p.count;) {
        FewRowsLinears some = together(p, first);
        first += some.count;
#ifdef GNV_HAVE_HOPPER
        if (is_faster_by_many(context, some)) {
            GNV_TRY(many_rows_linears(context, some));
            continue;
        }
#endif
        if (const float * const scale = some.weights[0].input_scale) {
            GNV_TRY(quantize_inputs(context.stream, {p.source.x, nullptr, p.rows, p.k, scale, nullptr, 0}, p.scratch));
            some.source.x = p.scratch;
        }
        GNV_TRY(many_linears(context, some));
    }
    return {};
}

Status few_rows_linears_beside(const CudaContext & context, const FewRowsLinears & p, const RoutedFew & route) {
    if (one_row_fits(context, p)) return one_row_linears_beside(context, p, route);
    const LaunchPlan plan = plan_launch<1>(context, p);
    const auto kernel = route.experts <= 8 * warp_size ? beside_kernel<8> : beside_kernel<most_router_logits>;
    return launch_chained("router, linear", context, kernel, plan.blocks + 1, threads, plan.bytes, p, plan.tiles,
                          route);
}

} // namespace gnv::cuda
