// Gate, up and their activation for listed pairs of a row and an expert: blocks of 128 rows x (64 columns of gate and
// the same of up), two on a multiprocessor. Threads gather rows of x, which the copy engine cannot do, two slices of k
// ahead.
#include "cuda/expert_inputs_hopper.cuh"
#include "cuda/tiles.cuh"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int tile = listed_rows, columns_at_once = 64, slice = tile_columns, stages = 3, threads = 128;
constexpr int pieces = slice / 8, rows_at_once = threads / pieces, copies = tile / rows_at_once;

struct Stage {
    bf16 x[tile * slice], w[tile * slice]; // w: rows of gate, then of up
};
constexpr int memory_bytes = stages * int(sizeof(Stage)) + tile_alignment;

struct Work {
    ExpertInputs in;
    ListedPairs pairs;
};

// Stores products of the two rows of 64 that this thread has.
__device__ void store(const Work & p, const float (&sums)[64], int row, int rows, int64_t first_row, int column) {
    const int lane = threadIdx.x % warp_size;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int own = row + lane / 4 + h * 8;
        if (own >= rows) continue;
        const int64_t to = (first_row + own) * p.in.columns;
        store_pairs<32>(sums, 2 * h, column + lane % 4 * 2, int(p.in.columns), p.in.chosen_gate + to,
                        p.in.chosen_up + to);
    }
}

__global__ void __launch_bounds__(threads, 2) listed_kernel(Work p) {
    extern __shared__ unsigned char memory[];
    auto * const stage_memory = static_cast<Stage *>(aligned_tiles(memory));
    const int k = int(p.in.k), column_blocks = int((p.in.columns + columns_at_once - 1) / columns_at_once);
    const int64_t count = int64_t(p.pairs.first_tiles[p.in.experts]) * column_blocks;
    const int piece = int(threadIdx.x) % pieces, warp = int(threadIdx.x) / warp_size;
    const int slices = (k + slice - 1) / slice;
    for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
        const int at_tile = int(index / column_blocks), column = int(index % column_blocks) * columns_at_once;
        const int expert = stretch_of(p.pairs.first_tiles, p.in.experts, at_tile);
        const int64_t first_row = p.pairs.offsets[expert] + int64_t(at_tile - p.pairs.first_tiles[expert]) * tile;
        const int rows = int(min(int64_t(tile), p.pairs.offsets[expert + 1] - first_row));
        const bf16 * x[copies];
        const bf16 * w[copies];
        bool exists[copies];
#pragma unroll
        for (int i = 0; i < copies; i++) {
            const int row = int(threadIdx.x) / pieces + i * rows_at_once, own = column + row % columns_at_once;
            x[i] = p.in.x + p.pairs.rows[first_row + min(row, rows - 1)] / p.pairs.divisor * k + piece * 8;
            exists[i] = own < p.in.columns;
            w[i] = (row < columns_at_once ? p.in.gate : p.in.up) + (expert * p.in.columns + (exists[i] ? own : 0)) * k +
                   piece * 8;
        }
        const auto load = [&](int at) {
            if (at < slices) {
                Stage & stage = stage_memory[at % stages];
                const bool in_row = at * slice + piece * 8 < k;
                const int64_t step = in_row ? at * slice : -piece * 8;
#pragma unroll
                for (int i = 0; i < copies; i++) {
                    const int row = int(threadIdx.x) / pieces + i * rows_at_once;
                    copy_16_bytes(stage.x + piece_at(row, piece), x[i] + step, in_row && row < rows);
                    copy_16_bytes(stage.w + piece_at(row, piece), w[i] + step, in_row && exists[i]);
                }
            }
            commit_copies();
        };
        for (int at = 0; at < stages - 1; at++) load(at);
        float low[64] = {}, high[64] = {};
        for (int at = 0; at < slices; at++) {
            wait_for_copies<stages - 2>();
            show_to_tensor_cores();
            __syncthreads(); // this slice is there; the one before it, which load() overwrites, is no longer read
            const Stage & stage = stage_memory[at % stages];
            const uint64_t a = tile_descriptor(stage.x), b = tile_descriptor(stage.w);
            begin_products();
#pragma unroll
            for (int c = 0; c < slice; c += 16) multiply_add(low, from_column(a, c), from_column(b, c));
#pragma unroll
            for (int c = 0; c < slice; c += 16) multiply_add(high, from_row(from_column(a, c), 64), from_column(b, c));
            commit_products();
            load(at + stages - 1);
            wait_for_products<0>();
        }
        wait_for_copies<0>();
        __syncthreads(); // slices are no longer read
        int * const maximum = reinterpret_cast<int *>(p.in.maxima) + expert;
        const float known = read_maximum(maximum);
        raise(maximum, max(largest_activation<32>(low, known), largest_activation<32>(high, known)));
        if (!p.pairs.store) continue;
        store(p, low, warp * 16, rows, first_row, column);
        store(p, high, 64 + warp * 16, rows, first_row, column);
    }
}

} // namespace

Status listed_experts(const CudaContext & context, const ExpertInputs & in, const ListedPairs & pairs) {
    count_tiles(context.stream, pairs.offsets, in.experts, 1, tile, pairs.first_tiles);
    const cudaError_t error =
        cudaFuncSetAttribute(listed_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, memory_bytes);
    if (error != cudaSuccess) return fail(Code::device, "expert_inputs: ", cudaGetErrorString(error));
    listed_kernel<<<unsigned(context.processors * 2), threads, memory_bytes, context.stream>>>({in, pairs});
    return launched("expert_inputs");
}

} // namespace gnv::cuda
