// Input scales against the inputs of Linears on the data of the comparison.
#pragma once

#include "model/text_model.h"

#include <cstdint>
#include <vector>

namespace gnv::evaluate {

// The Linears of one role in one layer: one, or one for each expert.
struct InputFigures {
    int32_t layer = 0;
    Role role = Role::extra;
    uint64_t modules = 0;
    uint64_t unmeasured = 0; // experts without tokens
    uint64_t clipped = 0;    // modules whose largest input exceeds the range of the scale, 448 x 6 / input scale
    // Values of the inputs beyond the range, counted by eighths of an octave; the eighth that holds the limit counts in
    // proportion. Inputs of experts' gate and up are counted as if every expert saw every token.
    double clipped_values = 0;
    uint64_t values = 0;
    // 2688 / (input scale x largest input): below 1 the largest values are clipped, far above 1 small ones are lost.
    // Over the measured modules; 0 without any.
    double least_room = 0, largest_room = 0;
    int32_t expert_of_least = -1, expert_of_largest = -1;
    double spread = 1; // largest input scale / least
    // A scale has suspicious room that an expert's few tokens do not explain: the only one of its role, or far below
    // the median of the layer.
    bool odd_scale = false;
};

struct InputReport {
    std::vector<InputFigures> roles; // by layer, then role; empty without input scales
    struct Layer {
        uint64_t experts_without_tokens = 0, least_tokens = 0, most_tokens = 0; // of one expert
        std::vector<int64_t> tokens;                                            // of each expert
    };
    std::vector<Layer> layers; // empty in models without experts
};

constexpr double suspicious_room = 32; // wastes five of the fifteen octaves of block scales

// `scales`: one, or of every expert.
InputFigures compare_role(Role role, int32_t layer, const std::vector<float> & scales, const StatisticSet & measured);
InputReport compare_inputs(const InputScales & scales, const StatisticSet & measured);

} // namespace gnv::evaluate
