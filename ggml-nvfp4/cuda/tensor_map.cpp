#include "cuda/tensor_map.h"

#include <algorithm>
#include <cuda_runtime.h>

namespace gnv::cuda {

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver's function, found through the runtime: programs start without a driver.
static Encode find_encode() {
    void * function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
}

// Matrices whose rows and which themselves lie so many bytes apart.
static Result<CUtensorMap> encoded(const Matrices & matrices, int64_t row_bytes, int64_t matrix_bytes, int box_rows,
                                   int box_count) {
    const Encode encode = find_encode();
    if (!encode) return Status(Code::device, "the driver has no cuTensorMapEncodeTiled: update it");
    const int bytes = matrices.element_bytes;
    const cuuint64_t sizes[] = {cuuint64_t(matrices.columns), cuuint64_t(matrices.rows), cuuint64_t(matrices.count)};
    const cuuint64_t strides[] = {cuuint64_t(row_bytes), cuuint64_t(matrix_bytes)};
    const cuuint32_t box[] = {cuuint32_t(128 / bytes), cuuint32_t(box_rows), cuuint32_t(box_count)};
    const cuuint32_t steps[] = {1, 1, 1};
    CUtensorMap map;
    const CUresult status =
        encode(&map, bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
               const_cast<void *>(matrices.data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS)
        return fail(Code::device, "a tensor map of ", matrices.count, " x ", matrices.rows, " x ", matrices.columns,
                    " failed with ", int(status));
    return Result<CUtensorMap>(map);
}

Result<CUtensorMap> tensor_map(const Matrices & matrices, int box_rows) {
    const int64_t row_bytes = matrices.columns * matrices.element_bytes;
    return encoded(matrices, row_bytes, matrices.rows * row_bytes, box_rows, 1);
}

Result<CUtensorMap> wide_tensor_map(const void * data, int64_t rows, int64_t columns, int box_rows, int box_columns) {
    constexpr int tile = 64, bytes = 2; // columns of a tile; of an element
    return encoded({data, columns / tile, rows, tile, bytes}, columns * bytes, tile * bytes, box_rows,
                   box_columns / tile);
}

} // namespace gnv::cuda
