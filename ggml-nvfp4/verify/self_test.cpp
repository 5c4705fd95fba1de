#include "verify/self_test.h"

#include "core/strings.h"
#include "formats/json_writer.h"
#include "verify/verify.h"

#include <algorithm>
#include <map>

namespace gnv::verify {

uint64_t SelfTestReport::count(FaultOutcome outcome) const {
    return uint64_t(std::count_if(results.begin(), results.end(),
                                  [&](const FaultResult & result) { return result.outcome == outcome; }));
}

namespace {

constexpr std::string_view rounding_check = "S3";

// Errors and warnings by check.
using Counts = std::map<std::string, uint64_t>;

class SelfTest {
  public:
    SelfTest(std::shared_ptr<const Folder> folder, std::shared_ptr<const Folder> source, ThreadPool & threads)
        : folder_(std::move(folder)), source_(std::move(source)), threads_(threads) {}

    Result<SelfTestReport> run(const ProgressCallback & progress);

  private:
    // Checks the structure and, for faults in values, the damaged layer.
    Result<VerifyReport> examine(std::shared_ptr<const Folder> folder, const std::optional<LayerChoice> & touched) {
        VerifyOptions options;
        options.values = touched.has_value();
        options.hashes = false; // of every fault, they would take longer than all else
        options.measure.only = touched;
        return verify(std::move(folder), source_, threads_, options);
    }
    static Counts count(const VerifyReport & report) {
        Counts counts;
        for (const CheckOutcome & outcome : report.outcomes)
            counts[outcome.check->id] = report.findings.count(outcome.check->id, Severity::error) +
                                        report.findings.count(outcome.check->id, Severity::warning);
        return counts;
    }
    // The findings of the same checks without a fault.
    struct Baseline {
        Counts counts;
        bool rounded_to_nearest = false; // S3 judges codes of such checkpoints alone
    };
    Result<Baseline> baseline(const std::optional<LayerChoice> & touched);
    Result<FaultResult> try_fault(const Fault & fault, const Subject & subject);

