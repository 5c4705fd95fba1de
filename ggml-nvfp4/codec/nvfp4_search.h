// Searches for block scales of NVFP4 at full speed on the CPU.
#pragma once

#include "codec/block_search.h"
#include "codec/format.h"

namespace gnv::nvfp4 {

// Of all E4M3 codes with metric squares; of those from 6 below to 9 above the code of the largest magnitude with the others.
// A block of zeros gets 0.125, as from the recipe. Ties: the code of the largest magnitude, then the nearest to it.
void search_block(InstructionSet set, BlockSearch & block, float global);
// Rows [row, row + rows) of columns [column, column + 16), to packed rows and from there.
void store_block(const BlockSearch & block, const PackedRows & out, int64_t row, int64_t rows, int64_t column);
void load_block(BlockSearch & block, const PackedRows & packed, int64_t row, int64_t rows, int64_t column);

} // namespace gnv::nvfp4
