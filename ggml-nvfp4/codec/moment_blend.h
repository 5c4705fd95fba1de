// From measured second moments of a unit's inputs to a matrix of entries about 1, in the order in which blocks of columns
// are visited. Devices and the CPU decide with this code, so they decide alike.
//
//   H = (n H_own + n0 H_layer) / (n + n0)      means over positions; n: Kish's count of weighted positions
//   H + damping I, divided by the mean of its diagonal
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gnv {

// Of some inputs: how many positions there were, and the diagonal of their second moments.
struct MomentInputs {
    // Statistic::fitted_weights: number, sum of squares, sum of fourth powers; null: not measured, or not finite in any place.
    const double * weights = nullptr;
    std::span<const float> diagonal; // one for each column
};

// With `is_usable` an element of H is (0 + own_share * own + layer_share * layer) / mean, without the summands whose share is
// not positive, plus `damping` on the diagonal; each operation in F64.
struct MomentBlend {
    bool is_usable = false;
    double own_share = 0, layer_share = 0, mean = 1;
    double damping = 0;         // of the first attempt; the next ones have ten times as much
    std::vector<int32_t> order; // of blocks of 16 columns
};

inline constexpr int factor_attempts = 4;

// `by_energy`: blocks by descending trace, else as they are.
MomentBlend blend_moments(int64_t columns, const MomentInputs & own, const MomentInputs & layer, bool by_energy);

} // namespace gnv
