// Figures of positions: means with standard errors by window, percentiles, perplexity.
#pragma once

#include "evaluate/predictions.h"

#include <array>
#include <cstdint>
#include <vector>

namespace gnv::evaluate {

// A mean over positions, all weighted alike, and its standard error from the differences between windows.
struct Estimate {
    double mean = 0, error = 0;
};

// At minimum, 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9 %, maximum; between two values in proportion.
constexpr size_t percentile_count = 13;
constexpr std::array<double, percentile_count> percentile_points = {0,    0.001, 0.01, 0.05, 0.1,   0.25, 0.5,
                                                                    0.75, 0.9,   0.95, 0.99, 0.999, 1};
using Percentiles = std::array<double, percentile_count>;
Percentiles percentiles(std::vector<double> values); // zeros for none

struct Figures {
    uint64_t positions = 0, predictions = 0; // predictions: positions with a next token
    Estimate divergence, same_top;           // nats; share of positions
    Percentiles divergence_at{};
    Estimate source_nll, nll; // nats each predicted token
    Estimate log_ratio;       // mean of nll - source_nll: ln of the ratio of the perplexities
    double correlation = 0;   // of the two nll by window
    Estimate probability;     // change of the true token's probability, mean
    Estimate probability_rms; // root of its mean square
    Percentiles probability_at{};

    // exp of a mean of ln, with its error
    static Estimate exponential(const Estimate & log);
};

enum class Stretch : uint8_t { all, last_quarter, text, pictures };
Figures measure(const Positions & positions, const Predictions & source, const Predictions & line, Stretch stretch);

// Positions by their divergence: counts[0] below the first edge, counts[i] from edges[i - 1] on, the last beyond the last.
struct DivergenceHistogram {
    std::vector<double> edges; // nats, four for each power of ten
    std::vector<uint64_t> counts;
};
// Positions [begin, end) of all windows.
struct StretchFigures {
    int64_t begin = 0, end = 0;
    uint64_t positions = 0;
    double divergence = 0; // mean; 0 without positions
};
// A position with one of the largest divergences, and the tokens before it.
struct WorstPosition {
    uint64_t window = 0;
    int64_t position = 0; // in the window
    double divergence = 0;
    int32_t next = -1, source_top = 0, line_top = 0; // next: -1 at the end of a window
    std::vector<int32_t> context;                    // the last tokens up to the position, -1 for those of a picture
};
DivergenceHistogram histogram(const Positions & positions, const Predictions & line);
// The longest window in at most `count` stretches of the same length.
std::vector<StretchFigures> by_position(const Positions & positions, const Predictions & line, int64_t count);
// The `count` positions with the largest divergence, of equal ones the first; `ids` of all rows of the pass.
std::vector<WorstPosition> worst_positions(const Positions & positions, const Predictions & source,
                                           const Predictions & line, const std::vector<int32_t> & ids, size_t count);

// Sums of one window, by which two reports are compared.
struct WindowSums {
    uint64_t positions = 0, predictions = 0, same_top = 0;
    double divergence = 0, nll = 0, source_nll = 0;
};
std::vector<WindowSums> sum_windows(const Positions & positions, const Predictions & source, const Predictions & line);

} // namespace gnv::evaluate
