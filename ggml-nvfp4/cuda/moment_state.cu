// From second moments to what a search needs of them: quant/quantizers/moments.cpp on a device, many units at a time.
#include "cuda/moment_work.cuh"

#include <algorithm>

namespace gnv::cuda {

namespace {

constexpr int threads = 256;

// Blocks of `threads` for a loop over so many items of each unit.
dim3 grid_of(const MomentBatch & batch, int64_t items) {
    const int64_t wanted = std::min<int64_t>((items + threads - 1) / threads, 4096);
    return dim3(unsigned(std::max<int64_t>(wanted, 1)), unsigned(batch.count));
}
__device__ int64_t first_item() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ int64_t item_step() { return int64_t(gridDim.x) * blockDim.x; }

int64_t elements_of(const MomentBatch & batch) { // of a total
    return int64_t(batch.columns) * (batch.is_full ? batch.columns : 16);
}

__global__ void look_kernel(const MomentUnit * units) {
    const MomentUnit & unit = units[blockIdx.y];
    const int64_t elements = int64_t(unit.columns) * (unit.is_full ? unit.columns : 16);
    uint32_t found = 0;
    for (int64_t i = first_item(); i < elements; i += item_step()) {
        if (unit.own && !isfinite(unit.own[i])) found |= own_not_finite;
        if (unit.held && !isfinite(unit.held[i])) found |= held_not_finite;
        if (unit.layer && !isfinite(unit.layer[i])) found |= layer_not_finite;
    }
    if (found != 0) atomicOr(unit.flags, found);
    for (int64_t i = first_item(); i < unit.columns; i += item_step()) {
        const int64_t at = unit.is_full ? i * unit.columns + i : i * 16 + i % 16;
        if (unit.own) unit.diagonals[i] = unit.own[at];
        if (unit.layer) unit.diagonals[unit.columns + i] = unit.layer[at];
    }
}

__global__ void local_kernel(const MomentUnit * units) {
    const MomentUnit & unit = units[blockIdx.y];
    if (!unit.has_local) return;
    bool finite = true;
    for (int64_t e = first_item(); e < int64_t(unit.columns) * 16; e += item_step()) {
        const int first = int(e / 256) * 16, i = int(e / 16 % 16), j = int(e % 16);
        const float value = float(unit.at(first + i, first + j) + (i == j ? unit.damping : 0));
        unit.local[e] = value;
        finite = finite && isfinite(value);
    }
    if (!finite) atomicOr(unit.flags, uint32_t(local_not_finite));
}

__global__ void held_kernel(const MomentUnit * units) {
    const MomentUnit & unit = units[blockIdx.y];
    if (!unit.is_judged) return;
    const int64_t rows = unit.is_full ? unit.columns : 16;
    bool any = false;
    for (int64_t e = first_item(); e < unit.columns * rows; e += item_step()) {
        const int p = int(e / (rows * 16)), j = p * 16 + int(e % 16);
        const int i = int(e / 16 % rows) + (unit.is_full ? 0 : p * 16);
        const float value = float(unit.element(unit.held, unit.column_of(i), unit.column_of(j)) / unit.mean);
        unit.held_panels[e] = value;
        any = any || value != 0;
    }
    if (any) atomicOr(unit.flags, uint32_t(held_not_zero));
}

// --- H = (I + U) D (I + U)^T, from the last column to the first ----------------------------------------------------------------
//
// The CPU subtracts f_i row_k from element (i, k) for each pivot, in falling order. Here a step takes 32 pivots: first their own
// square, then their rows to the left, then all that is left of the matrix. Each element still sees the same subtractions
// in the same order.

__global__ void matrix_kernel(const MomentUnit * units) {
    const MomentUnit & unit = units[blockIdx.y];
    if (!unit.is_factored) return;
    const int64_t n = unit.columns;
    for (int64_t e = first_item(); e < n * n; e += item_step()) {
        const int i = int(e / n), j = int(e % n);
        if (j <= i) unit.matrix[e] = unit.at(i, j) + (i == j ? unit.damping : 0);
    }
}

// The square of the pivots [low, high): its factors and pivots take its place.
__global__ void factor_square_kernel(const MomentUnit * units, int low, int high) {
    const MomentUnit & unit = units[blockIdx.x];
    if (!unit.is_factored) return;
    __shared__ double square[factor_panel][factor_panel + 1], row[factor_panel];
    const int64_t n = unit.columns;
    const int size = high - low, thread = int(threadIdx.x);
    for (int e = thread; e < size * size; e += threads)
        if (e % size <= e / size) square[e / size][e % size] = unit.matrix[(low + e / size) * n + low + e % size];
    for (int j = size - 1; j >= 0; j--) {
        __syncthreads();
        const double pivot = square[j][j];
        if (thread == 0 && (!(pivot > 0) || !isfinite(pivot))) atomicOr(unit.flags, uint32_t(not_factored));
        if (thread < j) row[thread] = square[j][thread];
        __syncthreads();
        if (thread < j) square[j][thread] = row[thread] / pivot;
        __syncthreads();
        for (int e = thread; e < j * j; e += threads) {
            const int i = e / j, k = e % j;
            if (k <= i) square[i][k] -= square[j][i] * row[k];
        }
    }
    __syncthreads();
    for (int e = thread; e < size * size; e += threads)
        if (e % size <= e / size) unit.matrix[(low + e / size) * n + low + e % size] = square[e / size][e % size];
}

// Their rows left of the square, a thread a column: `rows` receives them as they are subtracted, the matrix the factors.
__global__ void factor_rows_kernel(const MomentUnit * units, int low) {
    const MomentUnit & unit = units[blockIdx.y];
    if (!unit.is_factored) return;
    __shared__ double square[factor_panel][factor_panel + 1];
    const int64_t n = unit.columns;
    for (int e = int(threadIdx.x); e < factor_panel * factor_panel; e += threads) {
        const int i = e / factor_panel, j = e % factor_panel;
        square[i][j] = j <= i ? unit.matrix[(low + i) * n + low + j] : 0;
    }
    __syncthreads();
    const int64_t k = first_item();
    if (k >= low) return;
    double column[factor_panel];
#pragma unroll
    for (int j = 0; j < factor_panel; j++) column[j] = unit.matrix[(low + j) * n + k];
#pragma unroll
    for (int j = factor_panel - 1; j >= 0; j--) {
        const double value = column[j];
#pragma unroll
        for (int i = 0; i < j; i++) column[i] -= square[j][i] * value;
        unit.rows[j * n + k] = value;
        unit.matrix[(low + j) * n + k] = value / square[j][j];
    }
}

constexpr int side = 64, part = 4, threads_a_side = side / part;

// The lower triangle of what is left: rows and columns [0, low).
__global__ void factor_rest_kernel(const MomentUnit * units, int low) {
    const MomentUnit & unit = units[blockIdx.z];
    if (!unit.is_factored || blockIdx.x > blockIdx.y) return;
    __shared__ double factors[factor_panel][side], rows[factor_panel][side];
    const int64_t n = unit.columns;
    const int first_i = int(blockIdx.y) * side, first_k = int(blockIdx.x) * side;
    for (int e = int(threadIdx.x); e < factor_panel * side; e += threads) {
        const int j = e / side, c = e % side;
        factors[j][c] = first_i + c < low ? unit.matrix[(low + j) * n + first_i + c] : 0;
        rows[j][c] = first_k + c < low ? unit.rows[j * n + first_k + c] : 0;
    }
    __syncthreads();
    const int di = int(threadIdx.x) / threads_a_side, dk = int(threadIdx.x) % threads_a_side;
    const auto i_of = [&](int a) { return first_i + a * threads_a_side + di; };
    const auto k_of = [&](int b) { return first_k + b * threads_a_side + dk; };
    double left[part][part];
#pragma unroll
    for (int a = 0; a < part; a++)
#pragma unroll
        for (int b = 0; b < part; b++) {
            const bool is_there = i_of(a) < low && k_of(b) <= i_of(a);
            left[a][b] = is_there ? unit.matrix[i_of(a) * n + k_of(b)] : 0;
        }
#pragma unroll 4
    for (int j = factor_panel - 1; j >= 0; j--) {
        double f[part], r[part];
#pragma unroll
        for (int a = 0; a < part; a++) {
            f[a] = factors[j][a * threads_a_side + di];
            r[a] = rows[j][a * threads_a_side + dk];
        }
#pragma unroll
        for (int a = 0; a < part; a++)
#pragma unroll
            for (int b = 0; b < part; b++) left[a][b] -= f[a] * r[b];
    }
#pragma unroll
    for (int a = 0; a < part; a++)
#pragma unroll
        for (int b = 0; b < part; b++)
            if (i_of(a) < low && k_of(b) <= i_of(a)) unit.matrix[i_of(a) * n + k_of(b)] = left[a][b];
}

// From the factored matrix: U, D and H with its damping, in F32.
__global__ void take_factors_kernel(const MomentUnit * units) {
    const MomentUnit & unit = units[blockIdx.y];
    if (!unit.is_factored) return;
    const int64_t n = unit.columns;
    bool finite = true;
    for (int64_t e = first_item(); e < n * n; e += item_step()) {
        const int p = int(e / (n * 16)), i = int(e / 16 % n), j = p * 16 + int(e % 16);
        unit.full[e] = float(unit.at(i, j) + (i == j ? unit.damping : 0));
        if (i == j) {
            unit.diagonal[i] = float(unit.matrix[i * n + i]);
            finite = finite && isfinite(unit.diagonal[i]);
        }
        if (i >= (p + 1) * 16) continue;
        const float value = i < j ? float(unit.matrix[j * n + i]) : 0;
        const_cast<float *>(unit.upper_of(p))[i * 16 + e % 16] = value;
        finite = finite && isfinite(value);
    }
    if (!finite) atomicOr(unit.flags, uint32_t(not_factored));
}

// A matrix [16][16] of F64 for each block of columns, one beside the other, so that neighbouring threads read neighbours.
struct BlockMatrix {
    double * first;
    int64_t step;
    __device__ double & operator()(int i, int j) const { return first[(i * 16 + j) * step]; }
};

// A thread a block of 16 columns: its factors, and the inverse of its part of H. Both matrices lie where the whole matrix and its
// rows were, which have been taken: as arrays of a thread they would make the driver keep 0.8 GB for all threads that there can be.
__global__ void factor_blocks_kernel(const MomentUnit * units) {
    const MomentUnit & unit = units[blockIdx.y];
    const int p = int(first_item());
    constexpr int n = 16;
    if (!unit.is_factored || p >= unit.blocks()) return;
    const BlockMatrix matrix = {unit.matrix + p, unit.blocks()}, inverse = {unit.rows + p, unit.blocks()};
    double row[n];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) matrix(i, j) = unit.at(p * n + i, p * n + j) + (i == j ? unit.damping : 0);
    for (int j = n - 1; j >= 0; j--) {
        const double pivot = matrix(j, j);
        if (!(pivot > 0) || !isfinite(pivot)) {
            atomicOr(unit.flags, uint32_t(not_factored));
            return;
        }
        for (int i = 0; i < j; i++) {
            row[i] = matrix(j, i);
            matrix(j, i) /= pivot;
        }
        for (int i = 0; i < j; i++)
            for (int k = 0; k <= i; k++) matrix(i, k) -= matrix(j, i) * row[k];
    }
    for (int j = 0; j < n; j++) {
        unit.local_diagonal[p * n + j] = float(matrix(j, j));
        for (int i = 0; i < n; i++) unit.local_upper[p * 256 + i * n + j] = i < j ? float(matrix(j, i)) : 0;
    }
    for (int i = 0; i < n; i++) // (I + U)^-1, then (I + U)^-T D^-1 (I + U)^-1
        for (int j = 0; j < n; j++) inverse(i, j) = 0;
    for (int j = 0; j < n; j++) {
        inverse(j, j) = 1;
        for (int i = j - 1; i >= 0; i--) {
            double sum = 0;
            for (int k = i + 1; k <= j; k++) sum += matrix(k, i) * inverse(k, j);
            inverse(i, j) = -sum;
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int k = 0; k <= min(i, j); k++) sum += inverse(k, i) * inverse(k, j) / matrix(k, k);
            unit.local_inverse[p * 256 + i * n + j] = float(sum);
        }
}

} // namespace

