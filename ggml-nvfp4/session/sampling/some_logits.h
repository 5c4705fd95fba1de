// Logits of one position: of all ids, or the largest ones alone, which a device found.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace gnv {

struct SomeLogits {
    std::vector<float> logits;
    std::vector<int32_t>
        ids; // of the logits, in any order; every other id that is allowed has a smaller one. Empty: all are here
    bool all() const { return ids.empty(); }
};

struct LargestLogit { // of one text
    int32_t id = -1;  // -1: none is allowed
    float logit = 0;
};

// Whether a choice from these is a choice from all.
using IsEnough = std::function<bool(const SomeLogits &)>;

} // namespace gnv
