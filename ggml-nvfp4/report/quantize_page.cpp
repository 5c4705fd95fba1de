// The page of a run of quantize.
#include "report/charts.h"
#include "report/figure_text.h"
#include "report/page.h"

#include "core/strings.h"
#include "formats/file.h"

#include <algorithm>
#include <map>

namespace gnv {

namespace {

std::string devices_text(const Fact & facts) {
    const std::string device = facts["device"].text();
    const double count = facts["devices"].number();
    if (device.empty()) return "CPU";
    return count > 1 ? concat(figure_text(count), " x ", device) : device;
}

Html run_block(const Fact & facts) {
    const Fact result = facts["quantization_report"], calibration = result["calibration"], recipe = result["recipe"];
    FactList list;
    list.add("source", facts["source"].text()).add("result", facts["destination"].text());
    list.add("model", facts["model"].text());
    list.add("scheme and modules", concat(facts["scheme"].text(), ", ", facts["preset"].text()));
    list.add("method", facts["method"].text());
    if (const Fact head = facts["draft_head"]; head.known())
        list.add("draft head", concat(figure_text(head["quantized_modules"].number()), " modules ",
                                      head["scheme"].text(), " by ", head["method"].text()));
    if (facts["headroom"].number() > 0) list.add("headroom of input scales", figure_text(facts["headroom"].number()));
    list.add("device", devices_text(facts));
    list.add("threads", figure_text(facts["threads"].number())).add("instructions", facts["codec"].text());
    if (calibration.known()) {
        list.add("precision of the forward pass", calibration["precision"].text());
        list.add("calibration", concat(figure_text(calibration["sequences"].number()), " sequences, ",
                                       figure_text(calibration["tokens"].number()), " tokens"));
        list.add("tokens that experts see", calibration["experts"].text());
        list.add("SHA-256 of the data", calibration["data_sha256"].text());
    }
    list.add("fingerprint of the source", result["source_fingerprint"].text());
    list.add("read", size_text(facts["bytes_read"].number()))
        .add("written", size_text(facts["bytes_written"].number()));
    list.add("memory at most", size_text(facts["peak_rss_bytes"].number()));
    if (facts["device_bytes_in_use"].number() > 0)
        list.add("memory of the device in use", size_text(facts["device_bytes_in_use"].number()));
    if (facts["resumed"].known())
        list.add("went on with a stopped run", concat(figure_text(facts["resumed"]["units"].number()), " units, ",
                                                      figure_text(facts["resumed"]["layers"].number()), " layers"));
    list.add("version", concat("ggml-nvfp4 ", facts["version"].text()));
    Html out = list.finish();
    HtmlTable data("Data", {"source", "rows#", "chosen#", "left out#"});
    for (const Fact & entry : calibration["data"].items())
        for (const Fact & source : entry["sources"].items()) {
            double left_out = 0;
            for (const Fact & reason : source["left_out"].items()) left_out += reason["rows"].number();
            data.cell(source["name"].text()).cell(figure_text(source["rows"].number()));
            data.cell(figure_text(source["rows_chosen"].number())).cell(figure_text(left_out)).end_row();
        }
    out += data.finish();
    std::vector<std::string> rules;
    for (const Fact & rule : recipe["rules"].items()) rules.push_back(rule.text());
    out += details("Rules, in the order in which they apply", gnv::list(rules));
    return out;
}

Html disks_table(const Fact & disks) {
    static constexpr std::pair<const char *, const char *> parts[] = {{"source", "source, read"},
                                                                      {"result", "result, written"}};
    const bool limits = disks["source"]["limit"].known() || disks["result"]["limit"].known();
    std::vector<std::string> columns = {"disk of", "bytes#", "rate#", "computing waited#"};
    if (limits) columns.insert(columns.end(), {"limit#", "of the limit"});
    HtmlTable table("Disks, during the work", columns);
    const auto rate = [](const Fact & value) {
        return value.number() > 0 ? byte_rate_text(value.number()) : std::string(no_figure);
    };
    for (const auto & [key, name] : parts) {
        const Fact disk = disks[key];
        if (!(disk["bytes"].number() > 0)) continue;
        table.cell(name).cell(size_text(disk["bytes"].number())).cell(rate(disk["per_second"]));
        table.cell(duration_text(disk["waited_seconds"].number()));
        if (limits) table.cell(rate(disk["limit"])).cell(meter(disk["share"].number()));
        table.end_row();
    }
    return table.finish();
}

Html times_block(const Fact & facts) {
    static constexpr std::pair<const char *, const char *> parts[] = {
        {"prepare", "checks, plan, limits"}, {"calibrate", "forward pass"},         {"stream", "read, pack, write"},
        {"sync", "waiting for the disk"},    {"state", "saving the state"},         {"hash", "hashes for the card"},
        {"finish", "other files, rename"},   {"remove", "removing the old result"},
    };
    std::vector<Bar> bars;
    for (const auto & [key, name] : parts) {
        const double seconds = facts["seconds"][key].number();
        bars.push_back({name, seconds, duration_text(seconds)});
    }
    std::vector<Bar> longest;
    for (const Fact & phase : facts["phases"].items())
        if (phase["lane"].text() == "compute" && std::isfinite(phase["seconds"].number()))
            longest.push_back(
                {phase["name"].text(), phase["seconds"].number(), duration_text(phase["seconds"].number())});
    std::stable_sort(longest.begin(), longest.end(), [](const Bar & a, const Bar & b) { return a.value > b.value; });
    if (longest.size() > bars.size()) longest.resize(bars.size());
    Html figures = bar_chart({"The whole run", "", "", ""}, bars);
    figures += bar_chart({"Longest work of the forward pass", "", "", ""}, longest);
    Html out = charts(figures);
    out += disks_table(facts["disks"]);
    out += phases_block(facts["phases"]);
    return out;
}

Html estimate_block(const Fact & estimate) {
    if (!estimate.known()) return {};
    static constexpr std::pair<const char *, const char *> parts[] = {
        {"forward_pass", "forward pass"},
        {"read", "reading"},
        {"upload", "uploads"},
        {"pack", "packing"},
        {"write", "writing"},
        {"disk", "disk"},
        {"finish", "hashes afterwards"},
    };
    const Fact seconds = estimate["seconds"];
    const double actual = estimate["actual_seconds"].number(), price = estimate["price_per_hour"].number();
    FactList list;
    list.add("rates", concat(estimate["machine"].text(),
                             estimate["measured"].is_true() ? ", measured before the run" : ", recorded there"));
    list.add("estimated", duration_text(seconds["total"].number())).add("took", duration_text(actual));
    if (actual > 0) {
        const double error = estimate["error"].number();
        list.add("error", concat(error > 0 ? "+" : "", percent_text(error)));
    }
    if (price > 0) {
        list.add("estimated cost",
                 concat("$", figure_text(estimate["cost"].number()), " at $", figure_text(price), " an hour"));
        if (actual > 0) list.add("cost", concat("$", figure_text(actual / 3600 * price)));
    }
    list.add("disk", size_text(estimate["disk_bytes"].number()));
    list.add("memory", size_text(estimate["host_bytes"].number()));
    if (estimate["device_bytes"].number() > 0)
        list.add("memory of the device", size_text(estimate["device_bytes"].number()));
    std::vector<Bar> bars;
    for (const auto & [key, name] : parts)
        if (seconds[key].number() > 0)
            bars.push_back({name, seconds[key].number(), duration_text(seconds[key].number())});
    Html out = list.finish();
    out += charts(bar_chart({"Estimated parts", "", "", ""}, bars));
    return out;
}

Html scales_block(const Fact & facts) {
    LayerRows rows;
    for (const Fact & row : facts["input_scales"].items()) rows.add(row);
    Html out = charts(range_charts(rows, "Input scales", "input_global_scale", ""));
    HtmlTable table("Input scales by role", {"role", "modules#", "minimum#", "median#", "maximum#"});
    for (const auto & [role, scales] : facts["quantization_report"]["input_global_scale"].members()) {
        table.cell(role).cell(figure_text(scales["modules"].number())).cell(figure_text(scales["minimum"].number()));
        table.cell(figure_text(scales["median"].number())).cell(figure_text(scales["maximum"].number())).end_row();
    }
    out += table.finish();
    std::vector<std::string> substituted;
    for (const Fact & module : facts["quantization_report"]["substituted_input_scales"].items())
        substituted.push_back(module.text());
    constexpr size_t shown = 200;
    const size_t count = substituted.size();
    if (count > shown) {
        substituted.resize(shown);
        substituted.push_back(concat("and ", count_text(count - shown), " more"));
    }
    out +=
        details(concat(count_text(count), " scales stand in for inputs that calibration never saw"), list(substituted));
    return out;
}

Html experts_block(const Fact & facts, uint64_t & experts, uint64_t & silent) {
    std::vector<std::vector<double>> tokens;
    for (const Fact & layer : facts["quantization_report"]["calibration"]["tokens_per_expert"].items()) {
        tokens.push_back(layer.numbers());
        experts += tokens.back().size();
        silent += uint64_t(std::count(tokens.back().begin(), tokens.back().end(), 0.0));
    }
    return charts(expert_tokens_chart(tokens));
}

Html methods_block(const Fact & facts) {
    const std::vector<Fact> choices = facts["quantization_report"]["rows_by_method"].items();
    std::map<std::string, std::map<double, double>> errors;
    HtmlTable table("Rows by method", {"layer#", "role", "rtn#", "mse#", "hessian#", "gptq#", "held-back error#"});
    std::map<double, bool> layers;
    for (const Fact & row : choices) {
        const double layer = row["layer"].number();
        if (!std::isfinite(layer)) continue;
        layers[layer] = true;
        errors[row["role"].text()][layer] = row["held_back_error"].number();
        table.cell(figure_text(layer)).cell(row["role"].text());
        for (const char * const method : {"rtn", "mse", "hessian", "gptq"})
            table.cell(figure_text(row[method].number()));
        table.cell(figure_text(row["held_back_error"].number())).end_row();
    }
    std::vector<double> x;
    std::vector<Series> series;
    for (const auto & [layer, seen] : layers) x.push_back(layer);
    for (const auto & [role, list] : errors) {
        if (series.size() == 6) break;
        Series one{role, {}};
        for (const auto & [layer, seen] : layers)
            one.values.push_back(list.count(layer) ? list.at(layer) : std::nan(""));
        series.push_back(std::move(one));
    }
    Html out = charts(line_chart({"Error of outputs on held-back positions", "layer", "part of round-to-nearest's", ""},
                                 x, series, Scale::from_zero));
    out += details("Rows of each layer and role by method", table.finish());
    return out;
}

} // namespace

std::string quantize_page(const Fact & facts) {
    const std::string destination = facts["destination"].text();
    Page page(concat(destination.empty() ? "Measured " : "Quantized ",
                     base_name(destination.empty() ? facts["source"].text() : destination)));
    const size_t warnings = facts["warnings"].items().size();
    page.headline(concat(facts["model"].text()), warnings > 0 ? Tone::warning : Tone::good,
                  warnings > 0 ? concat("complete, ", warnings, warnings == 1 ? " warning" : " warnings")
                               : std::string("complete"));
    const Fact calibration = facts["quantization_report"]["calibration"];
    uint64_t experts = 0, silent = 0;
    const Html experts_chart = experts_block(facts, experts, silent);
    page.tile("time", duration_text(facts["seconds"]["total"].number()), devices_text(facts));
    page.tile("NVFP4 modules", figure_text(facts["quantized_modules"].number()), facts["scheme"].text());
    page.tile("written", size_text(facts["bytes_written"].number()),
              concat("of ", size_text(facts["source_bytes"].number()), " of weights"));
    page.tile("calibration", figure_text(calibration["tokens"].number()), "tokens");
    if (experts > 0)
        page.tile("experts without a token", percent_text(double(silent) / double(experts)),
                  concat(count_text(silent), " of ", count_text(experts)), silent > 0 ? Tone::warning : Tone::good);
    page.tile("memory", size_text(facts["peak_rss_bytes"].number()), "resident at most");

    std::vector<std::string> remarks;
    for (const char * const key : {"warnings", "notes"})
        for (const Fact & line : facts[key].items()) remarks.push_back(line.text());
    page.section("remarks", "Warnings and notes", list(remarks));
    page.section("run", "The run", run_block(facts));
    page.section("times", "Times beside limits", times_block(facts),
                 "Seconds of threads and of several devices are sums. A limit is what the device reached at best, "
                 "measured before the run.");
    page.section("estimate", "Estimate", estimate_block(facts["estimate"]),
                 facts["estimate"]["overlaps"].is_true()
                     ? "Parts overlap where a device computes: the longest counts."
                     : "From the operations and bytes of the plan, and the rates of the machine.");
    page.section(
        "scales", "Scales of inputs", scales_block(facts),
        "From the least to the largest scale of a layer, the median as a dot. A scale is 2688 / largest input.");
    page.section("experts", "Experts", experts_chart, "Choices of the router on the calibration data.");
    page.section("methods", "Choices of the method", methods_block(facts));
    page.section("engines", "Engines", engines_block(facts["engines"]),
                 "What engines make of these modules, from their sources. No engine was run.");
    std::vector<std::string> open;
    for (const Fact & line : facts["not_checked"].items()) open.push_back(line.text());
    page.section("open", "Not checked", list(open));
    return page.finish(facts);
}

} // namespace gnv
