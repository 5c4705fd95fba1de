// The page of a run of verify.
#include "report/charts.h"
#include "report/figure_text.h"
#include "report/page.h"

#include "core/strings.h"
#include "formats/file.h"

#include <algorithm>
#include <map>

namespace gnv {

namespace {

std::string count_words(double count, const char * one, const char * many) {
    return concat(figure_text(count), " ", count == 1 ? one : many);
}

Html run_block(const Fact & facts) {
    const Fact output = facts["output"];
    FactList list;
    list.add("checkpoint", facts["checkpoint"].text()).add("source", facts["source"].text());
    list.add("model", output["model"].text());
    list.add("tensors", figure_text(facts["tensors"].number())).add("bytes", size_text(facts["tensor_bytes"].number()));
    list.add("shards", figure_text(facts["shards"].number()));
    list.add("device of the forward passes", output["device"].text());
    list.add("weights quantized again on", facts["recomputed"]["device"].text());
    list.add("threads", figure_text(facts["threads"].number())).add("precision", output["precision"].text());
    if (output.known())
        list.add("data", concat(figure_text(output["windows"].number()), " windows, ",
                                figure_text(output["positions"].number()), " tokens"));
    list.add("SHA-256 of the data", output["data_sha256"].text());
    list.add("fingerprint of the source", output["source_fingerprint"].text());
    list.add("read", size_text(facts["bytes_read"].number()));
    if (const Fact streamed = facts["streamed"]; streamed.known())
        list.add("fetched from the hub", concat(count_words(streamed["files"].number(), "file, ", "files, "),
                                                size_text(streamed["bytes"].number()), ", at most ",
                                                size_text(streamed["most_disk_bytes"].number()), " on the disk"));
    list.add("time of the checks", duration_text(facts["seconds"].number()));
    list.add("version", concat("ggml-nvfp4 ", facts["version"].text()));
    return list.finish();
}

Tone tone_of(const std::string & severity) {
    return severity == "error" ? Tone::bad : severity == "warning" ? Tone::warning : Tone::neutral;
}

Html findings_block(const Fact & facts) {
    constexpr size_t shown = 100;
    const std::vector<Fact> findings = facts["findings"].items();
    Html out;
    size_t count = 0;
    for (const char * const severity : {"error", "warning", "note"})
        for (const Fact & finding : findings) {
            if (finding["severity"].text() != severity || count == shown) continue;
            count++;
            const Tone tone = tone_of(severity);
            Html content = element("p", Html(pill(concat(severity, " ", finding["check"].text()), tone).markup + " " +
                                             element("code", html_text(finding["subject"].text())).markup));
            content += paragraph(finding["what"].text());
            if (!finding["effect"].text().empty())
                content += paragraph("Effect: " + finding["effect"].text(), "class=\"note\"");
            if (!finding["repair"].text().empty())
                content += paragraph("Repair: " + finding["repair"].text(), "class=\"note\"");
            out += element("div", content,
                           tone == Tone::bad       ? "class=\"finding bad\""
                           : tone == Tone::warning ? "class=\"finding warning\""
                                                   : "class=\"finding\"");
        }
    if (findings.size() > count)
        out += paragraph(concat("and ", count_text(findings.size() - count), " more: --report FILE.json has them"));
    return out;
}

Html checks_block(const Fact & facts) {
    HtmlTable table("Checks", {"check", "question", "outcome"});
    for (const Fact & check : facts["checks"].items()) {
        table.cell(check["id"].text()).cell(check["title"].text());
        const double errors = check["errors"].number(), warnings = check["warnings"].number(),
                     notes = check["notes"].number();
        if (errors > 0) {
            table.cell(pill(count_words(errors, "error", "errors"), Tone::bad));
        } else if (warnings > 0) {
            table.cell(pill(count_words(warnings, "warning", "warnings"), Tone::warning));
        } else if (!check["done"].is_true()) {
            table.cell("not checked: " + check["reason"].text());
        } else {
            table.cell(notes > 0 ? pill(count_words(notes, "note", "notes"), Tone::neutral) : pill("ok", Tone::good));
        }
        table.end_row();
    }
    return table.finish();
}

// --- Weights -----------------------------------------------------------------------------------------------------------

LayerRows places_of(const Fact & facts, const std::string & part) {
    LayerRows places;
    for (const Fact & row : facts["by_layer_and_role"].items())
        if (row["part"].text() == part) places.add(row);
    return places;
}

std::string title_with(const char * title, const std::string & part) {
    return part == "text" ? title : concat(title, ", ", part);
}

Html layer_charts(const LayerRows & places, const std::string & part) {
    constexpr size_t most_series = 6;
    Html out;
    for (const LayerRows::Group & group : places.groups(most_series)) {
        std::vector<Series> errors;
        for (const std::string & role : group.roles) {
            Series one{role, {}};
            for (const auto & [layer, row] : places.rows.at(role))
                one.values.push_back(-10 * std::log10(row["relative_error"].number()));
            errors.push_back(std::move(one));
        }
        out += line_chart({title_with("SQNR of weights by layer", part), "layer", "dB", ""}, group.layers, errors,
                          Scale::linear);
    }
    return out;
}

Html scale_charts(const LayerRows & places, const std::string & part) {
    Html out =
        range_charts(places, title_with("Weight scales", part).c_str(), "weight_global_scale", "weight_global_scale");
    out += range_charts(places, title_with("Input scales", part).c_str(), "input_global_scale", "input_global_scale");
    return out;
}

Html error_table(const char * title, const Fact & rows) {
    HtmlTable table(title, {"modules of", "count#", "SQNR, dB#", "error, median#", "99 %#", "largest#",
                            "cosine, least#", "clipped#", "zeroed#", "nearest code#"});
    for (const Fact & row : rows.items()) {
        const Fact error = row["relative_error"];
        table.cell(row["what"].text()).cell(figure_text(row["modules"].number()));
        table.cell(figure_text(row["sqnr_db"].number())).cell(figure_text(error["median"].number()));
        table.cell(figure_text(error["p99"].number())).cell(figure_text(error["largest"].number()));
        table.cell(figure_text(row["least_cosine"].number())).cell(percent_text(row["clipped"].number()));
        table.cell(percent_text(row["zeroed"].number())).cell(percent_text(row["nearest_codes"].number()));
        table.end_row();
    }
    return table.finish();
}

Html worst_table(const Fact & facts) {
    constexpr size_t shown = 10;
    std::vector<Fact> modules;
    for (const Fact & module : facts["modules"].items())
        if (std::isfinite(module["relative_error"].number())) modules.push_back(module);
    const size_t count = std::min(shown, modules.size());
    std::vector<std::pair<double, size_t>> order;
    for (size_t m = 0; m < modules.size(); m++) order.emplace_back(-modules[m]["relative_error"].number(), m);
    std::partial_sort(order.begin(), order.begin() + ptrdiff_t(count), order.end());
    HtmlTable table("Modules with the largest errors", {"module", "relative error#", "SQNR, dB#"});
    for (size_t i = 0; i < count; i++) {
        const Fact & module = modules[order[i].second];
        table.cell(module["name"].text()).cell(figure_text(module["relative_error"].number()));
        table.cell(figure_text(module["sqnr_db"].number())).end_row();
    }
    return table.finish();
}

Html weights_block(const Fact & facts) {
    Html figures, out;
    std::vector<Bar> roles;
    for (const Fact & row : facts["by_role"].items())
        roles.push_back({row["what"].text(), row["sqnr_db"].number(), figure_text(row["sqnr_db"].number()) + " dB"});
    figures += bar_chart({"SQNR of weights by role", "", "", ""}, roles);
    for (const char * const part : {"text", "draft head"}) {
        const LayerRows places = places_of(facts, part);
        if (!roles.empty()) figures += layer_charts(places, part);
    }
    HeatMap map;
    map.text = {"Error of each expert's weights", "expert", "layer", "Squared error / squared weights."};
    map.missing = "not compared";
    map.label = percent_text;
    for (const Fact & layer : facts["expert_errors"].items()) {
        map.row_numbers.push_back(layer["layer"].number());
        map.rows.push_back(layer["relative_error"].numbers());
    }
    figures += heat_map(map);
    out += charts(figures);
    out += error_table("By role", facts["by_role"]);
    out += details("By layer", error_table("By layer", facts["by_layer"]));
    out += details("Largest errors", worst_table(facts));
    const Fact again = facts["recomputed"];
    if (again.known())
        out += paragraph(concat(figure_text(again["modules"].number()),
                                " weights quantized again: ", figure_text(again["same_modules"].number()),
                                " to the same bytes; ", figure_text(again["same_blocks"].number()), " of ",
                                figure_text(again["blocks"].number()), " blocks are the same."));
    std::map<std::string, uint64_t> kinds;
    for (const Fact & tensor : facts["preserved"].items()) kinds[tensor["kind"].text()]++;
    std::string preserved;
    for (const auto & [kind, count] : kinds)
        preserved += concat(preserved.empty() ? "" : ", ", count_text(count), " ", kind);
    if (!preserved.empty()) out += paragraph("Preserved tensors against the source: " + preserved + ".");
    return out;
}

Html coverage_table(const Fact & facts) {
    HtmlTable table("Linears by storage",
                    {"modules of", "all#", "declared#", "NVFP4#", "FP8#", "plain#", "absent#", "weights#"});
    for (const Fact & row : facts["coverage"].items()) {
        table.cell(concat(row["part"].text(), ": ", row["role"].text()));
        for (const char * const key : {"modules", "declared", "nvfp4", "fp8", "plain", "absent", "weights"})
            table.cell(figure_text(row[key].number()));
        table.end_row();
    }
    return table.finish();
}

uint64_t failed_gates(const Fact & output) {
    uint64_t failed = 0;
    for (const Fact & gate : output["gates"].items()) failed += gate["passed"].known() && !gate["passed"].is_true();
    return failed;
}

} // namespace

std::string verify_page(const Fact & facts) {
    const double errors = facts["errors"].number(), warnings = facts["warnings"].number();
    const uint64_t gates = failed_gates(facts["output"]) + failed_gates(facts["canary"]);
    Page page("Check of " + base_name(facts["checkpoint"].text()));
    const bool is_strict_failure = facts["strict"].is_true() && !facts["passed"].is_true();
    const bool fails = errors > 0 || gates > 0 || is_strict_failure;
    std::string verdict = fails ? "failed: " : "passed: ";
    verdict += count_words(errors, "error", "errors") + ", " + count_words(warnings, "warning", "warnings");
    if (gates > 0) verdict += concat(", ", count_words(double(gates), "failed gate", "failed gates"));
    if (is_strict_failure && errors == 0 && gates == 0) verdict += "; warnings and suspicious figures fail (--strict)";
    const std::string model = facts["output"]["model"].text();
    page.headline(model.empty() ? facts["checkpoint"].text() : model,
                  fails          ? Tone::bad
                  : warnings > 0 ? Tone::warning
                                 : Tone::good,
                  verdict);
    page.tile("errors", figure_text(errors), "a loader fails or computes wrong", errors > 0 ? Tone::bad : Tone::good);
    page.tile("warnings", figure_text(warnings), "some loaders, or not intended",
              warnings > 0 ? Tone::warning : Tone::good);
    double least = std::nan("");
    for (const Fact & row : facts["by_role"].items()) least = std::fmin(least, row["sqnr_db"].number());
    if (!std::isnan(least)) page.tile("SQNR of weights", figure_text(least) + " dB", "of the role with the least");
    const auto lines = facts["output"]["lines"].members();
    if (!lines.empty()) {
        const Fact all = lines.front().second["all"], kl = all["kl"], top = all["same_top"];
        std::string name = lines.front().first;
        std::transform(name.begin(), name.end(), name.begin(),
                       [](char c) { return c >= 'a' && c <= 'z' ? char(c - 32) : c; });
        page.tile("KL divergence", figure_text(kl["mean"].number()),
                  concat("nats, ", name, ", \u00b1 ", figure_text(kl["error"].number())));
        page.tile("same top token", percent_text(top["mean"].number()),
                  concat("of positions, \u00b1 ", percent_text(top["error"].number())));
    }
    page.tile("size", size_text(facts["tensor_bytes"].number()),
              concat(figure_text(facts["tensors"].number()), " tensors"));

    page.section("findings", "Findings", findings_block(facts));
    page.section("run", "The run", run_block(facts));
    page.section(
        "engines", "Engines", engines_block(facts["engines"]),
        "What engines make of the NVFP4 modules, from their sources. The checks below ask whether they load; no "
        "engine was run.");
    add_predictions(page, facts["output"]);
    add_canary(page, facts["canary"]);
    page.section("weights", "Weights", weights_block(facts),
                 "Of quantized weights against the source. SQNR is the ratio of squared weights to squared errors.");
    Html scales;
    for (const char * const part : {"text", "draft head"}) scales += scale_charts(places_of(facts, part), part);
    page.section("scales", "Scales", charts(scales),
                 "Global scales as stored, from the least to the largest of a layer, the median as a dot.");
    page.section("coverage", "Coverage", coverage_table(facts));
    page.section("checks", "Checks", checks_block(facts));
    std::vector<std::string> open;
    for (const Fact & line : facts["not_checked"].items()) open.push_back(line.text());
    for (const Fact & check : facts["checks"].items())
        if (!check["done"].is_true())
            open.push_back(concat(check["id"].text(), ", ", check["title"].text(), ": ", check["reason"].text()));
    if (facts["engines"].known()) open.push_back("loading, speed and answers in an engine: no engine was run");
    page.section("open", "Not checked", list(open));
    return page.finish(facts);
}

} // namespace gnv
