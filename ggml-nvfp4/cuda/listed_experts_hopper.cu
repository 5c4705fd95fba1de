// Gate, up and their activation for listed pairs of a row and an expert.
//
//   a block: 128 rows x (128 columns of gate and the same of up), one tile after another
//     warpgroup 0     fetches slices of 64 of k, four ahead: the copy engine the weights, its threads rows of x, which are gathered
//     warpgroups 1, 2 64 rows each: multiply, then run the epilogue while the next slices arrive
#include "cuda/copy_engine.cuh"
#include "cuda/expert_inputs_hopper.cuh"
#include "cuda/tensor_map.h"
#include "cuda/tiles.cuh"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int tile = listed_rows, columns_at_once = 128, slice = tile_columns, stages = 4, group_threads = 128;
constexpr int pieces = slice / 8, rows_at_once = group_threads / pieces, copies = tile / rows_at_once;

struct Stage {
    bf16 x[tile * slice], w[2][columns_at_once * slice]; // gate, up
};
struct Memory {
    Stage slices[stages];
    Arrivals full[stages], empty[stages];
};
constexpr int memory_bytes = int(sizeof(Memory)) + tile_alignment;

struct Work {
    ExpertInputs in;
    ListedPairs pairs;
};

struct Place {
    int expert, column, rows;
    int64_t first_row; // of the list
    __device__ Place(const Work & p, int64_t index, int column_blocks) {
        const int at = int(index / column_blocks);
        column = int(index % column_blocks) * columns_at_once;
        expert = stretch_of(p.pairs.first_tiles, p.in.experts, at);
        first_row = p.pairs.offsets[expert] + int64_t(at - p.pairs.first_tiles[expert]) * tile;
        rows = int(min(int64_t(tile), p.pairs.offsets[expert + 1] - first_row));
    }
};

__device__ void fetch(const Work & p, const CUtensorMap & gate, const CUtensorMap & up, Memory & memory, int64_t count,
                      int column_blocks, int slices) {
    const int piece = int(threadIdx.x) % pieces, first = int(threadIdx.x) / pieces, k = int(p.in.k);
    unsigned turn = 0; // slices of all tiles so far
    for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
        const Place place(p, index, column_blocks);
        uint32_t sources[copies]; // where rows begin, in pieces
#pragma unroll
        for (int i = 0; i < copies; i++) {
            const int64_t j = place.first_row + min(first + i * rows_at_once, place.rows - 1);
            sources[i] = uint32_t(int64_t(p.pairs.rows[j]) * (k / 8));
        }
        for (int at = 0; at < slices; at++, turn++) {
            Stage & stage = memory.slices[turn % stages];
            Arrivals & full = memory.full[turn % stages];
            wait_for(memory.empty[turn % stages], int(turn / stages) - 1);
            if (threadIdx.x == 0) {
                expect_bytes(full, int(sizeof stage.w));
                copy_box(stage.w[0], gate, at * slice, place.column, place.expert, full);
                copy_box(stage.w[1], up, at * slice, place.column, place.expert, full);
            }
            // Pieces behind the end of a row, and rows that do not exist, become zeros.
            const bool in_row = at * slice + piece * 8 < k;
            const bf16 * const x = p.in.x + (in_row ? at * slice + piece * 8 : 0);
#pragma unroll
            for (int i = 0; i < copies; i++) {
                const int row = first + i * rows_at_once;
                copy_16_bytes(stage.x + piece_at(row, piece), x + int64_t(sources[i]) * 8, in_row && row < place.rows);
            }
            arrive_with_copies(full);
        }
    }
    wait_for_copies<0>();
}

__device__ void release(Memory & memory, unsigned turn) {
    if (threadIdx.x % warp_size == 0) arrive(memory.empty[turn % stages]);
}

__global__ void __launch_bounds__(3 * group_threads, 1)
    listed_kernel(const __grid_constant__ CUtensorMap gate, const __grid_constant__ CUtensorMap up, Work p) {
    extern __shared__ unsigned char unaligned[];
    auto & memory = *static_cast<Memory *>(aligned_tiles(unaligned));
    if (threadIdx.x == 0) {
        for (int s = 0; s < stages; s++) {
            start_arrivals(memory.full[s], group_threads + 1);
            start_arrivals(memory.empty[s], 8); // warps that multiply
        }
        show_barriers();
    }
    __syncthreads();
    const int slices = int((p.in.k + slice - 1) / slice);
    const int column_blocks = int((p.in.columns + columns_at_once - 1) / columns_at_once);
    const int64_t count = int64_t(p.pairs.first_tiles[p.in.experts]) * column_blocks;
    const int warpgroup = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0); // known to be one for the warp
    if (warpgroup == 0) {
        give_registers<56>();
        fetch(p, gate, up, memory, count, column_blocks, slices);
        return;
    }
    take_registers<224>();
    const int half = warpgroup - 1;
    unsigned turn = 0;
    for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
        const Place place(p, index, column_blocks);
        if (half * 64 >= place.rows) { // no row of this group
            for (int at = 0; at < slices; at++, turn++) {
                wait_for(memory.full[turn % stages], int(turn / stages));
                release(memory, turn);
            }
            continue;
        }
        float sums[128];
        for (int at = 0; at < slices; at++, turn++) {
            const Stage & stage = memory.slices[turn % stages];
            wait_for(memory.full[turn % stages], int(turn / stages));
            show_to_tensor_cores();
            const uint64_t a = tile_descriptor(stage.x + half * 64 * slice), b = tile_descriptor(stage.w[0]);
            begin_products();
#pragma unroll
            for (int c = 0; c < slice; c += 16)
                multiply_wide(sums, from_column(a, c), from_column(b, c), at > 0 || c > 0);
            commit_products();
            if (at > 0) {
                wait_for_products<1>();
                release(memory, turn - 1);
            }
        }
        wait_for_products<0>();
        release(memory, turn - 1);
        int * const maximum = reinterpret_cast<int *>(p.in.maxima) + place.expert;
        raise(maximum, largest_activation<64>(sums, read_maximum(maximum)));
    }
}

} // namespace

Status listed_experts(const CudaContext & context, const ExpertInputs & in, const ListedPairs & pairs) {
    count_tiles(context.stream, pairs.offsets, in.experts, 1, tile, pairs.first_tiles);
    GNV_ASSIGN(const CUtensorMap gate, tensor_map({in.gate, in.experts, in.columns, in.k, 2}, columns_at_once));
    GNV_ASSIGN(const CUtensorMap up, tensor_map({in.up, in.experts, in.columns, in.k, 2}, columns_at_once));
    const cudaError_t error =
        cudaFuncSetAttribute(listed_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, memory_bytes);
    if (error != cudaSuccess) return fail(Code::device, "expert_inputs: ", cudaGetErrorString(error));
    listed_kernel<<<unsigned(context.processors), 3 * group_threads, memory_bytes, context.stream>>>(gate, up,
                                                                                                     {in, pairs});
    return launched("expert_inputs");
}

} // namespace gnv::cuda
