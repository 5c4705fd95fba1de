// The report for people.
#include "verify/statistics.h"
#include "verify/verify.h"

#include "core/strings.h"
#include "core/table.h"

#include <cstdarg>
#include <cstdio>

namespace gnv::verify {

static constexpr uint64_t shown_per_check = 10;

namespace {

class Writer {
  public:
    __attribute__((format(printf, 2, 3))) void line(const char * format, ...) {
        char text[512];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        text_ += text;
        text_ += '\n';
    }
    void plain(const std::string & text) { text_ += text + "\n"; }
    void table(const std::vector<std::vector<std::string>> & rows, const std::vector<bool> & right, size_t width) {
        text_ += format_table(rows, right, width);
    }
    std::string take() { return std::move(text_); }

  private:
    std::string text_;
};

void write_coverage(Writer & out, const VerifyReport & report, size_t width) {
    if (report.subject.modules.empty()) return;
    out.plain("");
    std::vector<std::vector<std::string>> rows = {{"Linears", "all", "declared", "NVFP4", "FP8", "plain"}};
    uint64_t declared = 0, quantized = 0, text_weights = 0, quantized_weights = 0;
    for (const CoverageRow & row : coverage(report)) {
        rows.push_back({concat(part_name(row.part), ": ", role_traits(row.role).name)});
        for (const uint64_t count : {row.modules, row.declared, row.nvfp4, row.fp8, row.plain})
            rows.back().push_back(count_text(count));
        declared += row.declared, quantized += row.nvfp4 + row.fp8;
        if (row.part != Part::text) continue;
        text_weights += row.weights;
        quantized_weights += row.weights / row.modules * (row.nvfp4 + row.fp8);
    }
    out.table(rows, {false, true, true, true, true, true}, width);
    out.plain(concat(count_text(quantized), " of ", count_text(declared),
                     " Linears that config.json declares are quantized; ",
                     count_text(quantized_weights * 100 / (text_weights ? text_weights : 1)),
                     " % of the weights in the text model's Linears"));
}

void write_rows(Writer & out, const char * what, const std::vector<ErrorRow> & errors, size_t width) {
    out.plain("");
    std::vector<std::vector<std::string>> rows = {{what, "modules", "median", "99 %", "largest", "SQNR", "cosine",
                                                   "clipped", "zeroed", "satur.", "subnorm.", "nearest"}};
    const auto percent = [](double share, int decimals) { return fixed_text(100 * share, decimals) + "%"; };
    for (const ErrorRow & row : errors)
        rows.push_back({row.what, count_text(row.modules), fixed_text(row.error.median, 6),
                        fixed_text(row.error.p99, 6), fixed_text(row.error.largest, 6), fixed_text(row.sqnr_db, 2),
                        fixed_text(row.cosine, 5), percent(row.clipped, 3), percent(row.zeroed, 2),
                        percent(row.saturated, 3), percent(row.subnormal, 3), percent(row.nearest, 3)});
    std::vector<bool> right(rows[0].size(), true);
    right[0] = false;
    out.table(rows, right, width);
}

void write_errors(Writer & out, const VerifyReport & report, size_t width) {
    const std::vector<ErrorRow> roles = errors_by_role(report);
    if (roles.empty()) return;
    out.plain(
        "\nQuantized weights against the source: relative squared error of modules (median, 99 %, largest), SQNR in dB,"
        "\nleast cosine, shares of elements and blocks");
    write_rows(out, "by role", roles, width);
    write_rows(out, "by layer", errors_by_layer(report), width);
    out.plain("\nLargest errors");
    for (const uint32_t m : worst_modules(report, 10)) {
        const ModuleValues & values = report.measurements->modules[m];
        out.line("%10.6f  %6.2f dB  %s", values.relative_error(), values.sqnr_db(),
                 printable(report.subject.modules[m].name).c_str());
    }
}

void write_preserved(Writer & out, const VerifyReport & report) {
    const PreservedSummary summary = preserved_summary(report);
    if (summary.tensors == 0) return;
    out.plain(concat("\n", count_text(summary.tensors), " preserved tensors (", bytes_text(summary.bytes),
                     "): ", count_text(summary.same), " identical to the source, ", count_text(summary.converted),
                     " converted, ", count_text(summary.norm_trip), " norms rewritten by llm-compressor, ",
                     count_text(summary.rounded), " rounded, ", count_text(summary.different), " different"));
}

void write_recomputed(Writer & out, const VerifyReport & report) {
    if (report.recomputed_on.empty()) return;
    const RecomputedSummary summary = recomputed_summary(report);
    out.plain(concat("\n", count_text(summary.modules), " weights quantized again on ", report.recomputed_on, ": ",
                     count_text(summary.same_modules), " to the same bytes; ", count_text(summary.same_blocks), " of ",
                     count_text(summary.blocks), " blocks are the same"));
}

// Wider terminals have the states in a column.
void write_checks(Writer & out, const VerifyReport & report, size_t width) {
    constexpr size_t title_column = 120;
    out.plain("");
    for (const CheckOutcome & outcome : report.outcomes) {
        const char * id = outcome.check->id;
        std::string state = "ok";
        const uint64_t errors = report.findings.count(id, Severity::error),
                       warnings = report.findings.count(id, Severity::warning);
        const uint64_t notes = report.findings.count(id, Severity::note);
        if (errors + warnings + notes > 0) {
            state.clear();
            const auto add = [&](uint64_t count, const char * one, const char * many) {
                if (count > 0)
                    state += concat(state.empty() ? "" : ", ", count_text(count), " ", count == 1 ? one : many);
            };
            add(errors, "error", "errors"), add(warnings, "warning", "warnings"), add(notes, "note", "notes");
        } else if (!outcome.done) {
            state = "not checked: " + outcome.reason;
        }
        if (width == 0 || width >= title_column) {
            out.line("%-4s %-76s %s", id, outcome.check->title, printable_line(state).c_str());
        } else {
            out.plain(
                concat(id, std::string(id[2] == 0 ? 2 : 1, ' '), printable_line(state), ": ", outcome.check->title));
        }
    }
}

void write_findings(Writer & out, const VerifyReport & report) {
    if (!report.findings.all().empty()) out.plain("");
    for (const Severity severity : {Severity::error, Severity::warning, Severity::note}) {
        for (const CheckOutcome & outcome : report.outcomes) {
            uint64_t shown = 0;
            for (const Finding & finding : report.findings.all()) {
                if (finding.severity != severity || finding.check != outcome.check->id || shown == shown_per_check)
                    continue;
                shown++;
                out.plain(concat(severity_name(severity), " ", finding.check, "  ", printable(finding.subject, 300),
                                 finding.subject.empty() ? "" : ": ", printable_line(finding.what)));
                if (!finding.effect.empty()) out.plain("    effect: " + printable_line(finding.effect));
                if (!finding.repair.empty()) out.plain("    repair: " + printable_line(finding.repair));
            }
            const uint64_t count = report.findings.count(outcome.check->id, severity);
            if (count > shown)
                out.plain(concat(severity_name(severity), " ", outcome.check->id, "  ... and ",
                                 count_text(count - shown), " more"));
        }
    }
}

// The finding that counts most: the first error, in the order of the checks; else a gate that failed; else a warning.
std::string first_finding(const VerifyReport & report) {
    const auto find = [&](Severity severity) -> std::string {
        for (const CheckOutcome & outcome : report.outcomes)
            for (const Finding & finding : report.findings.all())
                if (finding.severity == severity && finding.check == outcome.check->id)
                    return concat(finding.check, "  ", printable(finding.subject, 80),
                                  finding.subject.empty() ? "" : ": ", printable_line(finding.what));
        return "";
    };
    if (report.errors() > 0) return find(Severity::error);
    const GateSummary gates = report.all_gates();
    return gates.failed == 0 && report.warnings() > 0 ? find(Severity::warning) : printable_line(gates.first);
}

// "Failed: 1 error, no warnings; L14  tokenizer.json: is missing"
// "Failed: no errors, 1 warning, which fails here (--strict); L14  generation_config.json: is missing"
std::string verdict(const VerifyReport & report) {
    const GateSummary gates = report.all_gates();
    std::string out = report.passes() ? "Passed" : "Failed";
    const auto add = [&](uint64_t count, const char * one, const char * many, bool also_none) {
        if (count == 0 && !also_none) return;
        out +=
            concat(out.size() > 6 ? ", " : ": ", count == 0 ? "no" : count_text(count), " ", count == 1 ? one : many);
    };
    add(report.errors(), "error", "errors", true);
    add(report.warnings(), "warning", "warnings", true);
    add(gates.failed, "failed gate", "failed gates", false);
    add(gates.suspicious, "suspicious figure", "suspicious figures", false);
    if (!report.passes() && report.errors() + gates.failed == 0)
        out += concat(", which ", report.warnings() + gates.suspicious == 1 ? "fails" : "fail", " here (--strict)");
    const std::string finding = first_finding(report);
    return finding.empty() ? out : out + "; " + finding;
}

} // namespace

std::string report_text(const VerifyReport & report, size_t width) {
    Writer out;
    out.plain(verdict(report) + "\n");
    out.plain(printable_line(report.subject.folder->path()));
    if (report.subject.checkpoint) {
        const Checkpoint & checkpoint = *report.subject.checkpoint;
        out.plain(concat(count_text(checkpoint.tensors().size()), " tensors, ", bytes_text(checkpoint.tensor_bytes()),
                         " in ", count_text(checkpoint.shards().size()),
                         checkpoint.shards().size() == 1 ? " shard" : " shards"));
    }
    if (report.source) out.plain("source: " + printable_line(report.source->checkpoint.folder()));
    if (report.measurements && report.measurements->fetched)
        out.plain("streamed: " + fetch_use_text(*report.measurements->fetched));
    write_findings(out, report);
    write_coverage(out, report, width);
    write_preserved(out, report);
    write_errors(out, report, width);
    write_recomputed(out, report);
    write_checks(out, report, width);
    if (!report.output_text.empty()) out.plain("\n" + report.output_text);
    if (!report.canary_text.empty()) out.plain("\n" + report.canary_text);
    if (!report.not_checked.empty()) out.plain("\nNot checked:");
    for (const std::string & line : report.not_checked) out.plain("  " + line);
    return printable_text(out.take());
}

} // namespace gnv::verify
