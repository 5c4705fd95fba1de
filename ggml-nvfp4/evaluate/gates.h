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

// What another report says about one of its lines.
struct Baseline {
    std::string data_sha256, precision, source_fingerprint;
    std::vector<WindowSums> windows;
    std::vector<double> added; // by layer
};

// Of the file's report on `line`, or without one on the first line that it has.
Result<Baseline> read_baseline(const std::string & path, std::optional<Line> line);
// Is it about the same text in the same arithmetic, and about the same source, where that is known ("": not yet)?
Status check_baseline(const std::string & path, const Baseline & baseline, const std::string & data_sha256,
                      Precision precision, const std::string & source_fingerprint);

struct Evaluation;
struct LineReport;

// The line that gates look at: W4A4, else W4A16, else the first.
const LineReport * gated_line(const Evaluation & evaluation);
// Adds to evaluation.gates. `baseline`: what gates.baseline says about the gated line; null: there is none.
Status judge(const Gates & gates, const Baseline * baseline, Evaluation & evaluation);

// 95 % interval of sum(a - b) / sum(n) over windows, drawn anew 10,000 times with a fixed seed.
struct Interval {
    double low = 0, high = 0;
};
Interval bootstrap(const std::vector<double> & differences, const std::vector<double> & weights);

} // namespace gnv::evaluate
