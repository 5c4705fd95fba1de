// Operands of W4A4 products on FP4 tensor cores (compute capability 10.x and 12.x), as cuBLASLt reads them (gemm_lt.h).
#pragma once

#include "core/status.h"

#include <cstdint>
#include <cuda_runtime.h>

namespace gnv::cuda {

// Scales [rows, blocks] in the order of codec/scale_tiles.h; zeros where a tile has no row or block.
Status tile_scales(cudaStream_t stream, const uint8_t * scales, int64_t rows, int64_t blocks, uint8_t * tiles);

// Inputs of a W4A4 product (LinearParams in graph/ops.h): BF16 [rows, columns] as codes, two a byte, the first in the low bits,
// and block scales in tiles. All aligned to 16; columns is a multiple of 16.
Status pack_inputs(cudaStream_t stream, const void * x, int64_t rows, int64_t columns, const float * input_scale,
                   uint8_t * codes, uint8_t * tiles);

} // namespace gnv::cuda
