// The products of all experts with Hopper's tensor cores: blocks of 128 x 128, two of them on a multiprocessor, so that one
// multiplies while the other waits for its slice.
//
//   a block: 4 warps, each 2 x 16 rows x 128 columns; slices of 64 of k come through shared memory, three at a time
//
// Rows of x are gathered, which the copy engine cannot do: threads copy them asynchronously, two slices ahead, and BF16 weights
// likewise. NVFP4 weights are read three slices ahead into registers and become BF16 in shared memory during the products of
// another slice.
#include "cuda/grouped_product.cuh"
#include "cuda/tiles.cuh"
#include "cuda/wgmma.cuh"
#include "cuda/widen.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int tile = grouped_product_rows, slice = tile_columns, stages = 3, threads = 128;
constexpr int half = 64;                       // rows of one product
constexpr int pieces = slice / 8;              // of 16 bytes, in a row of a slice
constexpr int rows_at_once = threads / pieces; // that all threads copy together
constexpr int copies = tile / rows_at_once;    // of a thread, in a slice
constexpr int quarters = slice / 16;           // of 16 weights, in a row of a slice
constexpr int weight_rows_at_once = threads / quarters, widenings = tile / weight_rows_at_once;

struct Stage {
    bf16 x[tile * slice], w[tile * slice];
};
constexpr int memory_bytes = stages * int(sizeof(Stage)) + tile_alignment;

// The block's part of the product.
struct Part {
    int group, rows, columns;
    int64_t first_row, first_column;
    __device__ Part(const GroupedProduct & p, const int32_t * first_tiles, int index, int64_t column)
        : group(stretch_of(first_tiles, p.groups, index)),
          first_row(p.offsets[group] + int64_t(index - first_tiles[group]) * tile), first_column(column) {
        rows = int(min(int64_t(tile), p.offsets[group + 1] - first_row));
        columns = int(min(int64_t(tile), p.n - first_column));
    }
    __device__ int64_t first_weight(const GroupedProduct & p) const { return (group * p.n + first_column) * p.k; }
};

// Copies pieces of rows into the tiles of stages.
class RowCopies {
  public:
    __device__ RowCopies(const GroupedProduct & p, const Part & part)
        : k_(int(p.k)), x_(p.x + piece() * 8), rows_(part.rows), columns_(part.columns) {
        if (p.w) w_ = p.w + part.first_weight(p) + row(0) * p.k + piece() * 8;
#pragma unroll
        for (int i = 0; i < copies; i++) {
            const int64_t j = part.first_row + min(row(i), rows_ - 1);
            sources_[i] = uint32_t((p.rows ? int64_t(p.rows[j]) : j) * (p.k / 8));
        }
    }
    // The pieces of slice `at`. Pieces behind the end of a row, and rows that do not exist, become zeros.
    __device__ void copy_x(bf16 * to, int at) const {
        const bool exists = at * slice + piece() * 8 < k_;
        const bf16 * const from = x_ + (exists ? at * slice : -piece() * 8);
#pragma unroll
        for (int i = 0; i < copies; i++)
            copy_16_bytes(to + piece_at(row(i), piece()), from + int64_t(sources_[i]) * 8, exists && row(i) < rows_);
    }
    __device__ void copy_w(bf16 * to, int at) const {
        const bool exists = at * slice + piece() * 8 < k_;
        const bf16 * const first = w_ + (exists ? at * slice : -piece() * 8);
        const bf16 * from = first;
#pragma unroll
        for (int i = 0; i < copies; i++, from += int64_t(rows_at_once) * k_) {
            const bool real = exists && row(i) < columns_;
            copy_16_bytes(to + piece_at(row(i), piece()), real ? from : first, real);
        }
    }

  private:
    __device__ static int piece() { return int(threadIdx.x) % pieces; }
    __device__ static int row(int i) { return int(threadIdx.x) / pieces + i * rows_at_once; }
    const int k_;
    const bf16 *const x_, *w_ = nullptr;
    const int rows_, columns_;
    uint32_t sources_[copies]; // where rows of x begin, in pieces
};

// A thread's NVFP4 weights of a slice, between the read and the write to shared memory.
class Codes {
  public:
    __device__ Codes(const GroupedProduct & p, const Part & part) : k_(int(p.k)), columns_(part.columns) {
        const int64_t first = part.first_weight(p) + row(0) * p.k + quarter() * 16;
        codes_ = p.codes + first / 2;
        block_scales_ = p.block_scales + first / 16;
    }
    // Slice `at`: slices are read in order.
    __device__ void read(int at) {
        const bool exists = at * slice + quarter() * 16 < k_;
#pragma unroll
        for (int i = 0; i < widenings; i++) {
            const bool real = exists && row(i) < columns_;
            const int64_t weight = int64_t(i * weight_rows_at_once) * k_;
            sixteen_[i] = real ? *reinterpret_cast<const uint2 *>(codes_ + weight / 2) : uint2{0, 0};
            scales_[i] = real ? block_scales_[weight / 16] : 0;
        }
        codes_ += slice / 2;
        block_scales_ += slice / 16;
    }
    __device__ void put(bf16 * to) const { // times 1 / small_factor
#pragma unroll
        for (int i = 0; i < widenings; i++) {
            const __nv_bfloat162 scale = large_scale_pair(scales_[i]);
            *reinterpret_cast<uint4 *>(to + piece_at(row(i), 2 * quarter())) = widened_small(sixteen_[i].x, scale);
            *reinterpret_cast<uint4 *>(to + piece_at(row(i), 2 * quarter() + 1)) = widened_small(sixteen_[i].y, scale);
        }
    }

