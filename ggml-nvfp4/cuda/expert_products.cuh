// Gate and up products of every row with every expert on Hopper (compute capability 9.0), for an epilogue that finds
// both sums of a column in the registers of one thread.
//
//   a cluster: two blocks, one below the other, which share their weights: each fetches half of them for both
//   a block:   128 rows x (128 columns of gate and the same of up), one tile after another
//     warpgroup 0     one thread has the copy engine fetch slices of 128 bytes of k, four ahead
//     warpgroups 1, 2 64 rows each: multiply, then run the epilogue while the other multiplies
//
// Sums run over k in steps of 32 bytes, in the order of k: a row's bits depend on nothing but that row and the weights.
#pragma once

#include "cuda/copy_engine.cuh"
#include "cuda/wgmma.cuh"

namespace gnv::cuda::hopper {

// x [rows, k] and, of each expert, gate and up [columns, k]. Sums of float: BF16 elements; of int: integers of 8 bits.
struct ExpertProducts {
    int64_t rows;
    int experts, columns;
    int slices; // of 128 bytes of k
};

constexpr int product_tile = 128; // rows of a block, and columns of gate
constexpr int product_stages = 4, product_threads = 384;

struct ProductStage {
    uint8_t x[product_tile][128];
    uint8_t w[2][product_tile][128]; // gate, up
};
constexpr int product_epilogue_bytes = 8192; // of both warpgroups
struct ProductMemory {
    ProductStage stages[product_stages];
    uint8_t epilogue[2][product_epilogue_bytes / 2];
    Arrivals full[product_stages], empty[product_stages];
};
constexpr int product_memory_bytes = int(sizeof(ProductMemory)) + tile_alignment;

// A warp's part of a tile: 16 rows from `row` on, columns [column, column + 128) of `expert`.
struct ProductPlace {
    int expert, column;
    int64_t row;
};

// The order of tiles: a range of rows stays in the L2 cache while all weights pass by.
class ProductOrder {
  public:
    __device__ explicit ProductOrder(const ExpertProducts & p)
        : pairs_(int((p.rows + 2 * product_tile - 1) / (2 * product_tile))),
          columns_((p.columns + product_tile - 1) / product_tile), of_pair_(columns_ * p.experts) {}
    __device__ int count() const { return pairs_ * of_pair_; } // of a cluster's two blocks
    // Rows and columns of the tile of block `rank`.
    __device__ ProductPlace at(int index, int rank) const {
        constexpr int at_once = 8;
        const int range = index / (at_once * of_pair_), in_range = index - range * at_once * of_pair_;
        const int here = min(at_once, pairs_ - range * at_once), turn = in_range / here;
        const int pair = range * at_once + in_range % here;
        return {turn / columns_, turn % columns_ * product_tile, int64_t(pair * 2 + rank) * product_tile};
    }

  private:
    int pairs_, columns_, of_pair_;
};

template <class Sum>
constexpr int slice_elements = sizeof(Sum) == 4 && Sum(0.5f) != 0 ? 64 : 128; // BF16, or integers

// Epilogue: `Epilogue::Tile tile(epilogue, place, memory)` before the products of a tile, `tile.finish(sums)` after
// them, by all threads of a warpgroup. sums[4 * j + i] is of gate, sums[64 + 4 * j + i] of up: cuda/wgmma.cuh has the
// layout.
template <class Sum, class Epilogue>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(product_threads, 1)
    expert_products_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap gate,
                           const __grid_constant__ CUtensorMap up, ExpertProducts p, Epilogue epilogue) {
    extern __shared__ unsigned char unaligned[];
    ProductMemory & memory = *static_cast<ProductMemory *>(aligned_tiles(unaligned));
    const int rank = rank_in_cluster(), warpgroup = threadIdx.x / 128, lane = threadIdx.x % warp_size;
    constexpr int consuming_warps = 8, blocks = 2;
    if (threadIdx.x == 0) {
        for (int s = 0; s < product_stages; s++) {
            start_arrivals(memory.full[s], 1);
            start_arrivals(memory.empty[s], consuming_warps * blocks);
        }
        show_barriers();
    }
    wait_for_cluster();
    const ProductOrder order(p);
    const int tiles = order.count(), first = int(blockIdx.x) / blocks, step = int(gridDim.x) / blocks;
    unsigned turn = 0; // slices of all tiles so far
    if (warpgroup == 0) {
        give_registers<40>();
        if (threadIdx.x == 0) {
            for (int index = first; index < tiles; index += step) {
                const ProductPlace place = order.at(index, rank);
                for (int slice = 0; slice < p.slices; slice++, turn++) {
                    ProductStage & stage = memory.stages[turn % product_stages];
                    Arrivals & full = memory.full[turn % product_stages];
                    wait_for(memory.empty[turn % product_stages], int(turn / product_stages) - 1);
                    expect_bytes(full, int(sizeof(ProductStage)));
                    const int k = slice * slice_elements<Sum>;
                    copy_box(stage.x, x, k, int(place.row), 0, full);
                    copy_box_to(stage.w[rank], rank == 0 ? gate : up, k, place.column, place.expert, full, 3);
                }
            }
        }
        __syncwarp();
    } else {
        take_registers<232>();
        Sum sums[128];
        const int warp = threadIdx.x % 128 / warp_size, half = warpgroup - 1;
        for (int index = first; index < tiles; index += step) {
            ProductPlace place = order.at(index, rank);
            place.row += half * 64 + warp * 16;
            typename Epilogue::Tile tile(epilogue, place, memory.epilogue[half]);
            const auto release = [&](unsigned of) {
                if (lane < blocks) arrive_in_block(memory.empty[of % product_stages], lane);
            };
            for (int slice = 0; slice < p.slices; slice++, turn++) {
                const ProductStage & stage = memory.stages[turn % product_stages];
                wait_for(memory.full[turn % product_stages], int(turn / product_stages));
                const uint64_t a = tile_descriptor(reinterpret_cast<const bf16 *>(stage.x[half * 64])),
                               b = tile_descriptor(reinterpret_cast<const bf16 *>(stage.w));
                begin_products();
#pragma unroll
                for (int bytes = 0; bytes < 128; bytes += 32)
                    multiply_wide(sums, a + (bytes >> 4), b + (bytes >> 4), slice > 0 || bytes > 0);
                commit_products();
                if (slice > 0) {
                    wait_for_products<1>();
                    release(turn - 1);
                }
            }
            wait_for_products<0>();
            release(turn - 1);
            tile.finish(sums);
        }
    }
    wait_for_cluster(); // the other block may still arrive here
}

// Persistent blocks.
template <class Sum, class Epilogue>
cudaError_t multiply_experts(cudaStream_t stream, int processors, const CUtensorMap & x, const CUtensorMap & gate,
                             const CUtensorMap & up, const ExpertProducts & products, const Epilogue & epilogue) {
    const auto kernel = expert_products_kernel<Sum, Epilogue>;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, product_memory_bytes);
    if (error != cudaSuccess) return error;
    kernel<<<unsigned(processors / 2 * 2), product_threads, product_memory_bytes, stream>>>(x, gate, up, products,
                                                                                            epilogue);
    return cudaGetLastError();
}

} // namespace gnv::cuda::hopper
