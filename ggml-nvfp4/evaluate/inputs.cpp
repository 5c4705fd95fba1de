#include "evaluate/inputs.h"

#include <algorithm>
#include <cmath>

namespace gnv::evaluate {

static constexpr double largest_value = 448.0 * 6; // of a block scale times a code

// The number of values in `bins` above the limit.
static double count_beyond(const int64_t * bins, double limit) {
    double beyond = 0;
    for (int64_t b = magnitude_bins; b-- > 0;) {
        const double octave = std::ldexp(1.0, int(b / 8) - 16);
        const double low = octave * (1 + double(b % 8) / 8), high = octave * (1 + double(b % 8 + 1) / 8);
        if (high <= limit) break;
        beyond += double(bins[b]) * (low >= limit ? 1 : (high - limit) / (high - low));
    }
    return beyond;
}

InputFigures compare_role(Role role, int32_t layer, const std::vector<float> & scales, const StatisticSet & measured) {
    InputFigures out;
    out.layer = layer;
    out.role = role;
    out.modules = scales.size();
    std::vector<float> sorted = scales;
    std::sort(sorted.begin(), sorted.end());
    const double middle = double(sorted[sorted.size() / 2]);
    const int32_t input = measured.names()->input_of(role);
    const bool per_expert = input >= 0 && measured.names()->inputs[size_t(input)].per_expert;
    const std::span<const float> maxima = measured.maxima(layer, input);
    const auto magnitudes = measured.find<int64_t>({Part::text, layer, input, &Statistic::magnitudes});
    for (size_t i = 0; i < scales.size(); i++) {
        const size_t group = per_expert ? i : 0; // gate and up of all experts read one input
        const double largest = group < maxima.size() ? double(maxima[group]) : 0;
        if (largest <= 0) {
            out.unmeasured++;
            continue;
        }
        if (!magnitudes.empty()) {
            const int64_t * const bins = magnitudes.data() + group * magnitude_bins;
            // no value exceeds a limit above the largest
            if (largest > largest_value / double(scales[i]))
                out.clipped_values += count_beyond(bins, largest_value / double(scales[i]));
            for (int64_t b = 0; b < magnitude_bins; b++) out.values += uint64_t(bins[b]);
        }
        const double room = largest_value / (double(scales[i]) * largest);
        const auto expert = int32_t(scales.size() > 1 ? i : -1);
        out.clipped += room < 1;
        out.odd_scale |= room > suspicious_room && (expert < 0 || double(scales[i]) * suspicious_room < middle);
        if (out.least_room == 0 || room < out.least_room) out.least_room = room, out.expert_of_least = expert;
        if (room > out.largest_room) out.largest_room = room, out.expert_of_largest = expert;
    }
    out.spread = double(sorted.back()) / double(sorted.front());
    return out;
}

InputReport compare_inputs(const InputScales & scales, const StatisticSet & measured) {
    InputReport report;
    for (int32_t layer = 0; layer < measured.layers(); layer++) {
        for (const auto & [key, list] : scales.values())
            if (key.layer == layer) report.roles.push_back(compare_role(key.role, layer, list, measured));
        const std::span<const int64_t> tokens = measured.tokens_per_expert(layer);
        if (tokens.empty()) continue;
        const auto [least, most] = std::minmax_element(tokens.begin(), tokens.end());
        report.layers.push_back({uint64_t(std::count(tokens.begin(), tokens.end(), 0)),
                                 uint64_t(*least),
                                 uint64_t(*most),
                                 {tokens.begin(), tokens.end()}});
    }
    return report;
}

} // namespace gnv::evaluate
