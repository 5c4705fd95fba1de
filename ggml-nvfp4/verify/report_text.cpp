// The report for people.
#include "verify/statistics.h"
#include "verify/verify.h"

#include "core/strings.h"

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
    std::string take() { return std::move(text_); }

  private:
    std::string text_;
};

unsigned long long wide(uint64_t value) { return value; }

void write_coverage(Writer & out, const VerifyReport & report) {
    if (report.subject.modules.empty()) return;
    out.plain("");
    out.line("%-34s %9s %9s %9s %9s %9s", "Linears", "all", "declared", "NVFP4", "FP8", "plain");
    uint64_t declared = 0, quantized = 0, text_weights = 0, quantized_weights = 0;
    for (const CoverageRow & row : coverage(report)) {
        const std::string what = concat(part_name(row.part), ": ", role_traits(row.role).name);
        out.line("%-34s %9llu %9llu %9llu %9llu %9llu", what.c_str(), wide(row.modules), wide(row.declared),
                 wide(row.nvfp4), wide(row.fp8), wide(row.plain));
        declared += row.declared, quantized += row.nvfp4 + row.fp8;
        if (row.part != Part::text) continue;
        text_weights += row.weights;
        quantized_weights += row.weights / row.modules * (row.nvfp4 + row.fp8);
    }
    out.plain(concat(count_text(quantized), " of ", count_text(declared),
                     " Linears that config.json declares are quantized; ",
                     count_text(quantized_weights * 100 / (text_weights ? text_weights : 1)),
                     " % of the weights in the text model's Linears"));
}

void write_rows(Writer & out, const char * what, const std::vector<ErrorRow> & rows) {
    out.plain("");
    out.line("%-24s %8s %9s %9s %9s %7s %8s %8s %7s %8s %8s %8s", what, "modules", "median", "99 %", "largest", "SQNR",
             "cosine", "clipped", "zeroed", "satur.", "subnorm.", "nearest");
    for (const ErrorRow & row : rows)
        out.line("%-24s %8llu %9.6f %9.6f %9.6f %7.2f %8.5f %7.3f%% %6.2f%% %7.3f%% %7.3f%% %7.3f%%", row.what.c_str(),
                 wide(row.modules), row.error.median, row.error.p99, row.error.largest, row.sqnr_db, row.cosine,
                 100 * row.clipped, 100 * row.zeroed, 100 * row.saturated, 100 * row.subnormal, 100 * row.nearest);
}

void write_errors(Writer & out, const VerifyReport & report) {
    const std::vector<ErrorRow> roles = errors_by_role(report);
    if (roles.empty()) return;
    out.plain(
        "\nQuantized weights against the source: relative squared error of modules (median, 99 %, largest), SQNR in dB,"
        "\nleast cosine, shares of elements and blocks");
    write_rows(out, "by role", roles);
    write_rows(out, "by layer", errors_by_layer(report));
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

void write_checks(Writer & out, const VerifyReport & report) {
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
        out.line("%-4s %-76s %s", id, outcome.check->title, printable_line(state).c_str());
    }
}

void write_findings(Writer & out, const VerifyReport & report) {
    for (const Severity severity : {Severity::error, Severity::warning, Severity::note}) {
        for (const CheckOutcome & outcome : report.outcomes) {
            uint64_t shown = 0;
            for (const Finding & finding : report.findings.all()) {
                if (finding.severity != severity || finding.check != outcome.check->id || shown == shown_per_check)
                    continue;
                shown++;
                out.plain(concat("\n", severity_name(severity), " ", finding.check, "  ",
                                 printable(finding.subject, 300), finding.subject.empty() ? "" : ": ",
                                 printable_line(finding.what)));
                if (!finding.effect.empty()) out.plain("    effect: " + printable_line(finding.effect));
                if (!finding.repair.empty()) out.plain("    repair: " + printable_line(finding.repair));
            }
            const uint64_t count = report.findings.count(outcome.check->id, severity);
            if (count > shown)
                out.plain(concat("\n", severity_name(severity), " ", outcome.check->id, "  ... and ",
                                 count_text(count - shown), " more"));
        }
    }
}

} // namespace

std::string report_text(const VerifyReport & report) {
    Writer out;
    out.plain(printable_line(report.subject.folder->path()));
    if (report.subject.checkpoint) {
        const Checkpoint & checkpoint = *report.subject.checkpoint;
        out.plain(concat(count_text(checkpoint.tensors().size()), " tensors, ", bytes_text(checkpoint.tensor_bytes()),
                         " in ", count_text(checkpoint.shards().size()),
                         checkpoint.shards().size() == 1 ? " shard" : " shards"));
    }
    if (report.source) out.plain("source: " + printable_line(report.source->checkpoint.folder()));
    write_coverage(out, report);
    write_preserved(out, report);
    write_errors(out, report);
    write_recomputed(out, report);
    write_checks(out, report);
    write_findings(out, report);
    if (!report.output_text.empty()) out.plain("\n" + report.output_text);
    if (!report.canary_text.empty()) out.plain("\n" + report.canary_text);
    if (!report.not_checked.empty()) out.plain("\nNot checked:");
    for (const std::string & line : report.not_checked) out.plain("  " + line);
    out.plain(report.errors() + report.warnings() == 0
                  ? std::string("\nPassed: no errors, no warnings")
                  : concat("\n", report.errors() ? "Failed: " : "Passed: ", count_text(report.errors()),
                           report.errors() == 1 ? " error, " : " errors, ", count_text(report.warnings()),
                           report.warnings() == 1 ? " warning" : " warnings"));
    return printable_text(out.take());
}

} // namespace gnv::verify
