#include "cuda/few_rows.cuh"

#include "cuda/chain.cuh"
#include "cuda/few_rows_dot.cuh"
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

using few_rows::SharedRows;
using few_rows::threads;
using few_rows::warps;
using few_rows::Weights;

// --- Rows -------------------------------------------------------------------------------------------------------------

// Makes the rows in shared memory; `writes`: and in source.out.
__device__ void make_rows(const RowSource & source, const SharedRows & x, int rows, int64_t k, bool writes) {
    using Kind = RowSource::Kind;
    const int warp = threadIdx.x / warp_size, units = int(k / 8);
    const auto put = [&](int row, int64_t column, uint4 eight) {
        x.unit(row, int(column / 8)) = eight;
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
            x.unit(i / units, i % units) = reinterpret_cast<const uint4 *>(source.x)[i];
        break;
    default:
        for (int i = threadIdx.x; i < rows * units; i += threads) {
            const int64_t at = int64_t(i) * 8;
            float values[8], others[8];
            load_several<8>(source.x + at, values);
            if (source.kind == Kind::silu_mul) {
                load_several<8>(source.second + at, others);
#pragma unroll
                for (int j = 0; j < 8; j++) values[j] = silu_mul(values[j], others[j]);
            } else {
                load_several<8>(source.second + at / source.width * source.stride + source.column + at % source.width,
                                others);
#pragma unroll
                for (int j = 0; j < 8; j++) values[j] = sigmoid_gated(values[j], others[j]);
            }
            put(i / units, i % units * 8, pack(values));
        }
    }
}

// --- Linears ----------------------------------------------------------------------------------------------------------

// Rows of w that a block takes at once, weight by weight: first[i] tiles come before weight i.
struct Tiles {
    int rows_each[most_few_weights];
    int first[most_few_weights + 1];
};

// The rest of a product: out, and the steps behind it. Everything is loaded before anything is stored.
__device__ void finish(const FewRowsLinears & p, const FewRowsWeight & w, int row, int64_t column, float sum) {
    const float * const global =
        w.block_scales ? w.global_scales + unsigned(column) / unsigned(w.global_scale_rows) : nullptr;
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
    values[0] = rounded(sum * factor_of(global, w.input_scale));
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

// The share of one of `blocks` blocks.
template <int rows, Weights kinds>
__device__ void linears_of_block(const FewRowsLinears & p, const Tiles & tiles, int block, int blocks) {
    extern __shared__ uint4 memory[];
    const SharedRows x = {memory, int((p.k + 31) / 32) * 4};
    const SharedRows quantized = {p.count > 1 ? memory + rows * x.units_a_row : memory, x.units_a_row};
    const int warp = threadIdx.x / warp_size, total = tiles.first[p.count];
    const auto weight_of = [&](int tile) {
        int i = 0;
        while (tile >= tiles.first[i + 1]) i++;
        return i;
    };
    make_rows(p.source, x, rows, p.k, block == 0);
    __syncthreads();
    int quantized_for = -1;
    for (int tile = block; tile < total; tile += blocks) {
        const int i = weight_of(tile);
        const FewRowsWeight & w = p.weights[i];
        if (w.input_scale && quantized_for != i) {
            __syncthreads();
            few_rows::quantize(x, quantized, rows, p.k, [&](int) { return *w.input_scale; });
            quantized_for = i;
            __syncthreads();
        }
        const int64_t first = int64_t(tile - tiles.first[i]) * tiles.rows_each[i];
        const int count = tiles.rows_each[i] / warps;
        few_rows::multiply<rows, kinds>(w, w.n, first + warp * count, count, p.k, w.input_scale ? quantized : x,
                                        [&](int row, int64_t column, float sum) { finish(p, w, row, column, sum); });
    }
}

template <int rows, Weights kinds>
__global__ void __launch_bounds__(threads, rows <= 2 && kinds == Weights::bf16 ? 3 : 2)
    linears_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ Tiles tiles) {
    wait_for_earlier();
    linears_of_block<rows, kinds>(p, tiles, int(blockIdx.x), int(gridDim.x));
    let_later_start(); // not before: its blocks would take the place of this kernel's
}

