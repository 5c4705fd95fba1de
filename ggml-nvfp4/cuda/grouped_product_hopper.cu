// The products of all experts with Hopper's tensor cores, transposed: weights are the left operand and rows of x the right one,
// of which the tensor cores take any multiple of 16. An expert's rows are cut into tiles of nearly equal size, so that
// few products are of rows that do not exist.
//
//   a block: 256 rows of w x up to 192 rows of x (NVFP4: 128), one tile after another
//     group 0   fetches slices of 64 of k: the copy engine rows of w, its threads rows of x, which are gathered, and codes
//     others    two with 128 rows of w each (NVFP4: four with 64): multiply, then write the result while others multiply
//
// NVFP4 codes become BF16 in the registers of the group that multiplies: they are its left operand. While one group widens
// codes, others multiply.
#include "cuda/copy_engine.cuh"
#include "cuda/grouped_product.cuh"
#include "cuda/tensor_map.h"
#include "cuda/tiles.cuh"
#include "cuda/wgmma.cuh"
#include "cuda/widen.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int unit = 16; // rows of x
constexpr int columns_at_once = 256, slice = tile_columns, group_threads = 128;
constexpr int pieces = slice / 8, rows_at_once = group_threads / pieces; // of x, in pieces of 16 bytes
static_assert(rows_at_once == unit);

// Registers of a thread: in steps of 8, together as many as at the start of the kernel.
template <bool nvfp4>
struct Shape {
    static constexpr int units = nvfp4 ? 8 : 12, stages = nvfp4 ? 6 : 3, groups = 2;
    static constexpr int group_columns = columns_at_once / groups, blocks = group_columns / 64; // of 64 rows of w
    static constexpr int threads = (groups + 1) * group_threads;
    static constexpr int fetching_registers = 56, multiplying_registers = 224;
    static constexpr int buffered_units = 6, buffer_stride = group_columns + 8; // rows begin in different banks
};

template <bool nvfp4>
struct Stage;
template <>
struct Stage<false> {
    bf16 w[columns_at_once * slice], x[Shape<false>::units * unit * slice];
};
template <>
struct Stage<true> {
    bf16 x[Shape<true>::units * unit * slice];
    uint4 codes[columns_at_once][2]; // of a row: pieces change places in every other four rows
    uint4 scales[columns_at_once];   // of a row's four blocks, twice each, as factors of widened codes
};

template <bool nvfp4>
struct Memory {
    using S = Shape<nvfp4>;
    Stage<nvfp4> slices[S::stages];
    bf16 results[S::groups][S::buffered_units * unit * S::buffer_stride];
    Arrivals full[S::stages], empty[S::stages];
};
template <bool nvfp4>
constexpr int memory_bytes = int(sizeof(Memory<nvfp4>)) + tile_alignment;

// One tile of the result.
struct Part {
    int group, units, rows;
    int64_t first_row, first_column;
    __device__ Part(const GroupedProduct & p, const int32_t * first_tiles, int64_t index, int blocks_a_row) {
        const int tile = int(index / blocks_a_row);
        first_column = index % blocks_a_row * columns_at_once;
        group = stretch_of(first_tiles, p.groups, tile);
        const int at = tile - first_tiles[group], tiles = first_tiles[group + 1] - first_tiles[group];
        const int all = p.offsets[group + 1] - p.offsets[group];
        const int64_t all_units = (int64_t(all) + unit - 1) / unit;
        const int begin = int(all_units * at / tiles);
        units = int(all_units * (at + 1) / tiles) - begin;
        rows = min(units * unit, all - begin * unit);
        first_row = p.offsets[group] + int64_t(begin) * unit;
    }
};

// --- The group that fetches ------------------------------------------------------------------------------------------

