#include "evaluate/figures.h"

#include <algorithm>
#include <cmath>

namespace gnv::evaluate {

Percentiles percentiles(std::vector<double> values) {
    Percentiles out{};
    if (values.empty()) return out;
    std::sort(values.begin(), values.end());
    for (size_t i = 0; i < out.size(); i++) {
        const double at = percentile_points[i] * double(values.size() - 1), below = std::floor(at);
        const auto k = size_t(below);
        out[i] = values[k];
        if (k + 1 < values.size()) out[i] += (at - below) * (values[k + 1] - values[k]);
    }
    return out;
}

Estimate Figures::exponential(const Estimate & log) {
    const double value = std::exp(log.mean);
    return {value, value * log.error};
}

namespace {

// Sums of one quantity by window, in the order of positions.
class WindowMean {
  public:
    explicit WindowMean(size_t windows) : sums_(windows, 0), counts_(windows, 0) {}
    void add(size_t window, double value) {
        sums_[window] += value;
        counts_[window]++;
    }
    // A ratio of two sums over windows; the error is that of such an estimate: sqrt(D / (D - 1) sum (S - mean n)^2) / N
    Estimate estimate() const {
        double sum = 0, squares = 0;
        uint64_t count = 0, windows = 0;
        for (size_t w = 0; w < sums_.size(); w++) {
            sum += sums_[w];
            count += counts_[w];
            windows += counts_[w] > 0;
        }
        if (count == 0) return {};
        const double mean = sum / double(count);
        for (size_t w = 0; w < sums_.size(); w++) {
            const double deviation = sums_[w] - mean * double(counts_[w]);
            squares += deviation * deviation;
        }
        if (windows < 2) return {mean, std::nan("")};
        return {mean, std::sqrt(squares * double(windows) / double(windows - 1)) / double(count)};
    }
    uint64_t count() const {
        uint64_t total = 0;
        for (const uint64_t n : counts_) total += n;
        return total;
    }
    std::vector<double> means() const { // of windows with positions
        std::vector<double> out;
        for (size_t w = 0; w < sums_.size(); w++)
            if (counts_[w] > 0) out.push_back(sums_[w] / double(counts_[w]));
        return out;
    }

  private:
    std::vector<double> sums_;
    std::vector<uint64_t> counts_;
};

double mean_of(const std::vector<double> & values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return values.empty() ? 0 : sum / double(values.size());
}

double correlate(const std::vector<double> & a, const std::vector<double> & b) {
    const double mean_a = mean_of(a), mean_b = mean_of(b);
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); i++) {
        ab += (a[i] - mean_a) * (b[i] - mean_b);
        aa += (a[i] - mean_a) * (a[i] - mean_a);
        bb += (b[i] - mean_b) * (b[i] - mean_b);
    }
    return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : std::nan("");
}

} // namespace

Figures measure(const Positions & positions, const Predictions & source, const Predictions & line, Stretch stretch) {
    const size_t windows = positions.windows.size();
    WindowMean divergence(windows), same_top(windows), source_nll(windows), nll(windows), ratio(windows),
        change(windows), square(windows);
    std::vector<double> divergences, changes;
    for (size_t w = 0; w < windows; w++) {
        const Positions::Window & window = positions.windows[w];
        const int64_t begin = stretch == Stretch::last_quarter ? window.last_quarter : window.begin;
        for (auto p = size_t(begin); p < size_t(window.end); p++) {
            const bool of_picture = !positions.of_picture.empty() && positions.of_picture[p];
            if (!positions.scored[p] || stretch == (of_picture ? Stretch::text : Stretch::pictures)) continue;
            divergence.add(w, line.divergence[p]);
            divergences.push_back(line.divergence[p]);
            same_top.add(w, line.top[p] == source.top[p]);
            if (positions.next[p] < 0) continue;
            source_nll.add(w, source.nll[p]);
            nll.add(w, line.nll[p]);
            ratio.add(w, line.nll[p] - source.nll[p]);
            const double moved = std::exp(-line.nll[p]) - std::exp(-source.nll[p]);
            change.add(w, moved);
            square.add(w, moved * moved);
            changes.push_back(moved);
        }
    }
    Figures out;
    out.positions = divergence.count();
    out.predictions = nll.count();
    out.divergence = divergence.estimate();
    out.same_top = same_top.estimate();
    out.divergence_at = percentiles(std::move(divergences));
    out.source_nll = source_nll.estimate();
    out.nll = nll.estimate();
    out.log_ratio = ratio.estimate();
    out.correlation = correlate(nll.means(), source_nll.means());
    out.probability = change.estimate();
    const Estimate squares = square.estimate();
    out.probability_rms.mean = std::sqrt(squares.mean);
    out.probability_rms.error = squares.mean > 0 ? squares.error / (2 * out.probability_rms.mean) : 0;
    out.probability_at = percentiles(std::move(changes));
    return out;
}

