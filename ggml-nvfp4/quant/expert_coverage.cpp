#include "quant/expert_coverage.h"

#include <algorithm>

namespace gnv {

ExpertCoverage expert_coverage(const StatisticSet & totals, uint64_t least) {
    ExpertCoverage out;
    for (int32_t layer = 0; layer < totals.layers(); layer++) {
        const std::span<const int64_t> tokens = totals.tokens_per_expert(layer);
        const auto below = uint64_t(
            std::count_if(tokens.begin(), tokens.end(), [&](int64_t count) { return uint64_t(count) < least; }));
        out.experts += tokens.size();
        out.silent += uint64_t(std::count(tokens.begin(), tokens.end(), 0));
        out.below += below;
        if (below > 0) out.layers.push_back({layer, below});
    }
    return out;
}

static std::string share_text(uint64_t part, uint64_t all) {
    return concat(count_text(part), " of ", count_text(all), " experts (",
                  number_text(100 * double(part) / double(std::max<uint64_t>(all, 1)), 2), " %)");
}

// Those of the layers with most.
static std::string layers_text(std::vector<ExpertCoverage::Layer> layers) {
    constexpr size_t shown = 8;
    std::stable_sort(layers.begin(), layers.end(), [](const auto & a, const auto & b) { return a.below > b.below; });
    std::string out;
    for (size_t i = 0; i < std::min(shown, layers.size()); i++)
        out += concat(i > 0 ? ", " : "", "layer ", layers[i].layer, ": ", layers[i].below);
    if (layers.size() > shown)
        out += concat(", and ", layers.size() - shown, layers.size() == shown + 1 ? " more layer" : " more layers");
    return out;
}

std::string coverage_warning(const ExpertCoverage & coverage, ExpertTokens tokens) {
    constexpr double worth_a_word = 0.01;
    if (coverage.experts == 0 || double(coverage.silent) < worth_a_word * double(coverage.experts)) return "";
    return concat(share_text(coverage.silent, coverage.experts),
                  " saw no token of the calibration data; their input scales ",
                  tokens == ExpertTokens::routed ? "are the largest of their layer"
                                                 : "come from tokens that the router sent to others",
                  ". Give more data, or data like those that the model will see (--min-expert-tokens N makes this an "
                  "error)");
}

Status check_coverage(const ExpertCoverage & coverage, uint64_t least) {
    if (coverage.below == 0) return {};
    return fail(Code::bad_value, share_text(coverage.below, coverage.experts), " saw fewer than ", count_text(least),
                least == 1 ? " token" : " tokens", " of the calibration data, ", count_text(coverage.silent),
                " of them none (", layers_text(coverage.layers),
                "): give more data or longer sequences, or a smaller --min-expert-tokens");
}

} // namespace gnv
