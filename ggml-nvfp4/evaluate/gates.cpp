#include "evaluate/gates.h"

#include "evaluate/evaluation.h"
#include "formats/json.h"

#include <algorithm>
#include <cmath>

namespace gnv::evaluate {

static const char * const names[] = {"W4A4", "W4A16", "activations only", "BF16 source"};
static const char * const keys[] = {"w4a4", "w4a16", "activations", "bf16"};

const char * line_name(Line line) { return names[size_t(line)]; }
const char * line_key(Line line) { return keys[size_t(line)]; }

const LineReport * gated_line(const Evaluation & evaluation) {
    for (const Line line : {Line::w4a4, Line::w4a16})
        if (const LineReport * const report = evaluation.find(line)) return report;
    return evaluation.lines.empty() ? nullptr : &evaluation.lines.front();
}

Interval bootstrap(const std::vector<double> & differences, const std::vector<double> & weights) {
    constexpr int draws = 10000;
    uint64_t state = 0;
    const auto next = [&] { // SplitMix64
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    };
    const uint64_t count = differences.size();
    if (count == 0) return {};
    std::vector<double> means(draws);
    for (double & mean : means) {
        double sum = 0, weight = 0;
        for (uint64_t i = 0; i < count; i++) {
            const auto chosen = size_t((next() >> 32) * count >> 32);
            sum += differences[chosen];
            weight += weights[chosen];
        }
        mean = weight > 0 ? sum / weight : 0;
    }
    std::sort(means.begin(), means.end());
    return {means[size_t(draws * 0.025)], means[size_t(draws * 0.975)]};
}

Result<Baseline> read_baseline(const std::string & path, std::optional<Line> line) {
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(path, uint64_t(1) << 30));
    JsonValue root = document.root(), inner;
    if (root.find("output", inner)) root = inner; // a report of verify holds such a report
    JsonValue schema;
    if (!root.is_object() || !root.find("schema", schema))
        return fail(Code::format, path, ": names no schema; give a report that verify --data --json wrote");
    GNV_ASSIGN(const std::string_view name, schema.as_string());
    if (name != "ggml-nvfp4.evaluation.1")
        return fail(Code::format, path, ": is ", printable(name),
                    ", not a report of schema ggml-nvfp4.evaluation.1; give one that verify --data --json wrote");
    Baseline out;
    const auto text = [&](const char * key, std::string & to) -> Status {
        GNV_ASSIGN(const JsonValue value, root.get(key));
        GNV_ASSIGN(const std::string_view content, value.as_string());
        to = content;
        return {};
    };
    GNV_TRY(text("data_sha256", out.data_sha256));
    GNV_TRY(text("precision", out.precision));
    GNV_TRY(text("source_fingerprint", out.source_fingerprint));
    GNV_ASSIGN(const JsonValue lines, root.get("lines"));
    JsonValue found;
    for (size_t i = 0; !line && i < size_t(Line::count_); i++)
        if (lines.find(keys[i], found)) line = Line(i);
    GNV_ASSIGN(found, lines.get(line_key(line.value_or(Line::w4a4))));
    GNV_ASSIGN(const JsonValue windows, found.get("windows"));
    const Status status = windows.for_each_element([&](size_t, const JsonValue & window) -> Status {
        WindowSums sums;
        const auto number = [&](const char * key, double & to) -> Status {
            GNV_ASSIGN(const JsonValue value, window.get(key));
            GNV_ASSIGN(to, value.as_double());
            return {};
        };
        const auto count = [&](const char * key, uint64_t & to) -> Status {
            GNV_ASSIGN(const JsonValue value, window.get(key));
            GNV_ASSIGN(const int64_t content, value.as_int());
            to = uint64_t(content);
            return {};
        };
        GNV_TRY(count("positions", sums.positions));
        GNV_TRY(count("predictions", sums.predictions));
        GNV_TRY(number("kl", sums.divergence));
        GNV_TRY(number("nll", sums.nll));
        out.windows.push_back(sums);
        return {};
    });
    if (!status.ok()) return copy_of(status);
    GNV_ASSIGN(const JsonValue layers, found.get("layers"));
    const Status layer_status = layers.for_each_element([&](size_t, const JsonValue & layer) -> Status {
        GNV_ASSIGN(const JsonValue added, layer.get("added"));
        GNV_ASSIGN(out.added.emplace_back(), added.as_double());
        return {};
    });
    if (!layer_status.ok()) return copy_of(layer_status);
    return out;
}