    std::shared_ptr<const Folder> folder_, source_;
    ThreadPool & threads_;
    std::map<std::optional<LayerChoice>, Baseline> baselines_;
};

Result<SelfTest::Baseline> SelfTest::baseline(const std::optional<LayerChoice> & touched) {
    const auto known = baselines_.find(touched);
    if (known != baselines_.end()) return known->second;
    GNV_ASSIGN(const VerifyReport report, examine(folder_, touched));
    const bool rounded = report.measurements && nearest_share(*report.measurements) >= rounding_share;
    return baselines_[touched] = {count(report), rounded};
}

static std::string describe(const Finding & finding) {
    return concat(printable(finding.subject, 120), finding.subject.empty() ? "" : ": ", printable_line(finding.what));
}

Result<FaultResult> SelfTest::try_fault(const Fault & fault, const Subject & subject) {
    FaultResult result;
    result.fault = &fault;
    Damage damage(subject, threads_.instructions());
    GNV_ASSIGN(const bool applied, fault.inject(damage));
    if (!applied) return result;
    if (fault.needs_source && !source_) {
        result.outcome = FaultOutcome::needs_source;
        return result;
    }
    GNV_ASSIGN(const Baseline before, baseline(damage.touched()));
    GNV_ASSIGN(std::shared_ptr<const Folder> view, damage.finish());
    GNV_ASSIGN(const VerifyReport report, examine(std::move(view), damage.touched()));
    const Counts after = count(report);
    result.outcome = FaultOutcome::escaped;
    for (const Check & check : checks()) {
        if (after.at(check.id) <= before.counts.at(check.id)) continue;
        result.found_by.push_back(check.id);
        const bool expected = std::any_of(fault.expected.begin(), fault.expected.end(),
                                          [&](const char * id) { return id && result.found_by.back() == id; });
        if (!expected || result.outcome == FaultOutcome::found) continue;
        result.outcome = FaultOutcome::found;
        for (const Finding & finding : report.findings.all())
            if (finding.check == check.id && finding.severity != Severity::note && result.first_finding.empty())
                result.first_finding = describe(finding);
    }
    const bool by_rounding_alone = std::all_of(fault.expected.begin(), fault.expected.end(),
                                               [](const char * id) { return !id || id == rounding_check; });
    if (result.outcome == FaultOutcome::escaped && by_rounding_alone && !before.rounded_to_nearest)
        result.outcome = FaultOutcome::not_applicable;
    return result;
}

Result<SelfTestReport> SelfTest::run(const ProgressCallback & progress) {
    SelfTestReport report;
    report.checkpoint = folder_->path();
    if (source_) report.source = source_->path();
    Findings findings;
    GNV_ASSIGN(const Subject subject, read_subject(folder_, findings));
    if (!subject.known_model) {
        const std::string reason = findings.all().empty() ? "no model" : describe(findings.all().front());
        return fail(Code::model, folder_->path(), " is too damaged for a self-test (", reason, "); run verify first");
    }
    GNV_ASSIGN(const VerifyReport structure, examine(folder_, std::nullopt));
    report.baseline_errors = structure.errors();
    for (const Fault & fault : faults()) {
        GNV_ASSIGN(FaultResult result, try_fault(fault, subject));
        report.results.push_back(std::move(result));
        MeasureProgress state;
        state.tensors = report.results.size(), state.tensors_total = faults().size();
        if (progress && !progress(state)) return fail(Code::cancelled, "stopped on request");
    }
    return report;
}

std::string join(const std::vector<std::string> & texts) {
    std::string out;
    for (const std::string & text : texts) out += (out.empty() ? "" : " ") + text;
    return out;
}

std::string expected_text(const Fault & fault) {
    std::string out;
    for (const char * id : fault.expected)
        if (id) out += (out.empty() ? "" : "|") + std::string(id);
    return out;
}

const char * outcome_name(FaultOutcome outcome) {
    static const char * const names[] = {"found", "ESCAPED", "not applicable", "needs --source"};
    return names[size_t(outcome)];
}

std::string padded(std::string text, size_t width) {
    text.resize(std::max(width, text.size()), ' ');
    return text;
}

} // namespace

Result<SelfTestReport> self_test(std::shared_ptr<const Folder> folder, std::shared_ptr<const Folder> source,
                                 ThreadPool & threads, const ProgressCallback & progress) {
    return SelfTest(std::move(folder), std::move(source), threads).run(progress);
}

std::string self_test_text(const SelfTestReport & report) {
    std::string out = printable_line(report.checkpoint) + "\n";
    if (!report.source.empty()) out += "source: " + printable_line(report.source) + "\n";
    if (report.baseline_errors > 0)
        out += concat("the checkpoint has ", report.baseline_errors, " errors of its own: run verify\n");
    out += "\n" + padded("fault", 50) + padded("expected", 12) + padded("outcome", 16) + "found by\n";
    for (const FaultResult & result : report.results) {
        out += padded(result.fault->name, 50) + padded(expected_text(*result.fault), 12) +
               padded(outcome_name(result.outcome), 16) + join(result.found_by) + "\n";
        if (!result.first_finding.empty()) out += "    " + result.first_finding + "\n";
    }
    out += concat("\n", report.count(FaultOutcome::found), " faults found, ", report.count(FaultOutcome::escaped),
                  " escaped, ", report.count(FaultOutcome::not_applicable), " not applicable, ",
                  report.count(FaultOutcome::needs_source), " need --source\n");
    return out;
}

std::string self_test_json(const SelfTestReport & report) {
    static const char * const outcomes[] = {"found", "escaped", "not_applicable", "needs_source"};
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.self_test.1").member("checkpoint", report.checkpoint);
    json.key("source");
    if (report.source.empty()) {
        json.value(nullptr);
    } else {
        json.value(report.source);
    }
    json.member("baseline_errors", report.baseline_errors);
    for (const FaultOutcome outcome :
         {FaultOutcome::found, FaultOutcome::escaped, FaultOutcome::not_applicable, FaultOutcome::needs_source})
        json.member(outcomes[size_t(outcome)], report.count(outcome));
    json.key("results").begin_array();
    for (const FaultResult & result : report.results) {
        json.begin_object().member("fault", result.fault->name).key("expected").begin_array();
        for (const char * id : result.fault->expected)
            if (id) json.value(id);
        json.end_array().member("outcome", outcomes[size_t(result.outcome)]).member("found_by", result.found_by);
        json.member("first_finding", result.first_finding).end_object();
    }
    json.end_array().end_object();
    return json.take() + "\n";
}

} // namespace gnv::verify