// A thread's pieces of rows of x.
template <int units>
class Rows {
  public:
    __device__ Rows(const GroupedProduct & p, const Part & part)
        : x_(p.x + piece() * 8), k_(int(p.k)), rows_(part.rows), units_(part.units) {
#pragma unroll
        for (int i = 0; i < units; i++) {
            if (i >= units_) continue;
            const int64_t j = part.first_row + min(row(i), rows_ - 1);
            sources_[i] = uint32_t((p.rows ? int64_t(p.rows[j]) : j) * (p.k / 8));
        }
    }
    // Pieces behind the end of a row, and rows that do not exist, become zeros.
    __device__ void copy(bf16 * to, int at) const {
        const bool exists = at * slice + piece() * 8 < k_;
        const bf16 * const from = x_ + (exists ? at * slice : -piece() * 8);
#pragma unroll
        for (int i = 0; i < units; i++)
            if (i < units_)
                copy_16_bytes(to + piece_at(row(i), piece()), from + int64_t(sources_[i]) * 8,
                              exists && row(i) < rows_);
    }

  private:
    __device__ static int piece() { return int(threadIdx.x) % pieces; }
    __device__ static int row(int i) { return int(threadIdx.x) / pieces + i * rows_at_once; }
    const bf16 * const x_;
    const int k_, rows_, units_;
    uint32_t sources_[units]; // where rows begin, in pieces
};

// A thread's NVFP4 weights: of two rows, both pieces of a slice's codes, and the scales of its four blocks.
class Codes {
  public:
    __device__ Codes(const GroupedProduct & p, const Part & part) : k_(int(p.k)) {
        const int thread = int(threadIdx.x);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = thread + i * group_threads;
            exists_[i] = part.first_column + row < p.n;
            const int64_t first = (part.group * p.n + (exists_[i] ? part.first_column + row : 0)) * p.k;
            codes_[i] = p.codes + first / 2;
            block_scales_[i] = p.block_scales + first / 16;
        }
    }
    __device__ void read_scales(int at) {
#pragma unroll
        for (int i = 0; i < 2; i++)
            scales_[i] =
                exists_[i] && at * slice < k_ ? *reinterpret_cast<const uint32_t *>(block_scales_[i] + at * 4) : 0;
    }
    __device__ void copy(Stage<true> & to, int at) const {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = int(threadIdx.x) + i * group_threads;
#pragma unroll
            for (int piece = 0; piece < 2; piece++)
                copy_16_bytes(&to.codes[row][piece ^ row / 4 % 2], codes_[i] + at * (slice / 2) + piece * 16,
                              exists_[i]);
        }
    }
    __device__ void put_scales(Stage<true> & to) const {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const auto pair = [&](int block) {
                const __nv_bfloat162 both = large_scale_pair(uint8_t(scales_[i] >> (8 * block)));
                return *reinterpret_cast<const uint32_t *>(&both);
            };
            to.scales[int(threadIdx.x) + i * group_threads] = make_uint4(pair(0), pair(1), pair(2), pair(3));
        }
    }

  private:
    const int k_;
    bool exists_[2];
    const uint8_t *codes_[2], *block_scales_[2];
    uint32_t scales_[2];
};

template <bool nvfp4>
__device__ void fetch(const GroupedProduct & p, const int32_t * first_tiles, const CUtensorMap & w,
                      Memory<nvfp4> & memory, int slices, int blocks_a_row) {
    constexpr int stages = Shape<nvfp4>::stages;
    unsigned turn = 0; // slices of all tiles so far
    const int64_t count = int64_t(first_tiles[p.groups]) * blocks_a_row;
    for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
        const Part part(p, first_tiles, index, blocks_a_row);
        const Rows<Shape<nvfp4>::units> rows(p, part);
        Codes codes(p, part);
        if constexpr (nvfp4) codes.read_scales(0);
        for (int at = 0; at < slices; at++, turn++) {
            Stage<nvfp4> & stage = memory.slices[turn % stages];
            Arrivals & full = memory.full[turn % stages];
            wait_for(memory.empty[turn % stages], int(turn / stages) - 1);
            if constexpr (nvfp4) {
                codes.copy(stage, at);
            } else if (threadIdx.x == 0) {
                expect_bytes(full, int(sizeof stage.w));
                copy_box(stage.w, w, at * slice, int(part.first_column), part.group, full);
            }
            rows.copy(stage.x, at);
            arrive_with_copies(full);
            if constexpr (nvfp4) {
                codes.put_scales(stage);
                arrive(full);
                codes.read_scales(at + 1);
            }
        }
    }
    wait_for_copies<0>();
}

