// Rows of weights, a thread each, quantized by the methods of quant/quantizers/moment_search.cpp: the same ladder of methods, the same
// arithmetic. Threads of a block are rows of one tile; they share the panels of moments that all rows are multiplied with.
#include "codec/method_choices.h"
#include "cuda/moment_work.cuh"
#include "cuda/nvfp4_search.cuh"

namespace gnv::cuda {

namespace {

constexpr int stage_rows = 32; // of a panel, in shared memory

// A tile's part for this thread.
struct Row {
    const MomentUnit & unit;
    const RowTile & tile;
    const int thread = int(threadIdx.x);

    __device__ Row(const MomentUnit * units, const RowTile * tiles)
        : unit(units[tiles[blockIdx.x].unit]), tile(tiles[blockIdx.x]) {}
    __device__ bool is_there() const { return thread < tile.rows; }
    __device__ bool is_open() const { return is_there() && tile.state[thread] == row_open; }
    __device__ void load(const float * columns, int block, float (&out)[16]) const {
#pragma unroll
        for (int k = 0; k < 16; k++) out[k] = columns[(int64_t(block) * 16 + k) * tile_rows + thread];
    }
    __device__ void store(float * columns, int block, const float (&values)[16]) const {
#pragma unroll
        for (int k = 0; k < 16; k++) columns[(int64_t(block) * 16 + k) * tile_rows + thread] = values[k];
    }
    // What an attempt found, and what it misses.
    __device__ void keep(int block, const BlockCodes & found, const float (&weights)[16],
                         const float (&values)[16]) const {
        float differences[16];
#pragma unroll
        for (int k = 0; k < 16; k++) differences[k] = weights[k] - values[k];
        store(tile.differences, block, differences);
        tile.found_codes[block * tile_rows + thread] = found.codes;
        tile.found_scales[block * tile_rows + thread] = uint8_t(found.scale);
    }
    __device__ BlockCodes found(int block) const {
        return {tile.found_codes[block * tile_rows + thread], tile.found_scales[block * tile_rows + thread]};
    }
};

// sums[k] += this thread's factor j * panel[j][k], j = 0 ... count - 1, in this order; count is a multiple of 16. All threads
// of the block take part. `factors` begins with factor 0 of the tile's first row.
__device__ void add_products(const float * factors, const float * panel, int count, float4 * stage, float (&sums)[16]) {
    for (int first = 0; first < count; first += stage_rows) {
        const int rows = min(stage_rows, count - first);
        __syncthreads();
        if (int(threadIdx.x) < rows * 4)
            stage[threadIdx.x] = reinterpret_cast<const float4 *>(panel + int64_t(first) * 16)[threadIdx.x];
        __syncthreads();
        constexpr int at_once = 8; // loads under way
        for (int j = 0; j < rows; j += at_once) {
            float some[at_once];
#pragma unroll
            for (int u = 0; u < at_once; u++) some[u] = factors[int64_t(first + j + u) * tile_rows + threadIdx.x];
#pragma unroll
            for (int u = 0; u < at_once; u++)
#pragma unroll
                for (int q = 0; q < 4; q++) {
                    const float4 four = stage[(j + u) * 4 + q];
                    sums[q * 4 + 0] += some[u] * four.x;
                    sums[q * 4 + 1] += some[u] * four.y;
                    sums[q * 4 + 2] += some[u] * four.z;
                    sums[q * 4 + 3] += some[u] * four.w;
                }
        }
    }
}

// To shared memory, by all threads; they must meet before and after.
__device__ void share(const float * from, int count, float * to) {
    for (int i = int(threadIdx.x); i < count; i += tile_rows) to[i] = from[i];
}

__global__ void __launch_bounds__(tile_rows) load_kernel(const MomentUnit * units, const RowTile * tiles) {
    const Row row(units, tiles);
    const int p = int(blockIdx.y);
    if (p >= row.unit.blocks()) return;
    float weights[16] = {};
    if (row.is_there())
        load_block(row.tile.weights + int64_t(row.thread) * row.unit.columns + row.unit.order[p] * 16, weights);
    const float zeros[16] = {};
    row.store(row.tile.values, p, weights);
    row.store(row.tile.differences, p, zeros);
    if (p == 0) row.tile.state[row.thread] = row.is_there() ? row_open : row_done;
}

// --- Attempts -----------------------------------------------------------------------------------------------------------------

// What is packed already, as round-to-nearest has left it.
__global__ void __launch_bounds__(tile_rows) nearest_kernel(const MomentUnit * units, const RowTile * tiles) {
    const Row row(units, tiles);
    const int p = int(blockIdx.y);
    if (!row.unit.is_judged || p >= row.unit.blocks() || !row.is_there()) return;
    const int64_t at = int64_t(row.thread) * row.unit.blocks() + row.unit.order[p];
    const BlockCodes found = {reinterpret_cast<const uint2 *>(row.tile.codes)[at], row.tile.scales[at]};
    float weights[16], values[16];
    row.load(row.tile.values, p, weights);
#pragma unroll
    for (int k = 0; k < 16; k++) values[k] = found.value(k, row.tile.global);
    row.keep(p, found, weights, values);
}

template <Metric metric>
__global__ void __launch_bounds__(tile_rows) search_kernel(const MomentUnit * units, const RowTile * tiles) {
    const Row row(units, tiles);
    const int p = int(blockIdx.y);
    const bool wanted = metric == Metric::squares || (row.unit.is_judged && row.unit.has_local);
    if (p >= row.unit.blocks() || !wanted || !__syncthreads_or(row.is_open())) return;
    __shared__ float matrix[256];
    if (metric == Metric::matrix) share(row.unit.local + p * 256, 256, matrix);
    __syncthreads();
    if (!row.is_open()) return;
    float weights[16], values[16];
    const float shifts[16] = {};
    row.load(row.tile.values, p, weights);
    row.keep(p, search_block<metric>(weights, shifts, matrix, nullptr, row.tile.global, values), weights, values);
}

// sum of D_k (d_k + sum over j < k of d_j U_jk)^2
__device__ float factor_error(const float (&target)[16], const float (&values)[16], const float * upper,
                              const float * diagonal) {
    float left[16];
#pragma unroll
    for (int k = 0; k < 16; k++) left[k] = target[k] - values[k];
#pragma unroll
    for (int k = 15; k >= 0; k--)
#pragma unroll
        for (int j = 0; j < k; j++) left[k] += left[j] * upper[j * 16 + k];
    float error = 0;
#pragma unroll
    for (int k = 0; k < 16; k++) error += diagonal[k] * (left[k] * left[k]);
    return error;
}

// Block after block, errors of earlier ones shift what the later ones aim at; then each block once more, with all others as
// they are.
__global__ void __launch_bounds__(tile_rows) gptq_kernel(const MomentUnit * units, const RowTile * tiles) {
    const Row row(units, tiles);
    const MomentUnit & unit = row.unit;
    if (!unit.is_judged || !unit.has_full || !__syncthreads_or(row.is_open())) return;
    __shared__ float4 stage[stage_rows * 4];
    __shared__ float matrix[256], inverse[256], diagonal[16];
    const bool is_open = row.is_open();
    const float global = row.tile.global;
    float * const differences = row.tile.differences;
    float weights[16], values[16];
    for (int p = 0; p < unit.blocks(); p++) {
        const float * const upper = unit.upper_of(p);
        float shifts[16] = {};
        add_products(differences, upper, p * 16, stage, shifts);
        __syncthreads();
        share(upper + p * 256, 256, matrix);
        share(unit.diagonal + p * 16, 16, diagonal);
        __syncthreads();
        if (!is_open) continue;
        row.load(row.tile.values, p, weights);
        row.keep(p, search_block<Metric::factor>(weights, shifts, matrix, diagonal, global, values), weights, values);
    }
    for (int p = 0; p < unit.blocks(); p++) {
        // d^T H d = (v - t)^T H_bb (v - t) + what does not depend on the block, t = w_b + H_bb^-1 (H d - H_bb d_b)
        const float * const columns = unit.full + int64_t(p) * unit.columns * 16;
        const int first = p * 16, end = first + 16;
        float rest[16] = {}, target[16] = {};
        add_products(differences, columns, first, stage, rest);
        add_products(differences + int64_t(end) * tile_rows, columns + int64_t(end) * 16, unit.columns - end, stage,
                     rest);
        __syncthreads();
        share(unit.local_upper + p * 256, 256, matrix);
        share(unit.local_inverse + p * 256, 256, inverse);
        share(unit.local_diagonal + first, 16, diagonal);
        __syncthreads();
        if (!is_open) continue;
#pragma unroll
        for (int j = 0; j < 16; j++)
#pragma unroll
            for (int k = 0; k < 16; k++) target[k] += rest[j] * inverse[j * 16 + k];
        row.load(row.tile.values, p, weights);
#pragma unroll
        for (int k = 0; k < 16; k++) target[k] += weights[k];
        const float none[16] = {};
        const BlockCodes next = search_block<Metric::factor>(target, none, matrix, diagonal, global, values);
        const float after = factor_error(target, values, matrix, diagonal);
        const BlockCodes before = row.found(p);
        float kept[16];
#pragma unroll
        for (int k = 0; k < 16; k++) kept[k] = before.value(k, global);
        if (after < factor_error(target, kept, matrix, diagonal)) row.keep(p, next, weights, values);
    }
}

// --- The judgement ------------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(tile_rows) products_kernel(const MomentUnit * units, const RowTile * tiles) {
    const Row row(units, tiles);
    const int p = int(blockIdx.y);
    if (!row.unit.is_judged || p >= row.unit.blocks() || !__syncthreads_or(row.is_open())) return;
    __shared__ float4 stage[stage_rows * 4];
    const int rows = row.unit.is_full ? row.unit.columns : 16;
    float sums[16] = {};
    add_products(row.tile.differences + (row.unit.is_full ? 0 : int64_t(p) * 16 * tile_rows),
                 row.unit.held_panels + int64_t(p) * rows * 16, rows, stage, sums);
    row.store(row.tile.products, p, sums);
}

__global__ void __launch_bounds__(tile_rows)
    errors_kernel(const MomentUnit * units, const RowTile * tiles, bool of_nearest) {
    const Row row(units, tiles);
    if (!row.unit.is_judged || !row.is_open()) return;
    double error = 0;
    constexpr int at_once = 16; // columns of a block
    for (int p = 0; p < row.unit.blocks(); p++) {
        float products[at_once], differences[at_once];
        row.load(row.tile.products, p, products);
        row.load(row.tile.differences, p, differences);
#pragma unroll
        for (int k = 0; k < at_once; k++) error += double(products[k]) * double(differences[k]);
    }
    (of_nearest ? row.tile.nearest : row.tile.errors)[row.thread] = error;
}

__device__ void count_row(const Row & row, int method, double error) {
    unsigned long long * const choices = row.tile.choices;
    atomicAdd(choices + method, 1ull);
    if (!row.unit.is_judged) return;
    const double nearest = row.tile.nearest[row.thread], part = nearest > 0 ? error / nearest : 1;
    const double bounded = part < 0 ? 0 : part > 1 ? 1 : part;
    atomicAdd(choices + method_count, 1ull);
    atomicAdd(choices + method_count + 1, static_cast<unsigned long long>(bounded * (1 << 20)));
}

// Open rows that win are packed by the next kernel; those that had won are done.
__global__ void __launch_bounds__(tile_rows)
    decide_kernel(const MomentUnit * units, const RowTile * tiles, int method) {
    const Row row(units, tiles);
    if (!row.is_there()) return;
    uint8_t & state = row.tile.state[row.thread];
    if (state == row_won) state = row_done;
    if (state != row_open) return;
    const bool tried = method == method_mse || (row.unit.is_judged && (method == method_rtn || row.unit.has_local) &&
                                                (method != method_gptq || row.unit.has_full));
    if (!tried) return;
    if (method == method_rtn) {
        count_row(row, method, row.tile.nearest[row.thread]);
        state = row_done;
        return;
    }
    const double error = row.unit.is_judged ? row.tile.errors[row.thread] : 0;
    if (row.unit.is_judged && !(error <= row.tile.nearest[row.thread])) return;
    count_row(row, method, error);
    state = row_won;
}

__global__ void __launch_bounds__(tile_rows) store_kernel(const MomentUnit * units, const RowTile * tiles) {
    const Row row(units, tiles);
    const int p = int(blockIdx.y);
    if (p >= row.unit.blocks() || !row.is_there() || row.tile.state[row.thread] != row_won) return;
    const int64_t at = int64_t(row.thread) * row.unit.blocks() + row.unit.order[p];
    const BlockCodes found = row.found(p);
    reinterpret_cast<uint2 *>(row.tile.codes)[at] = found.codes;
    row.tile.scales[at] = uint8_t(found.scale);
}

dim3 by_block(const TileBatch & batch) { return dim3(unsigned(batch.count), unsigned(batch.columns / 16)); }

} // namespace

