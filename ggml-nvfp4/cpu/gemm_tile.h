// One task of gemm(): a tile of a result.
#pragma once

#include "cpu/gemm.h"

namespace gnv::cpu {

// For each stretch of k a tile's columns of the weight are packed, then its rows in blocks of panels; as pairs first the rows,
// then groups of columns. Sums of earlier stretches wait in the result itself.
constexpr int64_t gemm_tile_rows = 1008, gemm_group_columns = 512; // at most
constexpr int64_t gemm_pair_tile_columns = 2 * gemm_group_columns; // whose rows are packed once
// Rows of `a` that are packed as pairs at a time: 512, those of a usual prompt, in panels of 14.
constexpr int64_t most_pair_rows = 37 * 14;
constexpr int64_t smallest_pair_panel = 4; // rows or columns

// The room of one thread: for stretches of at most `depth` steps of k and, as pairs, `rows` rows of `a` at least.
struct TileRoom {
    int64_t depth, rows;
    int64_t floats() const;
};

// The rows of `a` that a thread has packed as pairs, of which it may do several tiles.
struct PackedRows {
    const GemmProblem * problem = nullptr; // with these rows; null: no rows are there with all of k
    int64_t row = 0, row_end = 0;
    // See PairKernels. Of panels; the lowest of all stretches of k so far, as sums go on.
    int exponents[most_pair_rows / smallest_pair_panel];
};

// Where one thread packs.
struct TileBuffers {
    TileBuffers(void * scratch, const TileRoom & room, int thread, PackedRows & packed);

    float *weight, *a; // F32 numbers or pairs
    float * wide;      // the end of `a`
    float *result, *quantized;
    int64_t pair_rows; // for which there is room as pairs
    PackedRows & packed;
};

struct TileEdges {
    int64_t row, row_end, column, column_end;
};

void run_tile(const GemmProblem & problem, const GemmKernels & kernels, const TileBuffers & buffers,
              const TileEdges & edges);

} // namespace gnv::cpu
