// The report for people: a table on the terminal, and Markdown for a model card, with the names and the order of
// llama.cpp's perplexity --kl-divergence.
#include "core/strings.h"
#include "core/table.h"
#include "evaluate/evaluation.h"
#include "evaluate/sensitivity.h"

#include <cmath>
#include <functional>

namespace gnv::evaluate {

namespace {

using Row = std::vector<std::string>;

std::string number(double value, int digits) {
    if (!std::isfinite(value)) return std::isnan(value) ? "-" : "exact";
    return fixed_text(value, digits);
}

std::string estimate(const Estimate & estimate, int digits, double factor = 1) {
    return concat(number(estimate.mean * factor, digits), " ± ", number(estimate.error * factor, digits));
}

// Figures of all lines, one column each.
class FigureTable {
  public:
    explicit FigureTable(const Evaluation & evaluation) : evaluation_(evaluation) {
        Row head = {""};
        for (const LineReport & line : evaluation.lines) head.push_back(line_name(line.line));
        rows_.push_back(std::move(head));
    }
    using Cell = std::function<std::string(const LineReport & line)>;
    void add(const std::string & name, const Cell & cell) {
        Row row = {name};
        for (const LineReport & line : evaluation_.lines) row.push_back(cell(line));
        rows_.push_back(std::move(row));
    }
    void section(const std::string & name) {
        rows_.push_back({""});
        rows_.push_back({name});
    }
    std::string text(size_t width) const {
        std::vector<bool> right(evaluation_.lines.size() + 1, true);
        right[0] = false;
        return format_table(rows_, right, width);
    }
    std::string markdown() const {
        std::string out;
        for (size_t r = 0; r < rows_.size(); r++) {
            if (rows_[r].size() < 2) continue;
            for (const std::string & cell : rows_[r]) out += "| " + cell + " ";
            out += "|\n";
            if (r > 0) continue;
            out += "|---|";
            for (size_t i = 1; i < rows_[0].size(); i++) out += "---:|";
            out += "\n";
        }
        return out;
    }