// --- The groups that multiply -----------------------------------------------------------------------------------------

__device__ inline void wait_for_group(int group) { asm volatile("bar.sync %0, 128;" ::"r"(group) : "memory"); }

// Of blocks of 64 rows of w; a group's own of the block's.
template <int units, bool nvfp4>
using Sums = float[Shape<nvfp4>::blocks][units * unit / 2];

template <int units>
__device__ void multiply_tile(Sums<units, false> & sums, const Memory<false> & memory, Arrivals * full,
                              Arrivals * empty, int group, int slices, unsigned & turn) {
    constexpr int stages = Shape<false>::stages;
    const auto release = [&](unsigned of) {
        if (threadIdx.x % warp_size == 0) arrive(empty[of % stages]);
    };
#pragma unroll 1
    for (int at = 0; at < slices; at++, turn++) {
        const Stage<false> & stage = memory.slices[turn % stages];
        wait_for(full[turn % stages], int(turn / stages));
        show_to_tensor_cores();
        const uint64_t a = tile_descriptor(stage.w + group * Shape<false>::group_columns * slice),
                       b = tile_descriptor(stage.x);
        begin_products();
#pragma unroll
        for (int k = 0; k < slice; k += 16)
#pragma unroll
            for (int i = 0; i < Shape<false>::blocks; i++)
                multiply_add(sums[i], from_column(from_row(a, i * 64), k), from_column(b, k));
        commit_products();
        if (at > 0) {
            wait_for_products<1>();
            release(turn - 1);
        }
    }
    wait_for_products<0>();
    release(turn - 1);
}

// Codes of rows `row` and row + 8 of a slice as left operands of its four products.
__device__ void widen_rows(uint32_t (&a)[4][4], const Stage<true> & stage, int row, int lane) {
    const int byte = lane % 4;
#pragma unroll
    for (int i = 0; i < 2; i++, row += 8) {
        const uint4 scales = stage.scales[row];
        const uint32_t factors[4] = {scales.x, scales.y, scales.z, scales.w};
#pragma unroll
        for (int piece = 0; piece < 2; piece++) {
            // This lane's codes: one byte, two neighbours, of each word.
            const uint4 words = stage.codes[row][piece ^ row / 4 % 2];
            const uint32_t bytes = __byte_perm(__byte_perm(words.x, words.y, byte | (byte + 4) << 4),
                                               __byte_perm(words.z, words.w, byte | (byte + 4) << 4), 0x5410);
            const uint32_t second = bytes >> 4;
#pragma unroll
            for (int word = 0; word < 4; word++) {
                const uint32_t pair = __byte_perm(bytes, second, 0x4000 | (word + 4) << 8 | word);
                const uint32_t magnitude = pair << 6 & 0x01c001c0, sign = pair << 12 & 0x80008000;
                const uint32_t value = magnitude | sign;
                const __nv_bfloat162 scaled =
                    __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&value),
                            *reinterpret_cast<const __nv_bfloat162 *>(&factors[piece * 2 + word / 2]));
                a[piece * 2 + word / 2][word % 2 * 2 + i] = *reinterpret_cast<const uint32_t *>(&scaled);
            }
        }
    }
}

