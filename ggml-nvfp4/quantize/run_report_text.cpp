// The report of a run for people: the table of its times, and its last lines.
#include "quantize/quantize.h"

#include "core/strings.h"
#include "core/table.h"
#include "report/figure_text.h"

#include <algorithm>

namespace gnv {

static std::vector<std::pair<const char *, double>> parts_of(const QuantizeReport & report) {
    std::vector<std::pair<const char *, double>> parts = {
        {"checks, plan, limits, making the files", report.prepare_wall},
        {"forward pass", report.calibrate_wall},
        {"reading, packing and writing that nothing else hides", report.stream_wall},
        {"waiting for the disk", report.sync_wall},
        {"saving the state, to go on with if the run is stopped", report.state_wall},
        {"hashes for the model card that nothing else hides", report.hash_wall},
        {"other files, rename", report.finish_wall},
        {"removing the old result", report.remove_wall},
    };
    double rest = report.total_wall;
    for (const auto & [name, seconds] : parts) rest -= seconds;
    parts.emplace_back("between these", std::max(0.0, rest));
    return parts;
}

static std::string memory_text(const QuantizeReport & report) {
    std::string out = concat(bytes_text(report.peak_rss), " resident at most");
    if (report.device_bytes_in_use > 0)
        out += concat("; of ", report.devices > 1 ? "each " : "", report.device, " ",
                      bytes_text(report.device_bytes_in_use), report.devices > 1 ? " in use at most, " : " in use, ",
                      bytes_text(report.planned_device_bytes), " of it planned");
    return out;
}

std::string quantize_report_text(const QuantizeReport & report, size_t width) {
    std::vector<std::vector<std::string>> rows = {{"", "seconds"}};
    rows.push_back({"whole run", fixed_text(report.total_wall, 2)});
    for (const auto & [name, seconds] : parts_of(report))
        rows.push_back({std::string("  ") + name, fixed_text(seconds, 2)});
    const std::string disks = disks_text(report.disks, width);
    return format_table(rows, {false, true}) + "\n" + phases_text(report.phases, report.limits, report.devices, width) +
           (disks.empty() ? "" : "\n" + disks);
}

static std::string experts_text(const QuantizeReport & report) {
    if (report.silent_experts == 0) return concat("all ", count_text(report.experts), " saw tokens");
    return concat(count_text(report.silent_experts), " of ", count_text(report.experts), " saw no token (",
                  percent_text(double(report.silent_experts) / double(report.experts)), ")");
}

// The longest parts of the run, those that a reader may want to shorten.
static std::string times_text(const QuantizeReport & report) {
    std::vector<std::pair<const char *, double>> parts = parts_of(report);
    std::stable_sort(parts.begin(), parts.end(), [](const auto & a, const auto & b) { return a.second > b.second; });
    std::string out = duration_text(report.total_wall);
    constexpr size_t shown = 3;
    constexpr double worth_a_word = 0.05;
    for (size_t i = 0; i < shown; i++)
        if (parts[i].second > worth_a_word * report.total_wall)
            out += concat(i == 0 ? ": " : ", ", parts[i].first, " ", duration_text(parts[i].second));
    return out;
}

std::string quantize_summary_text(const Plan & plan, const QuantizeReport & report) {
    std::vector<std::vector<std::string>> rows;
    const auto row = [&](const char * name, const std::string & text) { rows.push_back({name, text}); };
    if (!report.destination.empty())
        row("modules", concat(count_text(uint64_t(plan.selection.count)), " of ", plan.main_format().name, ", method ",
                              plan.quantizer().name()));
    if (report.bytes_read + report.bytes_written > 0)
        row("bytes", concat(bytes_text(report.bytes_read), " read, ", bytes_text(report.bytes_written), " written"));
    if (report.sequences > 0)
        row("data", concat(count_text(report.sequences), report.sequences == 1 ? " sequence, " : " sequences, ",
                           count_text(report.tokens), " tokens"));
    if (report.experts > 0) row("experts", experts_text(report));
    if (report.fetched) row("streamed", fetch_use_text(*report.fetched));
    row("time", times_text(report));
    row("memory", memory_text(report));
    if (report.estimate && report.estimate->actual > 0) row("estimate", estimate_error_text(*report.estimate));
    const size_t doubts = plan.warnings.size() + report.warnings.size();
    if (doubts > 0) row("warnings", concat(count_text(doubts), ", above"));
    return format_table(rows, {false, false});
}

} // namespace gnv
