// What the answers of a checkpoint say beside those of its source.
#include "canary/canary.h"
#include "canary/sign_test.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gnv::canary {

static void measure(LineAnswers & line, const LineAnswers & source) {
    std::vector<int64_t> length, capped, repeating;
    int64_t tokens = 0, source_tokens = 0;
    for (size_t i = 0; i < line.answers.size(); i++) {
        const Answer &here = line.answers[i], &there = source.answers[i];
        tokens += int64_t(here.ids.size()), source_tokens += int64_t(there.ids.size());
        line.capped += here.capped, line.repeating += here.repeats;
        line.equal += here.ids == there.ids && here.capped == there.capped;
        length.push_back(int64_t(here.ids.size()) - int64_t(there.ids.size()));
        capped.push_back(int64_t(here.capped) - int64_t(there.capped));
        repeating.push_back(int64_t(here.repeats) - int64_t(there.repeats));
    }
    line.mean_tokens = double(tokens) / std::max(1.0, double(line.answers.size()));
    if (tokens != source_tokens)
        line.growth =
            source_tokens > 0 ? double(tokens) / double(source_tokens) : std::numeric_limits<double>::infinity();
    line.chance_of_length = chance_of_sum(length);
    line.chance_of_capped = chance_of_sum(capped);
    line.chance_of_repeating = chance_of_sum(repeating);
}

static std::string odds_text(double chance) {
    return concat("; of checkpoints as good as the source ",
                  chance < 1e-4 ? "fewer than 1 in 10,000" : concat("1 in ", count_text(uint64_t(1 / chance))),
                  " do so");
}

static std::string growth_text(const LineAnswers & line, const LineAnswers & source) {
    return concat("answers of ", line_name(line.line), " have ", fixed_text(line.mean_tokens, 1),
                  " tokens in the mean, those of the source ", fixed_text(source.mean_tokens, 1), " (x ",
                  fixed_text(line.growth, 3), ")");
}

// The line that the gates use: W4A4, else W4A16.
static void add_gates(std::optional<double> max_growth, const LineAnswers & line, Canary & canary) {
    const LineAnswers & source = canary.lines.front();
    const auto add = [&](const char * name, bool passed, bool flagged, double value, double limit, std::string text) {
        canary.gates.push_back({name, passed, flagged, value, limit, std::move(text)});
    };
    if (max_growth)
        add("canary-growth", line.growth <= *max_growth, false, line.growth, *max_growth,
            concat(growth_text(line, source), "; at most x ", *max_growth, " is allowed"));
    else if (line.chance_of_length <= level && line.growth >= least_growth)
        add("canary-length", true, true, line.growth, least_growth,
            growth_text(line, source) + odds_text(line.chance_of_length));
    const double count = double(line.answers.size());
    const auto add_share = [&](const char * name, uint64_t here, uint64_t there, double chance, const char * what) {
        if (chance <= level)
            add(name, true, true, double(here) / count, double(there) / count,
                concat(count_text(here), " of ", count_text(line.answers.size()), " answers of ", line_name(line.line),
                       " ", what, ", and ", count_text(there), " of the source", odds_text(chance)));
    };
    add_share("canary-capped", line.capped, source.capped, line.chance_of_capped,
              concat("do not end within ", canary.max_tokens, " tokens").c_str());
    add_share("canary-repetition", line.repeating, source.repeating, line.chance_of_repeating, "repeat themselves");
}

void judge(std::optional<double> max_growth, Canary & canary) {
    if (canary.lines.empty()) return;
    for (LineAnswers & line : canary.lines) measure(line, canary.lines.front());
    if (canary.lines.size() > 1) add_gates(max_growth, canary.lines[1], canary);
}

} // namespace gnv::canary