template <int units>
__device__ void multiply_tile(Sums<units, true> & sums, const Memory<true> & memory, Arrivals * full, Arrivals * empty,
                              int group, int slices, unsigned & turn) {
    constexpr int stages = Shape<true>::stages;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size % 4;
    const auto release = [&](unsigned of) {
        if (lane == 0) arrive(empty[of % stages]);
    };
    const auto widen = [&](uint32_t(&a)[4][4], const Stage<true> & stage, int block) {
        widen_rows(a, stage, group * Shape<true>::group_columns + block * 64 + warp * 16 + lane / 4, lane);
    };
    const auto multiply = [&](float(&sums)[units * unit / 2], const uint32_t(&a)[4][4], const Stage<true> & stage) {
        const uint64_t b = tile_descriptor(stage.x);
        begin_products();
#pragma unroll
        for (int k = 0; k < slice; k += 16) multiply_add_rows(sums, a[k / 16], from_column(b, k));
        commit_products();
    };
    uint32_t first[4][4], second[4][4];
    wait_for(full[turn % stages], int(turn / stages));
    widen(first, memory.slices[turn % stages], 0);
#pragma unroll 1
    for (int at = 0; at < slices; at++, turn++) {
        const Stage<true> & stage = memory.slices[turn % stages];
        show_to_tensor_cores();
        multiply(sums[0], first, stage);
        widen(second, stage, 1);
        multiply(sums[1], second, stage);
        wait_for_products<1>();
        if (at + 1 < slices) {
            wait_for(full[(turn + 1) % stages], int((turn + 1) / stages));
            widen(first, memory.slices[(turn + 1) % stages], 0);
        }
        wait_for_products<0>();
        release(turn);
    }
}

// Writes a group's part of a tile by way of shared memory: 16 bytes a thread, of one row of the result.
template <int units, bool nvfp4>
__device__ void write_tile(const GroupedProduct & p, const Part & part, const Sums<units, nvfp4> & sums, float factor,
                           int group, bf16 * buffer) {
    using S = Shape<nvfp4>;
    constexpr int row_threads = S::group_columns / 8, stride = S::buffer_stride;
    const int thread = threadIdx.x % group_threads, lane = thread % warp_size, warp = thread / warp_size;
    const int column = thread % row_threads * 8;
    const int64_t first_column = part.first_column + group * S::group_columns + column, columns = p.n - first_column;
#pragma unroll
    for (int first = 0; first < units; first += S::buffered_units) {
        wait_for_group(group + 1); // what was there is read
#pragma unroll
        for (int u = first; u < min(units, first + S::buffered_units); u++)
#pragma unroll
            for (int i = 0; i < S::blocks; i++) {
                const auto pair = [&](int at) {
                    const float * const from = sums[i] + u * 8 + at * 2;
                    return pair_of(from[0] * factor, from[1] * factor);
                };
                store_matrices_transposed(buffer + ((u - first) * unit + lane % 8 + lane / 16 * 8) * stride + i * 64 +
                                              warp * 16 + lane / 8 % 2 * 8,
                                          pair(0), pair(1), pair(2), pair(3));
            }
        wait_for_group(group + 1);
        const int rows = min(part.rows - first * unit, S::buffered_units * unit);
        bf16 * const out = p.out + (part.first_row + first * unit) * p.n + first_column;
        for (int row = thread / row_threads; row < rows; row += group_threads / row_threads) {
            const bf16 * const from = buffer + row * stride + column;
            bf16 * const to = out + row * p.n;
            if (p.n % 8 == 0 && columns > 0) {
                *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
            } else {
                for (int c = 0; c < 8 && c < columns; c++) to[c] = from[c];
            }
        }
    }
}

template <int units, bool nvfp4>
__device__ void make_tile(const GroupedProduct & p, const Part & part, Memory<nvfp4> & memory, int group, int slices,
                          unsigned & turn) {
    Sums<units, nvfp4> sums = {};
    multiply_tile<units>(sums, memory, memory.full, memory.empty, group, slices, turn);
    const float * const global = nvfp4 ? p.global_scales + part.group / p.experts_a_global_scale : nullptr;
    const float factor =
        factor_of(global, p.input_scales ? p.input_scales + part.group : nullptr) * (nvfp4 ? small_factor : 1.0f);
    write_tile<units, nvfp4>(p, part, sums, factor, group, memory.results[group]);
}