  private:
    const Evaluation & evaluation_;
    std::vector<Row> rows_;
};

constexpr const char * percentile_names[percentile_count] = {"Minimum", " 0.1%",  " 1.0%",  " 5.0%", "10.0%",
                                                             "25.0%",   "Median", "75.0%",  "90.0%", "95.0%",
                                                             "99.0%",   "99.9%",  "Maximum"};

void add_perplexity(FigureTable & table) {
    table.add("Mean PPL(Q)", [](const auto & l) { return estimate(Figures::exponential(l.all.nll), 4); });
    table.add("Mean PPL(base)", [](const auto & l) { return estimate(Figures::exponential(l.all.source_nll), 4); });
    table.add("Cor(ln(PPL(Q)), ln(PPL(base)))",
              [](const auto & l) { return number(100 * l.all.correlation, 2) + "%"; });
    table.add("Mean ln(PPL(Q)/PPL(base))", [](const auto & l) { return estimate(l.all.log_ratio, 6); });
    table.add("Mean PPL(Q)/PPL(base)",
              [](const auto & l) { return estimate(Figures::exponential(l.all.log_ratio), 6); });
    table.add("Mean PPL(Q)-PPL(base)", [](const auto & l) {
        return number(Figures::exponential(l.all.nll).mean - Figures::exponential(l.all.source_nll).mean, 4);
    });
}

void add_divergence(FigureTable & table) {
    table.add("Mean    KLD", [](const auto & l) { return estimate(l.all.divergence, 6); });
    for (size_t p = percentile_count; p-- > 0;) {
        if (percentile_points[p] == 0.25 || percentile_points[p] == 0.75) continue;
        table.add(concat(percentile_names[p], percentile_names[p][0] == 'M' ? " KLD" : "   KLD"),
                  [p](const auto & l) { return number(l.all.divergence_at[p], 6); });
    }
}

void add_probabilities(FigureTable & table) {
    table.add("Mean    Δp", [](const auto & l) { return estimate(l.all.probability, 3, 100) + " %"; });
    for (size_t p = percentile_count; p-- > 0;)
        table.add(concat(percentile_names[p], percentile_names[p][0] == 'M' ? " Δp" : "   Δp"),
                  [p](const auto & l) { return number(100 * l.all.probability_at[p], 3) + " %"; });
    table.add("RMS Δp", [](const auto & l) { return estimate(l.all.probability_rms, 3, 100) + " %"; });
    table.add("Same top p", [](const auto & l) { return estimate(l.all.same_top, 3, 100) + " %"; });
}

void add_last_quarter(FigureTable & table) {
    table.add("Mean    KLD", [](const auto & l) { return estimate(l.last_quarter.divergence, 6); });
    table.add("Mean PPL(Q)/PPL(base)",
              [](const auto & l) { return estimate(Figures::exponential(l.last_quarter.log_ratio), 6); });
    table.add("Same top p", [](const auto & l) { return estimate(l.last_quarter.same_top, 3, 100) + " %"; });
}

// KL divergence and choices of one kind of positions.
void add_kind(FigureTable & table, const Figures LineReport::*kind) {
    table.add("Mean    KLD", [=](const auto & l) { return estimate((l.*kind).divergence, 6); });
    table.add("Maximum KLD", [=](const auto & l) { return number((l.*kind).divergence_at[12], 6); });
    table.add("99.0%   KLD", [=](const auto & l) { return number((l.*kind).divergence_at[10], 6); });
    table.add("Median  KLD", [=](const auto & l) { return number((l.*kind).divergence_at[6], 6); });
    table.add("Same top p", [=](const auto & l) { return estimate((l.*kind).same_top, 3, 100) + " %"; });
}

bool has_pictures(const Evaluation & e) { return !e.lines.empty() && e.lines.front().pictures.positions > 0; }

std::string describe(const Evaluation & e) {
    std::string text =
        concat(count_text(e.positions), " positions, ", count_text(e.predictions), " next tokens in ",
               count_text(e.windows), " windows; ", e.precision == Precision::f32 ? "FP32" : "BF16", " arithmetic",
               " on ", e.device == "CPU" ? "the CPU" : e.device, "; ± is one standard error, by window");
    if (e.shared_expert_scale) text += "; one input scale for all experts of a layer";
    if (e.source_logits_read) text += "; the source's predictions come from a file";
    return text;
}

bool has_layers(const Evaluation & e) { return !e.lines.empty() && !e.lines.front().layers.empty(); }

std::string layer_table(const Evaluation & e, size_t width) {
    const bool experts = e.lines.front().layers.front().experts_in_common > 0;
    std::vector<Row> rows = {{"", ""}, {"Hidden states after", ""}};
    for (const LineReport & line : e.lines) {
        rows[0].push_back(line_name(line.line));
        rows[1].push_back("SQNR dB");
        rows[0].push_back("");
        rows[1].push_back("added");
        if (!experts) continue;
        rows[0].insert(rows[0].end(), {"", ""});
        rows[1].insert(rows[1].end(), {"experts", "first"});
    }
    for (size_t layer = 0; layer < e.lines.front().layers.size(); layer++) {
        Row row = {concat("layer ", layer), ""};
        for (const LineReport & line : e.lines) {
            const LayerFigures & figures = line.layers[layer];
            row.push_back(number(figures.sqnr_db(), 2));
            row.push_back(number(100 * figures.added, 3) + "%" +
                          (worst_layer(line.layers) == int32_t(layer) ? "*" : " "));
            if (!experts) continue;
            row.push_back(number(100 * figures.experts_in_common, 1) + "%");
            row.push_back(number(100 * figures.same_first_expert, 1) + "%");
        }
        rows.push_back(std::move(row));
    }
    std::vector<bool> right(rows[0].size(), true);
    right[0] = false;
    std::string text = format_table(rows, right, width);
    text += "added: relative squared error that the block adds to the error before it, * the largest";
    if (experts) text += "; experts: chosen by both; first: the same first choice";
    return text + "\n";
}

std::string input_table(const Evaluation & e, size_t width) {
    struct Sum {
        uint64_t modules = 0, unmeasured = 0, clipped = 0;
        double least = INFINITY, largest = 0, spread = 1, clipped_values = 0;
        uint64_t values = 0;
        std::string least_at, largest_at;
    };
    std::vector<std::pair<Role, Sum>> sums;
    for (const InputFigures & figures : e.inputs.roles) {
        auto found =
            std::find_if(sums.begin(), sums.end(), [&](const auto & entry) { return entry.first == figures.role; });
        if (found == sums.end()) found = sums.insert(sums.end(), {figures.role, {}});
        Sum & sum = found->second;
        sum.modules += figures.modules, sum.unmeasured += figures.unmeasured, sum.clipped += figures.clipped;
        sum.clipped_values += figures.clipped_values, sum.values += figures.values;
        sum.spread = std::max(sum.spread, figures.spread);
        const auto where = [&](int32_t expert) {
            return concat("layer ", figures.layer, expert >= 0 ? concat(", expert ", expert) : std::string());
        };
        if (figures.least_room > 0 && figures.least_room < sum.least)
            sum.least = figures.least_room, sum.least_at = where(figures.expert_of_least);
        if (figures.largest_room > sum.largest)
            sum.largest = figures.largest_room, sum.largest_at = where(figures.expert_of_largest);
    }
    std::vector<Row> rows = {{"Input scales on these data", "modules", "clip", "of values", "no input", "least room",
                              "at", "most room", "at", "spread in a layer"}};
    for (const auto & [role, sum] : sums)
        rows.push_back({role_traits(role).name, count_text(sum.modules), count_text(sum.clipped),
                        sum.values > 0 ? number(100 * sum.clipped_values / double(sum.values), 5) + "%" : "-",
                        count_text(sum.unmeasured), sum.largest > 0 ? number(sum.least, 2) : "-", sum.least_at,
                        number(sum.largest, 2), sum.largest_at, number(sum.spread, 1)});
    std::string text = format_table(rows, {false, true, true, true, true, true, false, true, false, true}, width);
    text += "room: largest input that the scale can express / largest input; below 1 it clips\n";
    uint64_t silent = 0, least = UINT64_MAX;
    for (const InputReport::Layer & layer : e.inputs.layers)
        silent += layer.experts_without_tokens, least = std::min(least, layer.least_tokens);
    if (silent > 0) {
        text += concat(count_text(silent), silent == 1 ? " expert saw" : " experts saw", " no token of these data\n");
    } else if (!e.inputs.layers.empty()) {
        text += concat("every expert saw tokens, at least ", count_text(least), "\n");
    }
    return text;
}

std::string gate_lines(const Evaluation & e) {
    std::string text;
    for (const GateResult & gate : e.gates)
        text += concat(gate.flagged  ? "suspicious  "
                       : gate.passed ? "passed      "
                                     : "FAILED      ",
                       gate.gate, ": ", gate.text, "\n");
    return text;
}

} // namespace

std::string evaluation_text(const Evaluation & evaluation, size_t width) {
    std::string text = concat("Predictions of ", printable_line(evaluation.checkpoint), " against ",
                              evaluation.source.empty() ? "saved logits" : printable_line(evaluation.source), "\n",
                              describe(evaluation), "\n\n");
    FigureTable table(evaluation);
    table.section("Perplexity statistics (Q: the line above, base: the source)");
    add_perplexity(table);
    table.section("KL divergence statistics (nats)");
    add_divergence(table);
    table.section("Token probability statistics");
    add_probabilities(table);
    table.section("Last quarter of each window");
    add_last_quarter(table);
    if (has_pictures(evaluation)) {
        const LineReport & any = evaluation.lines.front();
        table.section(concat("Positions of text (", count_text(any.text.positions), ")"));
        add_kind(table, &LineReport::text);
        table.section(concat("Positions of pictures (", count_text(any.pictures.positions), ")"));
        add_kind(table, &LineReport::pictures);
    }
    text += table.text(width);
    if (has_layers(evaluation)) text += "\n" + layer_table(evaluation, width);
    if (!evaluation.inputs.roles.empty()) text += "\n" + input_table(evaluation, width);
    if (!evaluation.sensitivity.rows.empty()) text += "\n" + sensitivity_text(evaluation.sensitivity);
    for (const std::string & note : evaluation.notes) text += "\nnote: " + printable_line(note);
    if (!evaluation.notes.empty()) text += "\n";
    if (!evaluation.gates.empty()) text += "\n" + gate_lines(evaluation);
    return printable_text(text);
}

std::string evaluation_markdown(const Evaluation & evaluation) {
    FigureTable table(evaluation);
    table.add("Mean KL divergence (nats)", [](const auto & l) { return estimate(l.all.divergence, 4); });
    table.add("Median KL divergence", [](const auto & l) { return number(l.all.divergence_at[6], 4); });
    table.add("99 % KL divergence", [](const auto & l) { return number(l.all.divergence_at[10], 4); });
    table.add("99.9 % KL divergence", [](const auto & l) { return number(l.all.divergence_at[11], 4); });
    table.add("Maximum KL divergence", [](const auto & l) { return number(l.all.divergence_at[12], 4); });
    table.add("Same top token", [](const auto & l) { return estimate(l.all.same_top, 2, 100) + " %"; });
    table.add("Perplexity", [](const auto & l) { return number(Figures::exponential(l.all.nll).mean, 4); });
    table.add("Perplexity of the source",
              [](const auto & l) { return number(Figures::exponential(l.all.source_nll).mean, 4); });
    table.add("Ratio of perplexities",
              [](const auto & l) { return estimate(Figures::exponential(l.all.log_ratio), 5); });
    table.add("RMS change of the true token's probability",
              [](const auto & l) { return number(100 * l.all.probability_rms.mean, 2) + " %"; });
    table.add("Mean KL divergence, last quarter of each window",
              [](const auto & l) { return estimate(l.last_quarter.divergence, 4); });
    if (has_pictures(evaluation)) {
        table.add("Mean KL divergence, positions of text",
                  [](const auto & l) { return estimate(l.text.divergence, 4); });
        table.add("Mean KL divergence, positions of pictures",
                  [](const auto & l) { return estimate(l.pictures.divergence, 4); });
    }
    if (has_layers(evaluation))
        table.add("SQNR of the last hidden states",
                  [](const auto & l) { return number(l.layers.back().sqnr_db(), 1) + " dB"; });
    return concat(table.markdown(), "\n", describe(evaluation), ". Data: `", evaluation.data_sha256.substr(0, 16),
                  "`. Made with ggml-nvfp4 `verify`.\n");
}

} // namespace gnv::evaluate