static Status about_other_data(const std::string & path) {
    return fail(Code::invalid_argument, path, " is about other data; use the same --data and lengths");
}

Status check_baseline(const std::string & path, const Baseline & baseline, const std::string & data_sha256,
                      Precision precision, const std::string & source_fingerprint) {
    if (baseline.data_sha256 != data_sha256) return about_other_data(path);
    if (baseline.precision != precision_name(precision))
        return fail(Code::invalid_argument, path, " was computed in another precision, ", printable(baseline.precision),
                    "; this run computes in ", precision_name(precision), ": use the same --precision");
    if (!source_fingerprint.empty() && baseline.source_fingerprint != source_fingerprint)
        return fail(Code::invalid_argument, path, " compares with another source");
    return {};
}

namespace {

// The layer to examine first.
std::string point_at(const LineReport & line, const std::vector<double> & before = {}) {
    const bool compared = !before.empty() && before.size() == line.layers.size();
    const int32_t layer = compared ? worst_layer(line.layers, before) : worst_layer(line.layers);
    if (layer < 0) return "";
    std::string text = concat("; layer ", layer, " adds ", fixed_text(100 * line.layers[size_t(layer)].added, 3),
                              " % of squared error to the hidden states, ");
    text += compared ? concat(fixed_text(100 * before[size_t(layer)], 3), " % in the baseline") : "more than any other";
    return text;
}

void add_limit(Evaluation & evaluation, const LineReport & line, const char * gate, const char * what, double value,
               const std::optional<double> & limit, bool at_least) {
    if (!limit) return;
    GateResult result;
    result.gate = gate;
    result.value = value;
    result.limit = *limit;
    result.passed = at_least ? value >= *limit : value <= *limit; // a NaN fails
    result.text = concat(what, " of ", line_name(line.line), " is ", fixed_text(value, 6), ", ",
                         at_least ? "at least " : "at most ", *limit, " is required");
    if (!result.passed) result.text += point_at(line);
    evaluation.gates.push_back(std::move(result));
}

Status add_baseline(const std::string & path, const Baseline & baseline, Evaluation & evaluation,
                    const LineReport & line) {
    if (baseline.windows.size() != line.windows.size()) return about_other_data(path);
    std::vector<double> divergence, positions, nll, predictions;
    double total = 0, before = 0, count = 0, log_ratio = 0, predicted = 0;
    for (size_t w = 0; w < line.windows.size(); w++) {
        const WindowSums &now = line.windows[w], &then = baseline.windows[w];
        if (now.positions != then.positions || now.predictions != then.predictions)
            return fail(Code::format, path, ": window ", w, " has ", then.positions, " positions, not ", now.positions);
        divergence.push_back(now.divergence - then.divergence);
        positions.push_back(double(now.positions));
        nll.push_back(now.nll - then.nll);
        predictions.push_back(double(now.predictions));
        total += divergence.back(), before += then.divergence, count += positions.back();
        log_ratio += nll.back(), predicted += predictions.back();
    }
    const double difference = total / std::max(1.0, count), base = before / std::max(1.0, count);
    const Interval interval = bootstrap(divergence, positions), ratio = bootstrap(nll, predictions);
    GateResult result;
    result.gate = "baseline";
    result.value = difference;
    result.passed = !(interval.low > 0) && std::isfinite(difference);
    result.text =
        concat("mean KL divergence of ", line_name(line.line), " against the baseline: ", difference < 0 ? "" : "+",
               fixed_text(difference, 6), " (", difference < 0 ? "" : "+",
               fixed_text(base > 0 ? 100 * difference / base : 0, 2), " %), 95 % of redrawn windows from ",
               fixed_text(interval.low, 6), " to ", fixed_text(interval.high, 6));
    if (!result.passed) result.text += concat(": worse", point_at(line, baseline.added));
    evaluation.gates.push_back(result);

    result.gate = "baseline-perplexity";
    result.value = std::exp(log_ratio / std::max(1.0, predicted));
    result.limit = 1;
    result.passed = !(ratio.low > 0) && std::isfinite(result.value);
    result.text = concat("perplexity of ", line_name(line.line),
                         " / that of the baseline: ", fixed_text(result.value, 6), ", 95 % of redrawn windows from ",
                         fixed_text(std::exp(ratio.low), 6), " to ", fixed_text(std::exp(ratio.high), 6));
    if (!result.passed) result.text += concat(": worse", point_at(line, baseline.added));
    evaluation.gates.push_back(result);
    if (difference < -0.5 * base && interval.high < 0) {
        result = {"plausible", true, true, difference / base, -0.5, ""};
        result.text = "less than half of the baseline's divergence: is DST quantized like the baseline's checkpoint?";
        evaluation.gates.push_back(result);
    }
    return {};
}

} // namespace