cudaError_t look_at_totals(const MomentBatch & batch) {
    look_kernel<<<grid_of(batch, elements_of(batch)), threads, 0, batch.stream>>>(batch.units);
    return cudaGetLastError();
}

cudaError_t make_panels(const MomentBatch & batch) {
    local_kernel<<<grid_of(batch, int64_t(batch.columns) * 16), threads, 0, batch.stream>>>(batch.units);
    held_kernel<<<grid_of(batch, elements_of(batch)), threads, 0, batch.stream>>>(batch.units);
    return cudaGetLastError();
}

cudaError_t factor(const MomentBatch & batch) {
    const int64_t n = batch.columns;
    matrix_kernel<<<grid_of(batch, n * n), threads, 0, batch.stream>>>(batch.units);
    for (int high = batch.columns; high > 0;) {
        const int low = std::max(0, high - factor_panel);
        factor_square_kernel<<<unsigned(batch.count), threads, 0, batch.stream>>>(batch.units, low, high);
        if (low > 0) {
            const dim3 columns(unsigned((low + threads - 1) / threads), unsigned(batch.count));
            factor_rows_kernel<<<columns, threads, 0, batch.stream>>>(batch.units, low);
            const auto sides = unsigned((low + side - 1) / side);
            const dim3 tiles(sides, sides, unsigned(batch.count));
            factor_rest_kernel<<<tiles, threads, 0, batch.stream>>>(batch.units, low);
        }
        high = low;
    }
    take_factors_kernel<<<grid_of(batch, n * n), threads, 0, batch.stream>>>(batch.units);
    const dim3 blocks(unsigned((n / 16 + 63) / 64), unsigned(batch.count));
    factor_blocks_kernel<<<blocks, 64, 0, batch.stream>>>(batch.units);
    return cudaGetLastError();
}

} // namespace gnv::cuda
