// What the chunked form of gated_delta_net knows of a chunk of one value head before its state is known
// (gated_delta_net_chunked.cu), for its two ways through the chunks.
#pragma once

#include "cuda/gated_delta_net.cuh"

namespace gnv::cuda {

// numbers_of() and split() of cuda/mma.cuh in fewer instructions: BF16 is the upper half of F32.
__device__ inline float2 wide_numbers(uint32_t pair) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000)};
}
__device__ inline uint32_t split_wide(float x, float y, uint32_t & rest) {
    const uint32_t pair = pair_of(x, y);
    const float2 kept = wide_numbers(pair);
    rest = pair_of(x - kept.x, y - kept.y);
    return pair;
}

constexpr int delta_head = 128, delta_chunk = 64;
constexpr int delta_blocks = delta_chunk / 16, delta_lower_blocks = delta_blocks * (delta_blocks + 1) / 2;

struct PositionFactors {
    float beta;  // of v in R
    float known; // of M^T k in R, k as it came: beta e / |k|
    float query; // of M^T q, q as it came: e / |q| / sqrt(128)
    float write; // of N in the state: d[last] / |k|
};

struct ChunkFactors {
    PositionFactors at[delta_chunk];
    float decay; // e[last]
    float unused[3];
};

// A lower triangular matrix [i, j] of F32 numbers in two BF16 parts, in 16 x 16 blocks, those above the diagonal left out.

// For each lane its part of the right operand [j, i] of a product of one warp. put(): two neighbours of row
// 16 * i + 8 * i_half + lane / 4, from column 16 * j + 8 * j_half + lane % 4 * 2 on.
struct LowerMatrix {
    uint4 blocks[delta_lower_blocks][2][warp_size];

    __host__ __device__ static constexpr int block_at(int i, int j) { return i * (i + 1) / 2 + j; }
    __device__ void put(int part, int i, int j, int i_half, int j_half, int lane, uint32_t pair) {
        reinterpret_cast<uint32_t *>(&blocks[block_at(i, j)][part][lane])[i_half * 2 + j_half] = pair;
    }
};

// Tiles of wgmma.cuh: rows 0 to 31 of both parts side by side, then rows 32 to 63 of each part. Above the diagonal blocks
// are zeros as far as those tiles have such.
struct LowerTiles {
    static constexpr int half = delta_chunk / 2, columns = 64;
    __nv_bfloat16 first[half * columns], last[2][half * columns];

    // A piece of 8 numbers of a row of 64, exchanged as in wgmma.cuh.
    __device__ static int piece_at(int row, int piece) { return row * columns + (piece ^ row % 8) * 8; }
    // Where columns from 16 * j + 8 * j_half on of row 16 * i + `row` are.
    __device__ __nv_bfloat16 * piece_of(int part, int i, int j, int row, int j_half) {
        const int piece = 2 * j + j_half;
        return i < 2 ? first + piece_at(16 * i + row, 4 * part + piece)
                     : last[part] + piece_at(16 * i + row - half, piece);
    }
    // By 128 threads.
    __device__ void clear(int thread) {
        const int piece = thread % 2, row = thread / 2 % 16, part = thread / 32 % 2;
        __nv_bfloat16 * const to =
            thread < 64 ? first + piece_at(row, 4 * part + 2 + piece) : last[part] + piece_at(row, 6 + piece);
        *reinterpret_cast<uint4 *>(to) = make_uint4(0, 0, 0, 0);
    }
};

template <class Matrix>
struct DeltaPlan {
    Matrix inverse, weights; // T, P
    ChunkFactors factors;
};
using LanePlan = DeltaPlan<LowerMatrix>;
using TilePlan = DeltaPlan<LowerTiles>;
static_assert(sizeof(LanePlan) % 16 == 0 && sizeof(TilePlan) % 16 == 0);

// Plans [chunks, value_heads] of at most so many chunks. first_chunks [segments + 1]: the chunks before each segment.
Status prepare_chunks(cudaStream_t stream, const Delta & d, const DeltaTensors & tensors, const int32_t * first_chunks,
                      int64_t most_chunks, LanePlan * plans);

// The same on compute capability 9.0, and the way through the chunks there.
Status prepare_chunks_hopper(CudaContext & context, const Delta & d, const DeltaTensors & tensors,
                             const int32_t * first_chunks, TilePlan * plans);
Status walk_chunks_hopper(CudaContext & context, const Delta & d, const DeltaTensors & tensors,
                          const int32_t * first_chunks, const TilePlan * plans);

} // namespace gnv::cuda
