// Gates: limits for the figures of a checkpoint, absolute and against the report of another.
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
    activations, // inputs alone, with the source's weights
    bf16,        // the source in BF16 arithmetic: the effect of rounding alone
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
    bool passed = true, flagged = false; // flagged: implausible, and without a limit
    double value = 0, limit = 0;
    std::string text; // a sentence
};

// One line of another report.
struct Baseline {
    std::string data_sha256, precision, source_fingerprint;
    std::vector<WindowSums> windows;
    std::vector<double> added; // by layer
};

// Reads `line` of the report in a file; without `line`, its first line.
Result<Baseline> read_baseline(const std::string & path, std::optional<Line> line);
// Fails unless the report has the same text, arithmetic and source ("": not known yet).
Status check_baseline(const std::string & path, const Baseline & baseline, const std::string & data_sha256,
                      Precision precision, const std::string & source_fingerprint);

struct Evaluation;
struct LineReport;

// The line that the gates use: W4A4, else W4A16, else the first.
const LineReport * gated_line(const Evaluation & evaluation);
// Adds to evaluation.gates. `baseline`: the gated line in gates.baseline; null: no baseline.
Status judge(const Gates & gates, const Baseline * baseline, Evaluation & evaluation);

// 95 % interval of sum(a - b) / sum(n) over windows, drawn anew 10,000 times with a fixed seed.
struct Interval {
    double low = 0, high = 0;
};
Interval bootstrap(const std::vector<double> & differences, const std::vector<double> & weights);

} // namespace gnv::evaluate
