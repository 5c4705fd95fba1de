#include "verify/verify.h"
#include "core/clock.h"

#include "core/strings.h"
#include "report/report_file.h"

#include <algorithm>

namespace gnv::verify {

// The reason to skip a check; empty: none.
static std::string obstacle(const Check & check, const Context & context, const VerifyOptions & options) {
    const Subject & subject = context.subject;
    if ((check.needs & needs_source) && !context.source) return "no source was given";
    if ((check.needs & needs_headers) && !subject.checkpoint) return "the safetensors headers cannot be used";
    if (check.needs & needs_model) {
        if (!subject.known_model) return "config.json does not describe a model we know";
        if (subject.config_groups().too_costly) return "config.json's patterns take too long";
        if (!subject.config_groups().usable()) return "config.json does not declare compressed-tensors";
    }
    if ((check.needs & (needs_values | needs_listed)) && !options.values) return "only the structure was asked for";
    if ((check.needs & needs_listed) && !options.hashes) return "hashes were not asked for";
    if ((check.needs & needs_listed) && !context.listed) return "README.md lists no files with hashes";
    return "";
}

static const char * const no_forward_pass = "what the model answers: no forward pass was run";

static std::vector<std::string> list_not_checked(const VerifyReport & report, const VerifyOptions & options) {
    std::vector<std::string> out;
    if (!report.source) out.push_back("weights, preserved tensors and other files against the source: none was given");
    if (!options.values) out.push_back("values of scales and weights: only the structure was asked for");
    if (options.measure.only) out.push_back("values of other layers than the one that was asked for");
    uint64_t fp8 = 0, other = 0;
    for (size_t m = 0; m < report.subject.modules.size(); m++) {
        const Module & module = report.subject.modules[m];
        fp8 += module.stored == Stored::fp8 && !(report.measurements && report.measurements->fp8[m].measured);
        const DeclaredFormat * declared = report.subject.known_model ? report.subject.declared_format(module) : nullptr;
        other += declared && declared->is_other();
    }
    if (fp8 > 0) out.push_back(concat("the values of ", count_text(fp8), " FP8 modules"));
    if (other > 0)
        out.push_back(concat("the tensors of ", count_text(other), " modules under a scheme other than NVFP4 and FP8"));
    const auto folders = std::count_if(report.subject.files.begin(), report.subject.files.end(),
                                       [](const DirectoryEntry & entry) { return entry.is_directory; });
    if (folders > 0) out.push_back("files in sub-folders");
    out.push_back(no_forward_pass);
    return out;
}

Result<VerifyReport> verify(std::shared_ptr<const Folder> folder, std::shared_ptr<const Folder> source,
                            ThreadPool & threads, const VerifyOptions & options) {
    const auto start = Clock::now();
    VerifyReport report;
    if (!options.report_file.empty()) GNV_TRY(check_report_file(options.report_file));
    report.threads = threads.size();
    report.strict = options.strict;
    GNV_ASSIGN(report.auxiliary, read_auxiliary_files(*folder, source.get()));
    GNV_ASSIGN(report.subject, read_subject(std::move(folder), report.findings));
    if (source) {
        Result<Source> opened = read_source(std::move(source));
        if (!opened.ok()) return opened.take_status().add_context("source");
        report.source = opened.take();
        relate(report.subject, *report.source);
    }
    Context context{report.subject, report.auxiliary, report.source ? &*report.source : nullptr, nullptr, nullptr};
    MeasureOptions measured = options.measure;
    if (options.values && options.hashes) {
        GNV_ASSIGN(report.listed, read_listed_files(report.subject, threads, measured.progress));
        for (const ListedState & file : report.listed)
            if (!file.sha256.empty()) measured.bytes_before += file.size;
        if (!report.listed.empty()) context.listed = &report.listed;
    }
    const bool readable = report.subject.known_model && report.subject.config_groups().usable();
    if (options.values && readable) {
        GNV_ASSIGN(report.measurements, measure(report.subject, context.source, threads, measured));
        context.measurements = &*report.measurements;
        if (options.measure.recomputer && context.source) report.recomputed_on = options.measure.recomputer->device();
    }
    for (const Check & check : checks()) {
        const std::string reason = obstacle(check, context, options);
        if (reason.empty()) check.run(context, report.findings);
        report.outcomes.push_back({&check, reason.empty(), reason});
    }
    report.not_checked = list_not_checked(report, options);
    report.seconds = seconds_since(start);
    return report;
}

GateSummary VerifyReport::all_gates() const {
    const bool canary_first = gates.failed == 0 && (canary_gates.failed > 0 || gates.first.empty());
    const GateSummary & counts = canary_first ? canary_gates : gates;
    return {gates.failed + canary_gates.failed, gates.suspicious + canary_gates.suspicious, counts.first};
}

bool VerifyReport::passes() const {
    const GateSummary all = all_gates();
    return errors() + all.failed == 0 && !(strict && warnings() + all.suspicious > 0);
}

void attach_output(VerifyReport & report, std::string text, std::string json, GateSummary gates) {
    report.output_text = std::move(text);
    report.output_json = std::move(json);
    report.gates = std::move(gates);
    std::erase(report.not_checked, no_forward_pass);
}

void attach_canary(VerifyReport & report, std::string text, std::string json, GateSummary gates) {
    report.canary_text = std::move(text);
    report.canary_json = std::move(json);
    report.canary_gates = std::move(gates);
    std::erase(report.not_checked, no_forward_pass);
}

Status write_report(const std::string & path, const VerifyReport & report) {
    GNV_ASSIGN(const std::string json, report_json(report));
    return write_report_file(path, json);
}

} // namespace gnv::verify