template <bool nvfp4>
__device__ void make_any_tile(const GroupedProduct & p, const Part & part, Memory<nvfp4> & memory, int group,
                              int slices, unsigned & turn) {
    switch (part.units) {
    case 1: return make_tile<1>(p, part, memory, group, slices, turn);
    case 2: return make_tile<2>(p, part, memory, group, slices, turn);
    case 3: return make_tile<3>(p, part, memory, group, slices, turn);
    case 4: return make_tile<4>(p, part, memory, group, slices, turn);
    case 5: return make_tile<5>(p, part, memory, group, slices, turn);
    case 6: return make_tile<6>(p, part, memory, group, slices, turn);
    case 7: return make_tile<7>(p, part, memory, group, slices, turn);
    case 8: return make_tile<8>(p, part, memory, group, slices, turn);
    }
    if constexpr (!nvfp4) {
        switch (part.units) {
        case 9: return make_tile<9>(p, part, memory, group, slices, turn);
        case 10: return make_tile<10>(p, part, memory, group, slices, turn);
        case 11: return make_tile<11>(p, part, memory, group, slices, turn);
        default: return make_tile<12>(p, part, memory, group, slices, turn);
        }
    }
}

template <bool nvfp4>
__global__ void __launch_bounds__(Shape<nvfp4>::threads, 1)
    kernel(const __grid_constant__ CUtensorMap w, GroupedProduct p, const int32_t * first_tiles) {
    extern __shared__ unsigned char unaligned[];
    auto & memory = *static_cast<Memory<nvfp4> *>(aligned_tiles(unaligned));
    if (threadIdx.x == 0) {
        for (int s = 0; s < Shape<nvfp4>::stages; s++) {
            start_arrivals(memory.full[s], nvfp4 ? 2 * group_threads : group_threads + 1);
            start_arrivals(memory.empty[s], 4 * Shape<nvfp4>::groups); // warps that multiply
        }
        show_barriers();
    }
    __syncthreads();
    const int slices = int((p.k + slice - 1) / slice),
              blocks_a_row = int((p.n + columns_at_once - 1) / columns_at_once);
    const int warpgroup = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0); // known to be one for the warp
    if (warpgroup == 0) {
        give_registers<Shape<nvfp4>::fetching_registers>();
        fetch<nvfp4>(p, first_tiles, w, memory, slices, blocks_a_row);
    } else {
        take_registers<Shape<nvfp4>::multiplying_registers>();
        unsigned turn = 0;
        const int64_t count = int64_t(first_tiles[p.groups]) * blocks_a_row;
        for (int64_t index = blockIdx.x; index < count; index += gridDim.x)
            make_any_tile<nvfp4>(p, Part(p, first_tiles, index, blocks_a_row), memory, warpgroup - 1, slices, turn);
    }
}

template <bool nvfp4>
Status launch(const CudaContext & context, const GroupedProduct & product, int32_t * first_tiles) {
    constexpr int rows = Shape<nvfp4>::units * unit;
    count_tiles(context.stream, product.offsets, product.groups, 1, rows, first_tiles);
    CUtensorMap w = {};
    if constexpr (!nvfp4) {
        GNV_ASSIGN(w, tensor_map({product.w, product.groups, product.n, product.k, 2}, columns_at_once));
    }
    const cudaError_t error =
        cudaFuncSetAttribute(kernel<nvfp4>, cudaFuncAttributeMaxDynamicSharedMemorySize, memory_bytes<nvfp4>);
    if (error != cudaSuccess) return fail(Code::device, "grouped_linear: ", cudaGetErrorString(error));
    // A tile more for each group than full ones can be needed, but none for a group without rows.
    const int64_t tiles = product.slots / rows + std::min<int64_t>(product.groups, product.slots);
    const int64_t blocks = std::min<int64_t>(context.processors, tiles * blocks_for(product.n, columns_at_once));
    kernel<nvfp4>
        <<<unsigned(blocks), Shape<nvfp4>::threads, memory_bytes<nvfp4>, context.stream>>>(w, product, first_tiles);
    return launched("grouped_linear");
}

} // namespace

Status grouped_product_hopper(const CudaContext & context, const GroupedProduct & product, int32_t * first_tiles) {
    return product.w ? launch<false>(context, product, first_tiles) : launch<true>(context, product, first_tiles);
}

} // namespace gnv::cuda
