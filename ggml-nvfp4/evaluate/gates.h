// Limits that a checkpoint must keep, in itself and against the report of another.
#pragma once

#include "evaluate/figures.h"

#include <optional>
#include <string>
#include <vector>

namespace gnv::evaluate {

// A line of the comparison: a checkpoint and an arithmetic.
enum class Line : uint8_t {
    w4a4,        // weights and inputs in NVFP4, as Blackwell kernels compute
    w4a16,       // weights alone
    activations, // inputs alone: the source's weights
    bf16,        // the source in BF16 arithmetic: how much of the distance is rounding
    count_
};
const char * line_name(Line line); // for people
const char * line_key(Line line);  // for programs

struct Gates {
    std::optional<double> max_divergence, min_same_top, max_perplexity_ratio;
    std::optional<double> max_room; // of an input scale, see inputs.h
    std::string baseline;           // path of a report; empty: none
};

struct GateResult {
    std::string gate;                    // "max-kl"
    bool passed = true, flagged = false; // flagged: hard to believe, and nobody set a limit
    double value = 0, limit = 0;
    std::string text; // a sentence
};

struct Evaluation;
struct LineReport;

// The line that gates look at: W4A4, else W4A16, else the first.
const LineReport * gated_line(const Evaluation & evaluation);
// Adds to evaluation.gates. Fails when the baseline cannot be read or is about something else.
Status judge(const Gates & gates, Evaluation & evaluation);

// 95 % interval of sum(a - b) / sum(n) over windows, drawn anew 10,000 times with a fixed seed.
struct Interval {
    double low = 0, high = 0;
};
Interval bootstrap(const std::vector<double> & differences, const std::vector<double> & weights);

} // namespace gnv::evaluate
