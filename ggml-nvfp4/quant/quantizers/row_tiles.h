// What quantizers that search scales share: rows in tiles, and the scale of their units.
#pragma once

#include "codec/block_search.h"
#include "codec/nvfp4.h"
#include "quant/quantizers/quantizer.h"

#include <algorithm>

namespace gnv {

// Rows of the tile that begins at `row`.
inline int64_t tile_rows(const WeightRows & rows, int64_t row) {
    return std::min<int64_t>(search_rows, rows.rows - row);
}

// As F32; rows that there are not are zeros.
void load_tile(const WeightRows & rows, int64_t row, int64_t column, SearchTile & tile);

// The scale of a unit with room for larger block scales. Fails for a format that has none to search.
Result<UnitScale> searched_scale(const Format & format, DType source, const UnitMeasure & measure);

} // namespace gnv