std::vector<WindowSums> sum_windows(const Positions & positions, const Predictions & source, const Predictions & line) {
    std::vector<WindowSums> out(positions.windows.size());
    for (size_t w = 0; w < out.size(); w++) {
        WindowSums & sums = out[w];
        for (auto p = size_t(positions.windows[w].begin); p < size_t(positions.windows[w].end); p++) {
            if (!positions.scored[p]) continue;
            sums.positions++;
            sums.divergence += line.divergence[p];
            sums.same_top += line.top[p] == source.top[p];
            if (positions.next[p] < 0) continue;
            sums.predictions++;
            sums.nll += line.nll[p];
            sums.source_nll += source.nll[p];
        }
    }
    return out;
}

DivergenceHistogram histogram(const Positions & positions, const Predictions & line) {
    constexpr double firsts[] = {1, 1.8, 3.2, 5.6}; // of a power of ten
    constexpr int least = -8, most = 2;
    DivergenceHistogram out;
    for (int power = least; power < most; power++)
        for (const double first : firsts) out.edges.push_back(first * std::pow(10.0, power));
    out.counts.resize(out.edges.size() + 1);
    for (size_t p = 0; p < line.divergence.size(); p++)
        if (positions.scored[p])
            out.counts[size_t(std::upper_bound(out.edges.begin(), out.edges.end(), line.divergence[p]) -
                              out.edges.begin())]++;
    return out;
}

std::vector<StretchFigures> by_position(const Positions & positions, const Predictions & line, int64_t count) {
    int64_t longest = 0;
    for (const Positions::Window & window : positions.windows) longest = std::max(longest, window.end - window.begin);
    const int64_t length = std::max<int64_t>(1, (longest + count - 1) / count);
    std::vector<StretchFigures> out(size_t((longest + length - 1) / length));
    for (const Positions::Window & window : positions.windows)
        for (int64_t p = window.begin; p < window.end; p++) {
            if (!positions.scored[size_t(p)]) continue;
            StretchFigures & stretch = out[size_t((p - window.begin) / length)];
            stretch.positions++;
            stretch.divergence += line.divergence[size_t(p)];
        }
    for (size_t s = 0; s < out.size(); s++) {
        out[s].begin = int64_t(s) * length, out[s].end = std::min(longest, out[s].begin + length);
        if (out[s].positions > 0) out[s].divergence /= double(out[s].positions);
    }
    return out;
}

std::vector<WorstPosition> worst_positions(const Positions & positions, const Predictions & source,
                                           const Predictions & line, const std::vector<int32_t> & ids, size_t count) {
    constexpr int64_t shown = 48; // tokens of a context
    std::vector<size_t> rows;
    for (size_t p = 0; p < line.divergence.size(); p++)
        if (positions.scored[p]) rows.push_back(p);
    count = std::min(count, rows.size());
    std::partial_sort(rows.begin(), rows.begin() + ptrdiff_t(count), rows.end(), [&](size_t a, size_t b) {
        return line.divergence[a] != line.divergence[b] ? line.divergence[a] > line.divergence[b] : a < b;
    });
    std::vector<WorstPosition> out;
    for (size_t i = 0; i < count; i++) {
        const auto row = int64_t(rows[i]);
        const uint32_t number = positions.window_of[rows[i]];
        const int64_t begin = positions.windows[number].begin;
        WorstPosition worst = {number,
                               row - begin,
                               line.divergence[rows[i]],
                               positions.next[rows[i]],
                               source.top[rows[i]],
                               line.top[rows[i]],
                               {}};
        worst.context.assign(ids.begin() + std::max(begin, row + 1 - shown), ids.begin() + row + 1);
        out.push_back(std::move(worst));
    }
    return out;
}

} // namespace gnv::evaluate
