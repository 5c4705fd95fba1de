#include "quant/quantizers/moments.h"

#include "codec/moment_blend.h"

#include <algorithm>
#include <cmath>

namespace gnv {

namespace {

constexpr int64_t block = search_columns;
// Index of an element in a total: [K][K], or [K / 16][16][16] where only elements within a block exist.
struct Elements {
    const float * total = nullptr;
    int64_t columns = 0;
    bool is_full = false;
    double at(int64_t i, int64_t j) const {
        return double(is_full ? total[i * columns + j] : total[i * block + j % block]);
    }
};

// Of some inputs: what was fitted to and what was held back.
struct Measured {
    Elements fitted, held;
    MomentInputs inputs;
    std::vector<float> diagonal;
};

Measured measured_of(const std::vector<UnitStatistic> & statistics, int64_t columns, const MomentKinds & kinds) {
    Measured measured;
    for (const UnitStatistic & one : statistics) {
        const auto * const floats = static_cast<const float *>(one.total);
        if (one.kind == kinds.fitted) measured.fitted = {floats, columns, kinds.is_full};
        if (one.kind == kinds.held) measured.held = {floats, columns, kinds.is_full};
        if (one.kind == kinds.weights) measured.inputs.weights = static_cast<const double *>(one.total);
    }
    // Sums that are not finite, in one place or another, are of no use.
    const int64_t each = kinds.is_full ? columns * columns : columns * block;
    const auto finite = [&](const Elements & elements) {
        double sum = 0;
        for (int64_t i = 0; elements.total && i < each; i++) sum += std::fabs(double(elements.total[i]));
        return elements.total && std::isfinite(sum);
    };
    if (!finite(measured.held)) measured.held.total = nullptr;
    if (!finite(measured.fitted)) {
        measured.inputs.weights = nullptr;
        return measured;
    }
    for (int64_t i = 0; i < columns; i++) measured.diagonal.push_back(float(measured.fitted.at(i, i)));
    measured.inputs.diagonal = measured.diagonal;
    return measured;
}

// In the order of visits.
int64_t column_of(const MomentState & state, int64_t visited) {
    return state.order[size_t(visited / block)] * block + visited % block;
}

// Columns of each block, of all rows or of the block's: [blocks][rows][16].
template <class At>
std::vector<float> in_panels(const MomentState & state, bool all_rows, const At & at) {
    const int64_t rows = all_rows ? state.columns : block;
    std::vector<float> panels(size_t(state.blocks() * rows * block));
    float * out = panels.data();
    for (int64_t p = 0; p < state.blocks(); p++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < block; j++) *out++ = float(at(all_rows ? i : p * block + i, p * block + j));
    return panels;
}

// The inverse of a factored matrix [16][16].
void invert(const std::vector<double> & factored, float * out) {
    constexpr int n = int(block);
    double inverse[n][n] = {}; // (I + U)^-1, then (I + U)^-T D^-1 (I + U)^-1
    for (int j = 0; j < n; j++) {
        inverse[j][j] = 1;
        for (int i = j - 1; i >= 0; i--) {
            double sum = 0;
            for (int k = i + 1; k <= j; k++) sum += factored[size_t(k * n + i)] * inverse[k][j];
            inverse[i][j] = -sum;
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int k = 0; k <= std::min(i, j); k++)
                sum += inverse[k][i] * inverse[k][j] / factored[size_t(k * n + k)];
            out[i * n + j] = float(sum);
        }
}

template <class At>
bool factor_full(MomentState & state, const At & at, double damping) {
    const int64_t n = state.columns;
    std::vector<double> matrix(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) matrix[size_t(i * n + j)] = at(i, j) + (i == j ? damping : 0);
    if (!factor_upper(matrix, n)) return false;
    state.diagonal.resize(size_t(n));
    for (int64_t i = 0; i < n; i++) state.diagonal[size_t(i)] = float(matrix[size_t(i * n + i)]);
    state.upper.clear();
    for (int64_t p = 0; p < state.blocks(); p++)
        for (int64_t i = 0; i < (p + 1) * block; i++)
            for (int64_t j = p * block; j < (p + 1) * block; j++)
                state.upper.push_back(i < j ? float(matrix[size_t(j * n + i)]) : 0);
    for (const std::vector<float> * const part : {&state.diagonal, &state.upper})
        for (const float value : *part)
            if (!std::isfinite(value)) return false;
    state.full = in_panels(state, true, [&](int64_t i, int64_t j) { return at(i, j) + (i == j ? damping : 0); });
    return true;
}

template <class At>
bool factor_blocks(MomentState & state, const At & at, double damping) {
    constexpr int64_t each = block * block;
    state.local_upper.assign(size_t(state.blocks() * each), 0);
    state.local_inverse = state.local_upper;
    state.local_diagonal.resize(size_t(state.columns));
    for (int64_t p = 0; p < state.blocks(); p++) {
        std::vector<double> matrix(static_cast<size_t>(each));
        for (int64_t i = 0; i < block; i++)
            for (int64_t j = 0; j < block; j++)
                matrix[size_t(i * block + j)] = at(p * block + i, p * block + j) + (i == j ? damping : 0);
        if (!factor_upper(matrix, block)) return false;
        for (int64_t j = 0; j < block; j++) {
            state.local_diagonal[size_t(p * block + j)] = float(matrix[size_t(j * block + j)]);
            for (int64_t i = 0; i < j; i++)
                state.local_upper[size_t(p * each + i * block + j)] = float(matrix[size_t(j * block + i)]);
        }
        invert(matrix, state.local_inverse.data() + p * each);
    }
    return true;
}

} // namespace

// From the last column to the first. Rows are updated as a whole, side by side in memory.
bool factor_upper(std::vector<double> & matrix, int64_t n) {
    std::vector<double> row(static_cast<size_t>(n));
    for (int64_t j = n - 1; j >= 0; j--) {
        double * const last = matrix.data() + j * n;
        const double pivot = last[j];
        if (!(pivot > 0) || !std::isfinite(pivot)) return false;
        std::copy(last, last + j, row.data());
        for (int64_t i = 0; i < j; i++) last[i] /= pivot;
        for (int64_t i = 0; i < j; i++) {
            double * const to = matrix.data() + i * n;
            const double factor = last[i];
            for (int64_t k = 0; k <= i; k++) to[k] -= factor * row[size_t(k)];
        }
    }
    return true;
}

MomentState make_moment_state(const UnitInputs & inputs, const MomentKinds & kinds) {
    MomentState state;
    state.columns = inputs.width;
    const Measured own = measured_of(inputs.own, inputs.width, kinds);
    const Measured layer = measured_of(inputs.layer, inputs.width, kinds);
    MomentBlend blend = blend_moments(inputs.width, own.inputs, layer.inputs, kinds.is_full);
    state.order = std::move(blend.order);
    if (!blend.is_usable) return state;
    const auto at = [&](int64_t visited_i, int64_t visited_j) {
        const int64_t i = column_of(state, visited_i), j = column_of(state, visited_j);
        double sum = 0;
        if (blend.own_share > 0) sum += blend.own_share * own.fitted.at(i, j);
        if (blend.layer_share > 0) sum += blend.layer_share * layer.fitted.at(i, j);
        return sum / blend.mean;
    };
    double damping = blend.damping;
    state.local = in_panels(state, false, [&](int64_t i, int64_t j) { return at(i, j) + (i == j ? damping : 0); });
    for (const float value : state.local)
        if (!std::isfinite(value)) {
            state.local.clear();
            return state;
        }
    if (kinds.is_full) {
        bool factored = false;
        for (int attempt = 0; attempt < factor_attempts && !factored; attempt++, damping *= 10)
            factored = factor_full(state, at, damping) && factor_blocks(state, at, damping);
        if (!factored) state.full.clear();
    }
    if (own.held.total) {
        state.held_is_full = kinds.is_full;
        state.held = in_panels(state, kinds.is_full, [&](int64_t i, int64_t j) {
            return own.held.at(column_of(state, i), column_of(state, j)) / blend.mean;
        });
        // Nothing was held back, or nothing that can be told apart.
        if (std::all_of(state.held.begin(), state.held.end(), [](float value) { return value == 0; }))
            state.held.clear();
    }
    return state;
}

} // namespace gnv
