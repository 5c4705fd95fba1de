// The order of E4M3 block scales that block-scaled products on tensor cores read (cuBLASLt: "1D block scaling factors layout",
// VEC16_UE4M3), for matrices of blocks of 16 columns: tiles of 128 rows and 4 blocks, tile after tile along a row of tiles, of
// 512 bytes each. In a tile the scales of rows r, r + 32, r + 64 and r + 96 stand side by side, four blocks of each.
#pragma once

#include <cstdint>

namespace gnv::nvfp4 {

inline constexpr int64_t scale_tile_rows = 128, scale_tile_blocks = 4;

// Tiles in a row of them, for matrices of so many blocks.
constexpr int64_t scale_tiles_across(int64_t blocks) { return (blocks + scale_tile_blocks - 1) / scale_tile_blocks; }

// Of all scales of a matrix with `rows` rows of `blocks` blocks. Those beyond its rows and blocks must be zero.
constexpr int64_t scale_tile_bytes(int64_t rows, int64_t blocks) {
    return (rows + scale_tile_rows - 1) / scale_tile_rows * scale_tiles_across(blocks) * scale_tile_rows *
           scale_tile_blocks;
}

// Where the scale of a block of a row lies.
constexpr int64_t scale_tile_offset(int64_t blocks, int64_t row, int64_t block) {
    const int64_t tile = row / scale_tile_rows * scale_tiles_across(blocks) + block / scale_tile_blocks;
    const int64_t r = row % scale_tile_rows;
    return tile * scale_tile_rows * scale_tile_blocks + r % 32 * 16 + r / 32 * 4 + block % scale_tile_blocks;
}

} // namespace gnv::nvfp4