cudaError_t load_rows(const TileBatch & batch) {
    load_kernel<<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
    return cudaGetLastError();
}

cudaError_t take_nearest(const TileBatch & batch) {
    const auto tiles = unsigned(batch.count);
    nearest_kernel<<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
    products_kernel<<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
    errors_kernel<<<tiles, tile_rows, 0, batch.stream>>>(batch.units, batch.tiles, true);
    return cudaGetLastError();
}

cudaError_t try_method(const TileBatch & batch, int method) {
    const auto tiles = unsigned(batch.count);
    switch (method) {
    case method_gptq: gptq_kernel<<<tiles, tile_rows, 0, batch.stream>>>(batch.units, batch.tiles); break;
    case method_hessian:
        search_kernel<Metric::matrix><<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
        break;
    case method_mse:
        search_kernel<Metric::squares><<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
        break;
    default: break;
    }
    if (method != method_rtn) {
        products_kernel<<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
        errors_kernel<<<tiles, tile_rows, 0, batch.stream>>>(batch.units, batch.tiles, false);
    }
    decide_kernel<<<tiles, tile_rows, 0, batch.stream>>>(batch.units, batch.tiles, method);
    if (method != method_rtn) store_kernel<<<by_block(batch), tile_rows, 0, batch.stream>>>(batch.units, batch.tiles);
    return cudaGetLastError();
}

} // namespace gnv::cuda
