// How many tokens of the calibration data the router sent to each expert, as statements for people.
#pragma once

#include "core/status.h"
#include "model/statistic_set.h"
#include "model/text_model.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

struct ExpertCoverage {
    uint64_t experts = 0; // of all layers; 0: the model has none, or nothing was counted
    uint64_t silent = 0;  // without a token
    uint64_t below = 0;   // with fewer than `least`
    struct Layer {
        int32_t layer = 0;
        uint64_t below = 0;
    };
    std::vector<Layer> layers; // with experts below, ascending
};

// `least`: the number of tokens that every expert should have, at least 1.
ExpertCoverage expert_coverage(const StatisticSet & totals, uint64_t least);

// "118 of 256 experts (46 %) saw no token of the calibration data ...", from 1 % on; else empty.
std::string coverage_warning(const ExpertCoverage & coverage, ExpertTokens tokens);

// Code::bad_value, with counts by layer, if an expert has fewer tokens than `least`.
Status check_coverage(const ExpertCoverage & coverage, uint64_t least);

} // namespace gnv
