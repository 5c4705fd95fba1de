// One task of gemm(): a tile of a result.
#pragma once

#include "cpu/gemm.h"

namespace gnv::cpu {

// For each stretch of k a tile's columns of the weight are packed, then its rows in blocks of panels; sums of earlier
// stretches wait in the result itself.
constexpr int64_t gemm_tile_rows = 1008, gemm_tile_columns = 512; // at most

// Where one thread packs stretches of at most `depth` steps of k.
struct TileBuffers {
    static int64_t floats(int64_t depth);
    TileBuffers(void * scratch, int64_t depth, int thread);

    float *weight, *a; // F32 numbers or pairs
    float * wide;      // the end of `a`
    float *result, *quantized;
};

struct TileEdges {
    int64_t row, row_end, column, column_end;
};

void run_tile(const GemmProblem & problem, const GemmKernels & kernels, const TileBuffers & buffers,
              const TileEdges & edges);

} // namespace gnv::cpu
