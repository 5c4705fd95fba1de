// Experts have few rows each, too few to fill a device one after another: here blocks of 128 x 128 of all of them run
// at once, with mma.sync, and rows are gathered as they are loaded.
//
//   a block: 4 warps x (64 rows x 64 columns); slices of 64 of k come through shared memory, three at a time
//
// BF16 weights are copied to shared memory asynchronously, two slices ahead. NVFP4 weights are read into registers
// before the products of a slice and written to shared memory as BF16 after them, so that the products hide the reads.
#include "cuda/grouped_product.cuh"
#include "cuda/mma.cuh"
#include "cuda/tiles.cuh"
#include "cuda/widen.cuh"

namespace gnv::cuda {

namespace {

constexpr int tile = grouped_product_rows, slice = 64, stages = 3, threads = 128;
constexpr int pieces = slice / 8;              // of 16 bytes, in a row of a slice
constexpr int rows_at_once = threads / pieces; // that all threads copy together
constexpr int warp_rows = 64, warp_columns = 64;

struct Stage {
    bf16 x[tile * slice], w[tile * slice];
};

// Where a piece of a row is: eight rows' pieces of the same number lie in different banks.
__device__ int piece_at(int row, int piece) { return row * slice + (piece ^ row % 8) * 8; }

template <bool nvfp4>
__global__ void __launch_bounds__(threads, 2) grouped_product_kernel(GroupedProduct p, const int32_t * first_tiles) {
    extern __shared__ __align__(128) unsigned char memory[];
    auto * const stage_memory = reinterpret_cast<Stage *>(memory);
    const unsigned blocks_a_row = unsigned((p.n + tile - 1) / tile);
    const int index = int(blockIdx.x / blocks_a_row);
    if (index >= first_tiles[p.groups]) return;
    const int group = stretch_of(first_tiles, p.groups, index);
    const int64_t first_row = p.offsets[group] + int64_t(index - first_tiles[group]) * tile;
    const int rows = int(min(int64_t(tile), p.offsets[group + 1] - first_row));
    const int64_t first_column = int64_t(blockIdx.x % blocks_a_row) * tile;
    const int columns = int(min(int64_t(tile), p.n - first_column));
    const int64_t first_weight = (group * p.n + first_column) * p.k; // element of w

    constexpr int copies = tile / rows_at_once; // of a thread, in a slice of either operand
    const int piece = threadIdx.x % pieces, copied_row = threadIdx.x / pieces;
    int64_t sources[copies]; // rows of x
#pragma unroll
    for (int i = 0; i < copies; i++) {
        const int64_t j = first_row + min(copied_row + i * rows_at_once, rows - 1);
        sources[i] = (p.rows ? int64_t(p.rows[j]) : j) * p.k;
    }
    const int slices = int((p.k + slice - 1) / slice);
    uint32_t codes[nvfp4 ? copies : 1]; // read, and not yet in shared memory
    uint8_t scales[nvfp4 ? copies : 1];
    const auto load = [&](int at) {
        Stage & stage = stage_memory[at % stages];
        const int64_t column = int64_t(at) * slice + piece * 8;
        const bool exists = column < p.k;
        const int64_t from = exists ? column : 0;
#pragma unroll
        for (int i = 0; i < copies; i++) {
            const int row = copied_row + i * rows_at_once;
            copy_16_bytes(stage.x + piece_at(row, piece), p.x + sources[i] + from, exists && row < rows);
            const int64_t weight = first_weight + min(row, columns - 1) * p.k + from;
            if constexpr (nvfp4) {
                const bool real = exists && row < columns;
                codes[i] = real ? *reinterpret_cast<const uint32_t *>(p.codes + weight / 2) : 0;
                scales[i] = real ? p.block_scales[weight / 16] : 0;
            } else {
                copy_16_bytes(stage.w + piece_at(row, piece), p.w + weight, exists && row < columns);
            }
        }
    };
    const auto put_weights = [&](int at) {
        if constexpr (nvfp4) {
            Stage & stage = stage_memory[at % stages];
#pragma unroll
            for (int i = 0; i < copies; i++)
                *reinterpret_cast<uint4 *>(stage.w + piece_at(copied_row + i * rows_at_once, piece)) =
                    widened(codes[i], scale_pair(scales[i]));
        }
    };
#pragma unroll
    for (int at = 0; at < stages - 1; at++) {
        if (at < slices) {
            load(at);
            put_weights(at);
        }
        commit_copies();
    }

    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int warp_row = warp / 2 * warp_rows, warp_column = warp % 2 * warp_columns;
    float sums[warp_rows / 16][warp_columns / 8][4] = {};
    for (int at = 0; at < slices; at++) {
        wait_for_copies<stages - 2>();
        __syncthreads(); // this slice has arrived; the one before it, which load() overwrites, is no longer read
        if (at + stages - 1 < slices) load(at + stages - 1);
        commit_copies();
        const Stage & stage = stage_memory[at % stages];
#pragma unroll
        for (int k = 0; k < pieces; k += 2) {
            uint32_t a[warp_rows / 16][4], b[warp_columns / 16][4];
#pragma unroll
            for (int i = 0; i < warp_rows / 16; i++)
                load_matrices(a[i], stage.x + piece_at(warp_row + i * 16 + lane % 16, k + lane / 16));
#pragma unroll
            for (int j = 0; j < warp_columns / 16; j++)
                load_matrices(b[j],
                              stage.w + piece_at(warp_column + j * 16 + lane % 8 + lane / 16 * 8, k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < warp_rows / 16; i++)
#pragma unroll
                for (int j = 0; j < warp_columns / 16; j++) {
                    multiply_add(sums[i][2 * j], a[i], b[j][0], b[j][1]);
                    multiply_add(sums[i][2 * j + 1], a[i], b[j][2], b[j][3]);
                }
        }
        if (at + stages - 1 < slices) put_weights(at + stages - 1);
    }
    const float * const global = nvfp4 ? p.global_scales + group / p.experts_a_global_scale : nullptr;
    const float factor = factor_of(global, p.input_scales ? p.input_scales + group : nullptr);
#pragma unroll
    for (int i = 0; i < warp_rows / 16; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = warp_row + i * 16 + half * 8 + lane / 4;
            if (row >= rows) continue;
            bf16 * const to = p.out + (first_row + row) * p.n + first_column;
#pragma unroll
            for (int j = 0; j < warp_columns / 8; j++) {
                const int column = warp_column + j * 8 + lane % 4 * 2;
                const float first = sums[i][j][2 * half] * factor, second = sums[i][j][2 * half + 1] * factor;
                if (p.n % 2 == 0 && column < columns) {
                    *reinterpret_cast<uint32_t *>(to + column) = pair_of(first, second);
                } else {
                    if (column < columns) to[column] = __float2bfloat16_rn(first);
                    if (column + 1 < columns) to[column + 1] = __float2bfloat16_rn(second);
                }
            }
        }
}

} // namespace

template <bool nvfp4>
static Status launch(cudaStream_t stream, const GroupedProduct & product, const int32_t * first_tiles, unsigned tiles) {
    constexpr int bytes = stages * int(sizeof(Stage));
    const auto kernel = grouped_product_kernel<nvfp4>;
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail(Code::device, "grouped_linear: ", cudaGetErrorString(error));
    kernel<<<blocks_for(product.n, tile) * tiles, threads, bytes, stream>>>(product, first_tiles);
    return launched("grouped_linear");
}

Status grouped_product(const CudaContext & context, const GroupedProduct & product, int32_t * first_tiles) {
#ifdef GNV_HAVE_HOPPER
    if (context.hopper && (product.w || product.k % 64 == 0))
        return grouped_product_hopper(context, product, first_tiles);
#endif
    count_tiles(context.stream, product.offsets, product.groups, 1, tile, first_tiles);
    // A tile more for each group than full ones can be needed, but none for a group without rows.
    const auto tiles = unsigned(product.slots / tile + std::min<int64_t>(product.groups, product.slots));
    return product.w ? launch<false>(context.stream, product, first_tiles, tiles)
                     : launch<true>(context.stream, product, first_tiles, tiles);
}

} // namespace gnv::cuda
