// A test of paired numbers that assumes nothing about their distribution.
#pragma once

#include <cstdint>
#include <span>

namespace gnv::canary {

// The probability of a sum of differences as large as this one or larger if the sign of each were drawn anew, both signs alike:
// Fisher's paired permutation test, one-sided, by the exact distribution. For differences of -1, 0 and 1 it is McNemar's exact
// test. 1 without a difference. Differences whose sum of magnitudes exceeds 2^20 are rounded to a coarser unit.
double chance_of_sum(std::span<const int64_t> differences);

} // namespace gnv::canary
