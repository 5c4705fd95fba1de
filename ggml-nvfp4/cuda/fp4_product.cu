#include "cuda/fp4_product.h"

#include "codec/scale_tiles.h"
#include "cuda/widen.cuh"

namespace gnv::cuda {

namespace {

using nvfp4::scale_tile_blocks, nvfp4::scale_tile_bytes, nvfp4::scale_tile_offset, nvfp4::scale_tile_rows,
    nvfp4::scale_tiles_across;

// Places of tiles, which a thread each fills: `row` and `block` may be beyond the matrix.
struct Place {
    int64_t row, block;
};
__device__ Place place_of(int64_t i, int64_t blocks) {
    const int64_t across = scale_tiles_across(blocks) * scale_tile_blocks;
    return {i / across, i % across};
}

__global__ void tile_kernel(const uint8_t * scales, int64_t rows, int64_t blocks, int64_t count, uint8_t * tiles) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
        const Place at = place_of(i, blocks);
        const bool exists = at.row < rows && at.block < blocks;
        tiles[scale_tile_offset(blocks, at.row, at.block)] = exists ? scales[at.row * blocks + at.block] : 0;
    }
}

// As nearest_value() of widen.cuh, as a code.
__device__ uint32_t code_of(float x, bool negative) {
    const int size =
        !(x <= 0.25f) + !(x < 0.75f) + !(x <= 1.25f) + !(x < 1.75f) + !(x <= 2.5f) + !(x < 3.5f) + !(x <= 5);
    return uint32_t(size) | (negative ? 8 : 0);
}

// A block of 16 a thread.
__global__ void pack_kernel(const bf16 * x, int64_t rows, int64_t blocks, int64_t count, const float * input_scale,
                            uint2 * codes, uint8_t * tiles) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
        const Place at = place_of(i, blocks);
        __nv_fp8_e4m3 byte(0.0f);
        if (at.row < rows && at.block < blocks) {
            float values[16], largest = 0;
            for (int half = 0; half < 2; half++) {
                float eight[8];
                load_several<8>(x + (at.row * blocks + at.block) * 16 + half * 8, eight);
                for (int j = 0; j < 8; j++) values[half * 8 + j] = eight[j];
            }
            for (const float value : values) largest = fmaxf(largest, fabsf(value));
            byte = __nv_fp8_e4m3(__fdiv_rn(__fmul_rn(*input_scale, largest), 6.0f)); // saturating, to nearest even
            const float scale = float(byte);
            uint32_t words[2] = {};
            for (int j = 0; j < 16; j++) {
                const float size = scale > 0 ? fabsf(__fdiv_rn(__fmul_rn(values[j], *input_scale), scale)) : 0.0f;
                words[j / 8] |= code_of(size, signbit(values[j])) << (j % 8 * 4);
            }
            codes[at.row * blocks + at.block] = make_uint2(words[0], words[1]);
        }
        tiles[scale_tile_offset(blocks, at.row, at.block)] = byte.__x;
    }
}

} // namespace

Status tile_scales(cudaStream_t stream, const uint8_t * scales, int64_t rows, int64_t blocks, uint8_t * tiles) {
    const int64_t count = scale_tile_bytes(rows, blocks);
    tile_kernel<<<grid_for(count), 256, 0, stream>>>(scales, rows, blocks, count, tiles);
    return launched("tiles of block scales");
}

Status pack_inputs(cudaStream_t stream, const void * x, int64_t rows, int64_t columns, const float * input_scale,
                   uint8_t * codes, uint8_t * tiles) {
    const int64_t blocks = columns / 16, count = scale_tile_bytes(rows, blocks);
    pack_kernel<<<grid_for(count), 256, 0, stream>>>(static_cast<const bf16 *>(x), rows, blocks, count, input_scale,
                                                     reinterpret_cast<uint2 *>(codes), tiles);
    return launched("packing inputs");
}

} // namespace gnv::cuda
