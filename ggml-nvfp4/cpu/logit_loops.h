// Rows of logits and how two of them differ: see cpu/logit_loops_table.h.
#include "cpu/exact_math.h"

namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

inline double sum_of_16_doubles(const double * partial) {
    double eight[8], four[4];
    for (int i = 0; i < 8; i++) eight[i] = partial[i] + partial[i + 8];
    for (int i = 0; i < 4; i++) four[i] = eight[i] + eight[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

// term(c) for all columns, summed up.
template <class Term>
inline double sum_of_terms(int64_t count, const Term & term) {
    double partial[16] = {};
    int64_t c = 0;
    for (; c + 16 <= count; c += 16)
        for (int i = 0; i < 16; i++) partial[i] += term(c + i);
    for (int i = 0; c + i < count; i++) partial[i] += term(c + i);
    return sum_of_16_doubles(partial);
}

inline void summarize_logits(const float * x, int64_t count, double * exponentials, LogitSummary * summary) {
    float largest[16];
    for (int i = 0; i < 16; i++) largest[i] = x[0];
    int64_t c = 0;
    for (; c + 16 <= count; c += 16)
        for (int i = 0; i < 16; i++) largest[i] = x[c + i] > largest[i] ? x[c + i] : largest[i];
    for (int i = 0; c + i < count; i++) largest[i] = x[c + i] > largest[i] ? x[c + i] : largest[i];
    float maximum = largest[0];
    for (int i = 1; i < 16; i++) maximum = largest[i] > maximum ? largest[i] : maximum;
    summary->maximum = maximum;
    summary->top = 0;
    while (summary->top + 1 < count && !(x[summary->top] == maximum)) summary->top++;
    const double shift = maximum;
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) exponentials[i] = exact::exp(double(x[i]) - shift);
    summary->sum = sum_of_terms(count, [&](int64_t i) { return exponentials[i]; });
}

inline double weighted_difference(const double * weights, const float * p, const float * q, int64_t count) {
    return sum_of_terms(count, [&](int64_t i) { return weights[i] * (double(p[i]) - double(q[i])); });
}

inline void difference_squares(const float * x, const float * y, int64_t count, double * signal, double * noise) {
    *signal = sum_of_terms(count, [&](int64_t i) { return double(x[i]) * double(x[i]); });
    *noise = sum_of_terms(count, [&](int64_t i) {
        const double difference = double(x[i]) - double(y[i]);
        return difference * difference;
    });
}

constexpr LogitLoops logit_loops = {summarize_logits, weighted_difference, difference_squares};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