// The first block chooses experts.
template <Weights kind, int each>
__global__ void __launch_bounds__(threads, 2)
    beside_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ Tiles tiles,
                  const __grid_constant__ RoutedFew route) {
    static_assert(threads == most_few_slots);
    wait_for_earlier();
    if (blockIdx.x == 0) {
        route_by_block<each>(route);
    } else {
        linears_of_block<1, kind>(p, tiles, int(blockIdx.x) - 1, int(gridDim.x) - 1);
    }
    let_later_start();
}

template <int rows>
auto kernel_for(bool has_bf16, bool has_nvfp4) {
    if (has_bf16 && has_nvfp4) return linears_kernel<rows, Weights::both>;
    return has_bf16 ? linears_kernel<rows, Weights::bf16> : linears_kernel<rows, Weights::nvfp4>;
}

// How a launch divides its work, and what it needs.
struct LaunchPlan {
    Tiles tiles = {};
    bool has_bf16 = false, has_nvfp4 = false;
    unsigned blocks = 0;
    size_t bytes = 0; // of shared memory
};

template <int rows>
LaunchPlan plan_launch(const CudaContext & context, const FewRowsLinears & p) {
    LaunchPlan plan;
    Tiles & tiles = plan.tiles;
    bool quantizes = false;
    for (int i = 0; i < p.count; i++) {
        const FewRowsWeight & w = p.weights[i];
        tiles.rows_each[i] = warps * few_rows::rows_of_warp<rows>(w, p.k, context.processors);
        tiles.first[i + 1] = tiles.first[i] + int(blocks_for(w.n, tiles.rows_each[i]));
        quantizes = quantizes || w.input_scale;
        plan.has_bf16 = plan.has_bf16 || !w.block_scales;
        plan.has_nvfp4 = plan.has_nvfp4 || w.block_scales;
    }
    plan.bytes = few_rows_bytes(rows, p.k) * (quantizes && p.count > 1 ? 2 : 1);
    plan.blocks = unsigned(std::min(tiles.first[p.count], 2 * context.processors));
    return plan;
}

template <int rows>
Status launch_linears(const CudaContext & context, const FewRowsLinears & p) {
    const LaunchPlan plan = plan_launch<rows>(context, p);
    const auto kernel = kernel_for<rows>(plan.has_bf16, plan.has_nvfp4);
    if (plan.blocks == 0) return {};
    return launch_chained("linear", context, kernel, plan.blocks, threads, plan.bytes, p, plan.tiles);
}

} // namespace

Status few_rows_linears(const CudaContext & context, FewRowsLinears p) {
    const int at_once = int(std::min<int64_t>(most_few_rows, most_row_bytes / int64_t(few_rows_bytes(1, p.k)) / 2));
    for (int left = p.rows; left > 0;) {
        p.rows = left >= at_once ? at_once : left;
        p.rows = p.rows >= 8 ? 8 : p.rows >= 4 ? 4 : p.rows; // 3 is 3
        switch (p.rows) {
        case 8: GNV_TRY(launch_linears<8>(context, p)); break;
        case 4: GNV_TRY(launch_linears<4>(context, p)); break;
        case 3: GNV_TRY(launch_linears<3>(context, p)); break;
        case 2: GNV_TRY(launch_linears<2>(context, p)); break;
        default: GNV_TRY(launch_linears<1>(context, p));
        }
        left -= p.rows;
        p.source.x += p.rows * p.k;
        for (FewRowsWeight & w : p.weights) w.out += p.rows * w.n;
    }
    return {};
}

Status few_rows_linears_beside(const CudaContext & context, const FewRowsLinears & p, const RoutedFew & route) {
    const LaunchPlan plan = plan_launch<1>(context, p);
    const bool few = route.experts <= 8 * warp_size;
    const auto kernel =
        plan.has_nvfp4 ? (few ? beside_kernel<Weights::nvfp4, 8> : beside_kernel<Weights::nvfp4, most_router_logits>)
                       : (few ? beside_kernel<Weights::bf16, 8> : beside_kernel<Weights::bf16, most_router_logits>);
    return launch_chained("router, linear", context, kernel, plan.blocks + 1, threads, plan.bytes, p, plan.tiles,
                          route);
}

} // namespace gnv::cuda
