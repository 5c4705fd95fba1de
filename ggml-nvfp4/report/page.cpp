#include "report/page.h"

#include "core/strings.h"
#include "report/charts.h"
#include "report/figure_text.h"
#include "report/style.h"

#include <algorithm>

namespace gnv {

static const char * tone_name(Tone tone) {
    static const char * const names[] = {"neutral", "good", "warning", "bad"};
    return names[size_t(tone)];
}

Html pill(std::string_view text, Tone tone) {
    static const char * const marks[] = {"", "\u2713 ", "! ", "\u2717 "}; // not by colour alone
    return Html(
        concat("<span class=\"pill ", tone_name(tone), "\">", marks[size_t(tone)], html_escape(text), "</span>"));
}

Html charts(const Html & figures) { return figures.empty() ? figures : element("div", figures, "class=\"charts\""); }

Html meter(double share) {
    if (std::isnan(share)) return {};
    const double width = std::min(1.0, std::max(0.0, share));
    return Html(concat("<span class=\"meter\"><i style=\"width:", fixed_text(100 * width, 0), "%\"></i></span>",
                       percent_text(share)));
}

void Page::headline(std::string_view subtitle, Tone tone, std::string_view verdict) {
    Html title = html_text(title_);
    head_ += element("h1", title);
    head_ += element("p", pill(verdict, tone));
    head_ += paragraph(subtitle, "class=\"path\"");
}

void Page::tile(const char * name, std::string_view value, std::string_view note, Tone tone) {
    if (value.empty() || value == no_figure) return;
    Html content = element("span", html_text(name), "class=\"name\"");
    content += element("strong", html_text(value), concat("class=\"", tone_name(tone), "\"").c_str());
    if (!note.empty()) content += element("span", html_text(note), "class=\"small\"");
    tiles_ += element("li", content);
}

void Page::section(const char * id, const char * title, const Html & content, std::string_view lead) {
    if (content.empty()) return;
    navigation_ += Html(concat("<a href=\"#", id, "\">", html_escape(title), "</a>\n"));
    Html inside = element("h2", html_text(title));
    if (!lead.empty()) inside += paragraph(lead, "class=\"lead\"");
    inside += content;
    sections_ += element("section", inside, concat("id=\"", id, "\"").c_str());
}

std::string Page::finish(const Fact & facts) const {
    Html body = element("header", head_);
    if (!tiles_.empty()) body += element("ul", tiles_, "class=\"tiles\"");
    body += element("nav", navigation_, "aria-label=\"Sections\"");
    body += element("main", sections_);
    body += element("footer", html_text(concat("ggml-nvfp4 ", facts["version"].text(),
                                               ". The same facts for programs: ", facts["schema"].text(),
                                               ", by --report FILE.json.")));
    return concat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n"
                  // A browser then loads nothing and runs nothing, whatever a text holds.
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                  "'unsafe-inline'\">\n<title>",
                  html_escape(title_), "</title>\n<style>\n", page_style, "</style>\n</head>\n<body>\n", body.markup,
                  "</body>\n</html>\n");
}

void LayerRows::add(const Fact & row) {
    const std::string role = row["role"].text();
    const double layer = row["layer"].number();
    if (!std::isfinite(layer)) return;
    if (rows.find(role) == rows.end()) roles.push_back(role);
    rows[role][layer] = row;
}

std::vector<LayerRows::Group> LayerRows::groups(size_t at_a_time) const {
    std::vector<Group> out;
    for (const std::string & role : roles) {
        std::vector<double> layers;
        for (const auto & [layer, row] : rows.at(role)) layers.push_back(layer);
        const auto fits = [&](const Group & group) { return group.layers == layers && group.roles.size() < at_a_time; };
        const auto found = std::find_if(out.begin(), out.end(), fits);
        if (found == out.end()) {
            out.push_back({{role}, std::move(layers)});
        } else {
            found->roles.push_back(role);
        }
    }
    return out;
}

