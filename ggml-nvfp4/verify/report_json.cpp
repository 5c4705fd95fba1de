// The report for programs: schema ggml-nvfp4.verify.1, see docs/json.md.
#include "verify/statistics.h"
#include "verify/verify.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace gnv::verify {

using nlohmann::ordered_json;

// JSON has no infinities.
static ordered_json number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

static ordered_json row_json(const ErrorRow & row) {
    return {{"what", row.what},
            {"modules", row.modules},
            {"relative_error",
             {{"least", number(row.error.least)}, {"median", number(row.error.median)}, {"p99", number(row.error.p99)},
              {"largest", number(row.error.largest)}}},
            {"sqnr_db", number(row.sqnr_db)},
            {"least_cosine", number(row.cosine)},
            {"clipped", number(row.clipped)},
            {"zeroed", number(row.zeroed)},
            {"nearest_codes", number(row.nearest)},
            {"saturated_scales", number(row.saturated)},
            {"subnormal_scales", number(row.subnormal)}};
}

static ordered_json rows_json(const std::vector<ErrorRow> & rows) {
    ordered_json out = ordered_json::array();
    for (const ErrorRow & row : rows) out.push_back(row_json(row));
    return out;
}

static ordered_json checks_json(const VerifyReport & report) {
    ordered_json out = ordered_json::array();
    for (const CheckOutcome & outcome : report.outcomes) {
        ordered_json check = {{"id", outcome.check->id}, {"title", outcome.check->title}, {"done", outcome.done}};
        if (!outcome.done) check["reason"] = outcome.reason;
        check["errors"] = report.findings.count(outcome.check->id, Severity::error);
        check["warnings"] = report.findings.count(outcome.check->id, Severity::warning);
        check["notes"] = report.findings.count(outcome.check->id, Severity::note);
        out.push_back(std::move(check));
    }
    return out;
}

static ordered_json findings_json(const VerifyReport & report) {
    ordered_json out = ordered_json::array();
    for (const Finding & finding : report.findings.all())
        out.push_back({{"check", finding.check}, {"severity", severity_name(finding.severity)}, {"subject", finding.subject},
                       {"what", finding.what}, {"effect", finding.effect}, {"repair", finding.repair}});
    return out;
}

static ordered_json coverage_json(const VerifyReport & report) {
    ordered_json out = ordered_json::array();
    for (const CoverageRow & row : coverage(report))
        out.push_back({{"part", part_name(row.part)}, {"role", role_traits(row.role).name}, {"modules", row.modules},
                       {"declared", row.declared}, {"nvfp4", row.nvfp4}, {"fp8", row.fp8}, {"plain", row.plain},
                       {"absent", row.absent}, {"weights", row.weights}});
    return out;
}

static ordered_json modules_json(const VerifyReport & report) {
    ordered_json out = ordered_json::array();
    for (size_t m = 0; m < report.subject.modules.size(); m++) {
        const ModuleValues & values = report.measurements->modules[m];
        if (!values.measured) continue;
        ordered_json module = {{"name", report.subject.modules[m].name},
                               {"weight_global_scale", number(double(values.weight_global_scale))}};
        if (values.has_input_scale) module["input_global_scale"] = number(double(values.input_global_scale));
        module["blocks"] = values.scales.blocks;
        module["zero_scales"] = values.scales.zero;
        module["subnormal_scales"] = values.scales.subnormal;
        module["saturated_scales"] = values.scales.saturated;
        if (values.compared) {
            const cpu::Nvfp4Comparison & comparison = values.comparison;
            module["relative_error"] = number(values.relative_error());
            module["sqnr_db"] = number(values.sqnr_db());
            module["cosine"] = number(values.cosine());
            module["clipped"] = comparison.clipped;
            module["zeroed"] = comparison.zeroed;
            module["nearest_codes"] = comparison.nearest_codes;
            module["nearest_scales"] = comparison.nearest_scales;
            module["poor_blocks"] = comparison.poor_blocks;
        }
        out.push_back(std::move(module));
    }
    return out;
}

static ordered_json preserved_json(const VerifyReport & report) {
    static const char * const kinds[] = {"same", "converted", "rounded", "norm_trip", "different"};
    ordered_json out = ordered_json::array();
    for (size_t i = 0; i < report.measurements->preserved.size(); i++) {
        const PreservedValues & values = report.measurements->preserved[i];
        if (!values.measured) continue;
        out.push_back({{"name", report.subject.info(report.source->preserved[i].tensor).name},
                       {"kind", kinds[size_t(values.kind)]},
                       {"sha256", values.sha256}});
    }
    return out;
}

std::string report_json(const VerifyReport & report) {
    ordered_json json = {
        {"schema", "ggml-nvfp4.verify.1"},
        {"checkpoint", report.subject.folder->path()},
        {"source", report.source ? ordered_json(report.source->checkpoint.folder()) : ordered_json(nullptr)},
        {"errors", report.errors()},
        {"warnings", report.warnings()},
        {"notes", report.findings.count(Severity::note)},
        {"checks", checks_json(report)},
        {"findings", findings_json(report)},
        {"not_checked", report.not_checked},
    };
    if (report.subject.checkpoint) {
        json["tensors"] = report.subject.checkpoint->tensors().size();
        json["tensor_bytes"] = report.subject.checkpoint->tensor_bytes();
        json["shards"] = report.subject.checkpoint->shards().size();
    }
    json["coverage"] = coverage_json(report);
    if (report.measurements) {
        json["bytes_read"] = report.measurements->bytes_read;
        json["by_role"] = rows_json(errors_by_role(report));
        json["by_layer"] = rows_json(errors_by_layer(report));
        json["modules"] = modules_json(report);
        json["preserved"] = preserved_json(report);
    }
    json["seconds"] = report.seconds;
    return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

} // namespace gnv::verify