static std::string describe(const InputFigures & figures) {
    const std::string expert = figures.expert_of_largest >= 0 ? concat(" of expert ", figures.expert_of_largest) : "";
    return concat("layer ", figures.layer, ": the input scale of ", role_traits(figures.role).name, expert,
                  " leaves room for ", fixed_text(figures.largest_room, 1), " times the largest input");
}

// A scale that is far too small costs little for even inputs and much for uneven ones, so it has a gate of its own.
static void judge_inputs(const Gates & gates, Evaluation & evaluation) {
    const InputFigures * worst = nullptr;
    for (const InputFigures & figures : evaluation.inputs.roles) {
        if (!worst || figures.largest_room > worst->largest_room) worst = &figures;
        if (!gates.max_room && figures.odd_scale)
            evaluation.gates.push_back({"input-scales", true, true, figures.largest_room, suspicious_room,
                                        describe(figures) + ": was it measured?"});
    }
    if (!gates.max_room || !worst) return;
    evaluation.gates.push_back({"max-room", worst->largest_room <= *gates.max_room, false, worst->largest_room,
                                *gates.max_room,
                                concat(describe(*worst), ", at most ", *gates.max_room, " are allowed")});
}

Status judge(const Gates & gates, const Baseline * baseline, Evaluation & evaluation) {
    const LineReport * const line = gated_line(evaluation);
    if (!line) return {};
    judge_inputs(gates, evaluation);
    const double ratio = Figures::exponential(line->all.log_ratio).mean;
    add_limit(evaluation, *line, "max-kl", "mean KL divergence", line->all.divergence.mean, gates.max_divergence,
              false);
    add_limit(evaluation, *line, "min-top1", "the share of positions with the same top token", line->all.same_top.mean,
              gates.min_same_top, true);
    add_limit(evaluation, *line, "max-ppl-ratio", "the ratio of perplexities", ratio, gates.max_perplexity_ratio,
              false);
    if (baseline) GNV_TRY(add_baseline(gates.baseline, *baseline, evaluation, *line));
    // Quantization loses accuracy: a checkpoint that predicts this much better was trained further, or is of another
    // model.
    if (ratio < 0.95 && line->all.log_ratio.mean + 2 * line->all.log_ratio.error < 0)
        evaluation.gates.push_back({"plausible", true, true, ratio, 0.95,
                                    concat("perplexity of ", line_name(line->line), " is ", fixed_text(ratio, 4),
                                           " times the source's: is SRC really the source of DST?")});
    return {};
}

} // namespace gnv::evaluate