  private:
    __device__ static int quarter() { return int(threadIdx.x) % quarters; }
    __device__ static int row(int i) { return int(threadIdx.x) / quarters + i * weight_rows_at_once; }
    const int k_, columns_;
    const uint8_t *codes_, *block_scales_;
    uint2 sixteen_[widenings];
    uint8_t scales_[widenings];
};

// 64 x 128 += 64 rows of x times 128 rows of w, of one slice.
__device__ void multiply_slice(float (&sums)[tile / 2], const bf16 * x, const bf16 * w) {
    const uint64_t a = tile_descriptor(x), b = tile_descriptor(w);
    begin_products();
#pragma unroll
    for (int k = 0; k < slice; k += 16) multiply_add(sums, from_column(a, k), from_column(b, k));
}

// Writes a warp's 16 rows of the result, by way of shared memory: 16 bytes a thread.
__device__ void write_rows(const GroupedProduct & p, const Part & part, const float (&sums)[tile / 2], float factor,
                           int row, bf16 * buffer) {
    constexpr int stride = tile + 8; // rows begin in different banks
    const int lane = threadIdx.x % warp_size;
#pragma unroll
    for (int j = 0; j < tile / 8; j++)
#pragma unroll
        for (int i = 0; i < 2; i++)
            *reinterpret_cast<uint32_t *>(buffer + (lane / 4 + i * 8) * stride + j * 8 + lane % 4 * 2) =
                pair_of(sums[j * 4 + i * 2] * factor, sums[j * 4 + i * 2 + 1] * factor);
    __syncwarp();
    const int column = lane % 16 * 8;
    for (int i = lane / 16; i < 16; i += 2) {
        if (row + i >= part.rows) break;
        const bf16 * const from = buffer + i * stride + column;
        bf16 * const to = p.out + (part.first_row + row + i) * p.n + part.first_column + column;
        if (p.n % 8 == 0 && column < part.columns) {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
        } else {
            for (int c = 0; c < 8 && column + c < part.columns; c++) to[c] = from[c];
        }
    }
    __syncwarp(); // before the next rows take the buffer
}

template <bool nvfp4>
__global__ void __launch_bounds__(threads, 2) kernel(GroupedProduct p, const int32_t * first_tiles) {
    extern __shared__ unsigned char memory[];
    auto * const stage_memory = static_cast<Stage *>(aligned_tiles(memory));
    const unsigned blocks_a_row = unsigned((p.n + tile - 1) / tile);
    const int index = int(blockIdx.x / blocks_a_row);
    if (index >= first_tiles[p.groups]) return;
    const Part part(p, first_tiles, index, int64_t(blockIdx.x % blocks_a_row) * tile);
    const RowCopies copied(p, part);
    Codes codes(p, part);
    const int slices = int((p.k + slice - 1) / slice);
    const auto stage_of = [&](int at) -> Stage & { return stage_memory[at % stages]; };
    const auto load = [&](int at) {
        if (at < slices) {
            copied.copy_x(stage_of(at).x, at);
            if constexpr (!nvfp4) copied.copy_w(stage_of(at).w, at);
        }
        commit_copies();
    };
    if constexpr (nvfp4) codes.read(0);
    for (int at = 0; at < stages - 1; at++) {
        load(at);
        if constexpr (nvfp4) {
            if (at < slices) codes.put(stage_of(at).w);
            codes.read(at + 1);
        }
    }
    const bool is_full = part.rows > half; // else the second half is nothing but zeros
    float low[tile / 2] = {}, high[tile / 2] = {};
    for (int at = 0; at < slices; at++) {
        wait_for_copies<stages - 2>();
        show_to_tensor_cores();
        __syncthreads(); // this slice is there; the one before it, which load() overwrites, is no longer read
        const Stage & stage = stage_of(at);
        multiply_slice(low, stage.x, stage.w);
        if (is_full) multiply_slice(high, stage.x + half * slice, stage.w);
        commit_products();
        load(at + stages - 1);
        if constexpr (nvfp4) {
            if (at + stages - 1 < slices) codes.put(stage_of(at + stages - 1).w);
            codes.read(at + stages);
        }
        wait_for_products<0>();
    }
    __syncthreads(); // slices are no longer read
    const float * const global = nvfp4 ? p.global_scales + part.group / p.experts_a_global_scale : nullptr;
    const float factor =
        factor_of(global, p.input_scales ? p.input_scales + part.group : nullptr) * (nvfp4 ? small_factor : 1.0f);
    const int warp = threadIdx.x / warp_size;
    bf16 * const buffer = reinterpret_cast<bf16 *>(stage_memory) + warp * 16 * (tile + 8);
    write_rows(p, part, low, factor, warp * 16, buffer);
    if (is_full) write_rows(p, part, high, factor, half + warp * 16, buffer);
}

template <bool nvfp4>
Status launch(cudaStream_t stream, const GroupedProduct & product, const int32_t * first_tiles, unsigned tiles) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel<nvfp4>, cudaFuncAttributeMaxDynamicSharedMemorySize, memory_bytes);
    if (error != cudaSuccess) return fail(Code::device, "grouped_linear: ", cudaGetErrorString(error));
    kernel<nvfp4><<<blocks_for(product.n, tile) * tiles, threads, memory_bytes, stream>>>(product, first_tiles);
    return launched("grouped_linear");
}

} // namespace

Status grouped_product_hopper(cudaStream_t stream, const GroupedProduct & product, const int32_t * first_tiles,
                              unsigned tiles) {
    return product.w ? launch<false>(stream, product, first_tiles, tiles)
                     : launch<true>(stream, product, first_tiles, tiles);
}

} // namespace gnv::cuda
