// What the kernels of quantizers that weigh errors by second moments work on (quant/quantizers/moments.h, quant/quantizers/moment_search.cpp are
// their twins). All arithmetic is that of the CPU, operation by operation: every element of a sum belongs to one thread, which
// adds in the CPU's order, and nothing is contracted (--fmad=false).
#pragma once

#include <cstdint>
#include <cuda_runtime.h>
#include <span>

namespace gnv::cuda {

inline constexpr int tile_rows = 128;   // of weights, a thread a row
inline constexpr int factor_panel = 32; // rows that a step of the factorization finishes

enum MomentFlags : uint32_t {
    own_not_finite = 1,
    held_not_finite = 2,
    layer_not_finite = 4,
    local_not_finite = 8,
    not_factored = 16,
    held_not_zero = 32,
};

// One unit, in device memory. Columns are in the order of visits; panels are the columns of each block: [blocks][rows][16].
struct MomentUnit {
    int32_t columns;
    bool is_full;                    // of totals: [K][K], else [K / 16][16][16]
    bool is_factored;                // wanted: the factorization of this attempt
    const float *own, *held, *layer; // totals; null: none
    double own_share, layer_share, mean, damping;
    const int32_t * order;
    uint32_t * flags;
    float * diagonals;                                           // of totals: [2][K], own and layer
    double *matrix, *rows;                                       // [K][K]; [factor_panel][K]
    float *local, *local_upper, *local_inverse, *local_diagonal; // [blocks][16][16], [K]
    float *full, *upper, *diagonal; // [blocks][K][16]; [16 p + 16][16] of each block p; [K]
    float * held_panels;            // [blocks][K][16], or [blocks][16][16]
    bool has_full, has_local, is_judged;

    __host__ __device__ int blocks() const { return columns / 16; }
    __device__ int column_of(int visited) const { return order[visited / 16] * 16 + visited % 16; }
    __device__ double element(const float * total, int i, int j) const {
        return double(is_full ? total[int64_t(i) * columns + j] : total[int64_t(i) * 16 + j % 16]);
    }
    // H of visited columns, without damping.
    __device__ double at(int visited_i, int visited_j) const {
        const int i = column_of(visited_i), j = column_of(visited_j);
        double sum = 0;
        if (own_share > 0) sum += own_share * element(own, i, j);
        if (layer_share > 0) sum += layer_share * element(layer, i, j);
        return sum / mean;
    }
    __device__ const float * upper_of(int block) const { return upper + int64_t(block) * (block + 1) / 2 * 256; }
};

// Rows of a module of a unit.
struct RowTile {
    uint32_t unit; // position
    int32_t rows;  // up to tile_rows
    const uint16_t * weights;
    uint8_t *codes, *scales; // of the first row
    float global;
    float *values, *differences,
        *products;       // [K][tile_rows], in the order of visits: w, w - v, and differences times moments
    uint2 * found_codes; // of an attempt: [blocks][tile_rows]
    uint8_t * found_scales;
    double *nearest, *errors;     // of rows, on inputs that were held back: of round-to-nearest, of the attempt
    uint8_t * state;              // of rows: RowState
    unsigned long long * choices; // of the module's rows: by method, judged, error_parts
};
enum RowState : uint8_t { row_done, row_open, row_won };

// --- Launches, each for all units or tiles of a batch.

struct MomentBatch {
    cudaStream_t stream;
    const MomentUnit * units; // on the device
    int count;
    int columns;
    bool is_full;
};
cudaError_t look_at_totals(const MomentBatch & batch); // finite? and the diagonals
cudaError_t make_panels(const MomentBatch & batch);    // local, held_panels
cudaError_t factor(const MomentBatch & batch); // full, upper, diagonal, and those of blocks, of units with is_factored

struct TileBatch {
    cudaStream_t stream;
    const MomentUnit * units;
    const RowTile * tiles; // on the device
    int count;
    int columns;
};
cudaError_t load_rows(const TileBatch & batch);    // values; all rows are open
cudaError_t take_nearest(const TileBatch & batch); // errors of what is packed already
// One rung of the ladder: rows that are open try `method` (codec/method_choices.h) and are packed if they win. The last rung,
// round-to-nearest, has nothing to pack.
cudaError_t try_method(const TileBatch & batch, int method);

} // namespace gnv::cuda
