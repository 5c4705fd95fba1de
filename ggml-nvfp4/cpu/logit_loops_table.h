#pragma once

#include <stdint.h>

namespace gnv::cpu {

struct LogitSummary {
    float maximum = 0;
    int64_t top = 0; // where it is first
    double sum = 0;  // of exp(logit - maximum); NaN when a logit is NaN or +Inf
};

// Sums over a row of logits for the comparison of two predictions. In double; sums run in 16 partial sums (column c
// goes to c mod 16), added pairwise: i with i + 8, + 4, + 2, + 1.
struct LogitLoops {
    // exponentials [count]: exp(x - maximum)
    void (*summarize)(const float * x, int64_t count, double * exponentials, LogitSummary * summary);
    // sum over c of weights[c] * (p[c] - q[c])
    double (*weighted_difference)(const double * weights, const float * p, const float * q, int64_t count);
    // sum of x^2, and of (x - y)^2
    void (*squares)(const float * x, const float * y, int64_t count, double * signal, double * noise);
};

} // namespace gnv::cpu
