// Input scales against what the inputs of Linears really are: measured anew on the data of the comparison.
#pragma once

#include "model/text_model.h"

#include <cstdint>
#include <vector>

namespace gnv::evaluate {

// The Linears of one role in one layer: one, or one each expert.
struct InputFigures {
    int32_t layer = 0;
    Role role = Role::extra;
    uint64_t modules = 0;
    uint64_t unmeasured = 0; // experts that no token reached
    uint64_t clipped = 0;    // whose largest input is beyond what the scale can express: 448 x 6 / input scale
    // Of the inputs' values, how many are beyond; counted to an eighth of an octave, the eighth in which the limit lies in
    // proportion. Inputs of experts' gate and up are counted as if every expert saw every token.
    double clipped_values = 0;
    uint64_t values = 0;
    // 2688 / (input scale x largest input): below 1 the largest values are clipped, far above 1 small ones get lost. Of
    // those measured; 0 when none is.
    double least_room = 0, largest_room = 0;
    int32_t expert_of_least = -1, expert_of_largest = -1;
    double spread = 1; // largest input scale / least
    // There is a scale with suspicious room that is no matter of an expert's few tokens: the only one of its role, or far
    // below the middle one of the layer.
    bool odd_scale = false;
};

struct InputReport {
    std::vector<InputFigures> roles; // by layer, then role; empty without input scales
    struct Layer {
        uint64_t experts_without_tokens = 0, least_tokens = 0, most_tokens = 0; // of one expert
    };
    std::vector<Layer> layers; // empty in models without experts
};

constexpr double suspicious_room = 32; // five of the fifteen octaves that block scales have, for nothing

// `scales`: one, or of every expert.
InputFigures compare_role(Role role, int32_t layer, const std::vector<float> & scales, const StatisticSet & measured);
InputReport compare_inputs(const InputScales & scales, const StatisticSet & measured);

} // namespace gnv::evaluate
