#include "codec/moment_blend.h"

#include "codec/block_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace gnv {

namespace {

constexpr double prior_positions = 64; // n0
constexpr double least_damping = 0.03; // of the mean of the diagonal
constexpr double most_damping = 0.1;   // where positions are few

// sum of squared weights, and Kish's count
struct Positions {
    double sum = 0, count = 0;
};

Positions positions_of(const double * sums) {
    if (!sums || !(sums[1] > 0) || !std::isfinite(sums[1])) return {};
    return {sums[1], sums[2] > 0 ? sums[1] * sums[1] / sums[2] : sums[0]};
}

} // namespace

MomentBlend blend_moments(int64_t columns, const MomentInputs & own, const MomentInputs & layer, bool by_energy) {
    MomentBlend blend;
    blend.order.resize(size_t(columns / search_columns));
    std::iota(blend.order.begin(), blend.order.end(), 0);
    // The mean of both, per position; of the unit's own alone where there is nothing of the layer.
    const Positions mine = positions_of(own.weights), all = positions_of(layer.weights);
    const double n = mine.count, n0 = all.sum > 0 ? prior_positions : 0;
    if (n > 0) blend.own_share = n / (n + n0) / mine.sum;
    if (n0 > 0) blend.layer_share = n0 / (n + n0) / all.sum;
    if (!(blend.own_share > 0 || blend.layer_share > 0)) return blend;
    std::vector<double> traces(blend.order.size(), 0.0);
    for (int64_t i = 0; i < columns; i++) {
        double sum = 0;
        if (blend.own_share > 0) sum += blend.own_share * double(own.diagonal[size_t(i)]);
        if (blend.layer_share > 0) sum += blend.layer_share * double(layer.diagonal[size_t(i)]);
        traces[size_t(i / search_columns)] += sum;
    }
    const double mean = std::accumulate(traces.begin(), traces.end(), 0.0) / double(columns);
    if (!(mean > 0) || !std::isfinite(1 / mean)) return blend;
    if (by_energy)
        std::stable_sort(blend.order.begin(), blend.order.end(),
                         [&](int32_t a, int32_t b) { return traces[size_t(a)] > traces[size_t(b)]; });
    const double few = n > 0 ? std::min(1.0, 2 * double(columns) / n) : 1;
    blend.mean = mean;
    blend.damping = std::max(least_damping, most_damping * few);
    blend.is_usable = true;
    return blend;
}

} // namespace gnv
