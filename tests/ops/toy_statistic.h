// A statistic that the library does not have, made of a row alone: the sum of each column, from which a mean comes.
#pragma once

#include "graph/statistic.h"

namespace gnv::test {

inline constexpr Statistic toy_sum = {
    // f64 [G, K]
    .name = "toy sum",
    .dtype = DType::f64,
    .shape = [](int64_t width) { return Shape{width}; },
    .merge = Statistic::Merge::sum,
    .add =
        [](const float * row, int64_t width, void * total) {
            for (int64_t i = 0; i < width; i++) static_cast<double *>(total)[i] += double(row[i]);
        },
};

} // namespace gnv::test
