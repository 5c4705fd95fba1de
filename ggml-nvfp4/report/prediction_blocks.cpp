// The blocks about predictions of a page of verify.
#include "report/charts.h"
#include "report/figure_text.h"
#include "report/page.h"

#include "core/strings.h"

#include <algorithm>

namespace gnv {

namespace {

using Lines = std::vector<std::pair<std::string, Fact>>;

std::string title_of(const std::string & line) {
    static constexpr std::pair<const char *, const char *> names[] = {
        {"w4a4", "W4A4"}, {"w4a16", "W4A16"}, {"activations", "inputs alone"}, {"bf16", "source in BF16"}};
    for (const auto & [key, name] : names)
        if (line == key) return name;
    return line;
}

std::string estimate_text(const Fact & estimate, bool share = false) {
    const auto text = [&](double value) { return share ? percent_text(value) : figure_text(value); };
    const double error = estimate["error"].number();
    return text(estimate["mean"].number()) + (std::isnan(error) ? "" : " \u00b1 " + text(error));
}

Html lines_table(const Lines & lines) {
    HtmlTable table("Predictions against the source's, means with one standard error",
                    {"variant", "KL, nats#", "median#", "99 %#", "largest#", "same top token#", "perplexity#",
                     "source's#", "ratio#"});
    for (const auto & [name, line] : lines)
        for (const auto & [key, what] : {std::pair("all", ""), std::pair("last_quarter", ", last quarter"),
                                         std::pair("text", ", text"), std::pair("pictures", ", pictures")}) {
            const Fact figures = line[key], percentiles = figures["kl_percentiles"];
            if (!figures.known()) continue;
            table.cell(title_of(name) + what).cell(estimate_text(figures["kl"]));
            for (const char * const point : {"50", "99", "maximum"})
                table.cell(figure_text(percentiles[point].number()));
            table.cell(estimate_text(figures["same_top"], true));
            table.cell(figure_text(figures["perplexity"]["mean"].number()));
            table.cell(figure_text(figures["source_perplexity"]["mean"].number()));
            table.cell(estimate_text(figures["perplexity_ratio"])).end_row();
        }
    return table.finish();
}

Html histogram_chart(const std::string & name, const Fact & line) {
    const std::vector<double> edges = line["kl_histogram"]["edges"].numbers();
    std::vector<double> counts = line["kl_histogram"]["counts"].numbers();
    if (counts.size() != edges.size() + 1 || edges.size() < 2) return {};
    size_t first = 0, last = counts.size();
    while (first < last && counts[first] == 0) first++;
    while (last > first && counts[last - 1] == 0) last--;
    if (first == last) return {};
    std::vector<std::string> labels;
    for (size_t i = first; i <= last; i++) { // the left border of column i
        const bool power = i > 0 && i <= edges.size() && (i - 1) % 4 == 0;
        labels.push_back(power ? figure_text(edges[i - 1]) : "");
    }
    counts = std::vector<double>(counts.begin() + ptrdiff_t(first), counts.begin() + ptrdiff_t(last));
    return column_chart({concat("KL of positions, ", title_of(name)), "KL, nats, logarithmic", "positions", ""}, labels,
                        counts);
}

Html position_chart(const Lines & lines) {
    std::vector<double> x;
    std::vector<Series> series;
    for (const auto & [name, line] : lines) {
        Series one{title_of(name), {}};
        std::vector<double> middles;
        for (const Fact & stretch : line["kl_by_position"].items()) {
            middles.push_back((stretch["begin"].number() + stretch["end"].number()) / 2);
            one.values.push_back(stretch["positions"].number() > 0 ? stretch["kl"].number() : std::nan(""));
        }
        if (x.empty()) x = middles;
        series.push_back(std::move(one));
    }
    return line_chart({"KL by position in the text", "position", "KL, nats", ""}, x, series, Scale::from_zero);
}

Html document_chart(const std::string & name, const Fact & line) {
    std::vector<double> values;
    std::vector<std::string> labels;
    for (const Fact & window : line["windows"].items()) {
        const double positions = window["positions"].number();
        labels.push_back(count_text(values.size()));
        values.push_back(positions > 0 ? window["kl"].number() / positions : std::nan(""));
    }
    constexpr size_t most = 400; // columns that can be told apart
    const bool cut = values.size() > most;
    if (cut) values.resize(most), labels.resize(most);
    return column_chart({concat("KL by document, ", title_of(name)), "document, from 0 on", "KL, nats",
                         cut ? concat("The first ", most, " documents.") : std::string()},
                        labels, values);
}

Series layer_series(const std::string & name, const Fact & line, const char * key) {
    Series one{title_of(name), {}};
    for (const Fact & layer : line["layers"].items()) one.values.push_back(layer[key].number());
    return one;
}

Html layers_block(const Lines & lines) {
    struct Chart {
        const char *key, *title, *y;
        Scale scale;
    };
    static constexpr Chart all[] = {
        {"sqnr_db", "SQNR of hidden states after each layer", "dB", Scale::linear},
        {"added", "Error that each layer adds", "squared error / squared signal", Scale::from_zero},
        {"same_experts", "Router agreement: the same set of experts", "share of positions", Scale::linear},
        {"experts_in_common", "Router agreement: experts in common", "share of the chosen", Scale::linear},
        {"same_first_expert", "Router agreement: the same first expert", "share of positions", Scale::linear},
    };
    Html figures;
    for (const Chart & chart : all) {
        std::vector<Series> series;
        size_t layers = 0;
        bool any = false;
        for (const auto & [name, line] : lines) {
            series.push_back(layer_series(name, line, chart.key));
            layers = std::max(layers, series.back().values.size());
            for (const double value : series.back().values) any |= std::isfinite(value) && value != 0;
        }
        std::vector<double> x;
        for (size_t layer = 0; layer < layers; layer++) x.push_back(double(layer));
        if (any) figures += line_chart({chart.title, "layer", chart.y, ""}, x, series, chart.scale);
    }
    return charts(figures);
}

// Text of tokens; ids where no tokenizer was there.
std::string words(const Fact & position, const std::string & key) {
    if (position[key].is_text()) return position[key].text();
    std::string ids;
    for (const double id : position[key + "_ids"].numbers())
        if (std::isfinite(id)) ids += concat(ids.empty() ? "" : " ", number_text(id, 10));
    return ids;
}

Html contexts_block(const Lines & lines) {
    Html out;
    for (const auto & [name, line] : lines) {
        Html contexts;
        for (const Fact & position : line["worst_positions"].items()) {
            Html content = paragraph(concat("document ", figure_text(position["window"].number()), ", position ",
                                            figure_text(position["position"].number()), ": KL ",
                                            figure_text(position["kl"].number()), " nats"),
                                     "class=\"note\"");
            Html text = html_text("\u2026" + words(position, "context"));
            const std::string next = words(position, "next");
            if (!next.empty()) text += element("mark", html_text(next));
            content += element("p", text, "class=\"text\"");
            content += element("p",
                               Html("most likely: <code>" + html_escape(words(position, "source_top")) +
                                    "</code> by the source, <code>" + html_escape(words(position, "line_top")) +
                                    "</code> here"),
                               "class=\"note\"");
            contexts += element("div", content, "class=\"context\"");
        }
        out += details(concat("Contexts with the largest KL, ", title_of(name)), contexts);
    }
    return out;
}

Html inputs_block(const Fact & output) {
    std::vector<std::vector<double>> tokens;
    for (const Fact & layer : output["expert_tokens"].items()) tokens.push_back(layer["tokens"].numbers());
    Html out = charts(expert_tokens_chart(tokens));
    HtmlTable table("Room of input scales: largest value that a scale expresses / largest input",
                    {"layer#", "role", "modules#", "least room#", "largest room#", "clipped modules#",
                     "clipped values#", "spread of scales#"});
    for (const Fact & row : output["inputs"].items()) {
        table.cell(figure_text(row["layer"].number())).cell(row["role"].text());
        for (const char * const key : {"modules", "least_room", "largest_room", "clipped"})
            table.cell(figure_text(row[key].number()));
        table.cell(percent_text(row["clipped_values"].number() / row["values"].number()));
        table.cell(figure_text(row["spread"].number())).end_row();
    }
    out += details("Room of input scales by layer and role", table.finish());
    return out;
}

Html sensitivity_block(const Fact & sensitivity) {
    std::vector<Bar> bars;
    HtmlTable table("Groups of modules in the source's precision",
                    {"modules", "layers", "count#", "bytes added#", "KL then#", "KL saved#"});
    for (const Fact & group : sensitivity["groups"].items()) {
        const double first = group["first_layer"].number(), last = group["last_layer"].number();
        const std::string layers =
            first == last ? figure_text(first) : concat(figure_text(first), " to ", figure_text(last));
        const double saved = group["kl_saved"]["mean"].number();
        if (std::isfinite(saved))
            bars.push_back({concat(group["kind"].text(), first == last ? ", layer " : ", layers ", layers), saved,
                            figure_text(saved)});
        table.cell(group["kind"].text()).cell(layers).cell(figure_text(group["modules"].number()));
        table.cell(size_text(group["bytes_added"].number())).cell(estimate_text(group["kl"]));
        table.cell(estimate_text(group["kl_saved"])).end_row();
    }
    std::stable_sort(bars.begin(), bars.end(), [](const Bar & a, const Bar & b) { return a.value > b.value; });
    constexpr size_t shown = 12;
    if (bars.size() > shown) bars.resize(shown);
    Html out = charts(bar_chart(
        {"KL saved by leaving a group in the source's precision", "", "", "In nats; the largest first."}, bars));
    out += table.finish();
    return out;
}

} // namespace

Html gates_block(const Fact & output) {
    Html out;
    for (const Fact & gate : output["gates"].items()) {
        const bool passed = gate["passed"].is_true(), flagged = gate["flagged"].is_true();
        const Html mark = pill(!passed   ? "failed"
                               : flagged ? "suspicious"
                                         : "passed",
                               !passed   ? Tone::bad
                               : flagged ? Tone::warning
                                         : Tone::good);
        out += element("p", Html(mark.markup + " " + html_escape(gate["text"].text())));
    }
    return out;
}

void add_predictions(Page & page, const Fact & output) {
    const Lines lines = output["lines"].members();
    if (lines.empty()) return;
    Html block = lines_table(lines);
    block += gates_block(output);
    Html figures;
    for (const auto & [name, line] : lines) figures += histogram_chart(name, line);
    figures += position_chart(lines);
    figures += document_chart(lines.front().first, lines.front().second);
    block += charts(figures);
    block += contexts_block(lines);
    std::vector<std::string> notes;
    for (const Fact & note : output["notes"].items()) notes.push_back(note.text());
    block += list(notes);
    page.section("predictions", "Predictions", block,
                 "KL(source || checkpoint) at every position of the data, in nats.");
    page.section("layers", "Layers", layers_block(lines),
                 "Hidden states and choices of the router against the source's.");
    page.section("inputs", "Experts and inputs", inputs_block(output), "On the data of this comparison.");
    page.section("sensitivity", "Sensitivity", sensitivity_block(output["sensitivity"]));
}

} // namespace gnv