Html range_charts(const LayerRows & rows, const char * title, const char * axis, const char * key) {
    constexpr size_t at_a_time = 4;
    Html out;
    for (const LayerRows::Group & group : rows.groups(at_a_time)) {
        std::vector<RangeSeries> series;
        for (const std::string & role : group.roles) {
            RangeSeries one{role, {}, {}, {}};
            for (const auto & [layer, row] : rows.rows.at(role)) {
                const Fact range = *key ? row[key] : row;
                one.least.push_back(range["minimum"].number());
                one.median.push_back(range["median"].number());
                one.largest.push_back(range["maximum"].number());
            }
            series.push_back(std::move(one));
        }
        const std::string of = series.size() == 1 ? ": " + series.front().name : "";
        out += range_chart({title + of, "layer", axis, ""}, group.layers, series);
    }
    return out;
}

Html engines_block(const Fact & engines) {
    HtmlTable table("Engines and kernels",
                    {"engine", "device", "scheme", "modules#", "found by checks", "kernel", "effect", "basis"});
    for (const Fact & row : engines.items()) {
        std::string checks;
        for (const Fact & check : row["stopped_by"].items()) checks += (checks.empty() ? "" : ", ") + check.text();
        table.cell(row["engine"].text()).cell(row["devices"].text()).cell(row["scheme"].text());
        table.cell(figure_text(row["modules"].number()));
        table.cell(checks.empty() ? html_text("no error") : pill("errors: " + checks, Tone::bad));
        table.cell(row["kernel"].text()).cell(row["effect"].text()).cell(row["basis"].text());
        table.end_row();
    }
    return table.finish();
}

// Rows of those phases that `wanted` names.
template <class Wanted>
static Html phases_table(const Fact & phases, const char * title, const Wanted & wanted) {
    const std::vector<Fact> all = phases.items();
    const bool limits = std::any_of(all.begin(), all.end(), [](const Fact & phase) { return phase["limit"].known(); });
    std::vector<std::string> columns = {"work", "lane", "seconds#", "times#", "rate#"};
    if (limits) columns.insert(columns.end(), {"limit#", "of the limit"});
    HtmlTable table(title, columns);
    for (const Fact & phase : all) {
        if (!wanted(phase)) continue;
        const bool flops = phase["unit"].text() == "flops";
        const auto rate = [&](const Fact & value) {
            const double number = value.number();
            return !(number > 0) ? std::string() : flops ? flop_rate_text(number) : byte_rate_text(number);
        };
        const double spans = phase["spans"].number();
        table.cell(phase["name"].text()).cell(phase["lane"].text()).cell(figure_text(phase["seconds"].number()));
        table.cell(spans > 0 ? figure_text(spans) : "").cell(rate(phase["per_second"]));
        if (limits) table.cell(rate(phase["limit"])).cell(meter(phase["share"].number()));
        table.end_row();
    }
    return table.finish();
}

Html phases_block(const Fact & phases) {
    double longest = 0;
    for (const Fact & phase : phases.items()) longest = std::fmax(longest, phase["seconds"].number());
    const auto is_short = [&](const Fact & phase) { return phase["seconds"].number() < longest / 50; };
    Html out = phases_table(phases, "Work by lane", [&](const Fact & phase) { return !is_short(phase); });
    out += details("Work that takes less", phases_table(phases, "Work that takes less", is_short));
    return out;
}

Html expert_tokens_chart(const std::vector<std::vector<double>> & tokens) {
    HeatMap map;
    map.text = {"Tokens of each expert", "expert", "layer", ""};
    map.zero_is_missing = true;
    map.missing = "experts without a token";
    for (size_t layer = 0; layer < tokens.size(); layer++) {
        if (tokens[layer].empty()) continue;
        map.row_numbers.push_back(double(layer));
        map.rows.push_back(tokens[layer]);
    }
    return heat_map(map);
}

} // namespace gnv
