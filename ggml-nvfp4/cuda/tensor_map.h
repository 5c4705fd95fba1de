// How the copy engine of compute capability 9.0 sees matrices in device memory (cuda/copy_engine.cuh).
#pragma once

#include "core/status.h"

#include <cstdint>
#include <cuda.h>

namespace gnv::cuda {

// Matrices of one shape, one behind the other, of elements with `element_bytes` bytes: 1 or 2. A row's bytes are a
// multiple of 16.
struct Matrices {
    const void * data;
    int64_t count, rows, columns;
    int element_bytes;
};

// For boxes of `box_rows` rows (at most 256) x 128 bytes of one matrix, as tiles of cuda/wgmma.cuh.
Result<CUtensorMap> tensor_map(const Matrices & matrices, int box_rows);
// The same of one matrix of BF16, for boxes of several tiles: `box_columns` / 64, one behind the other. To the copy engine each 64
// columns are a matrix of their own.
Result<CUtensorMap> wide_tensor_map(const void * data, int64_t rows, int64_t columns, int box_rows, int box_columns);

} // namespace gnv::cuda
