// The report for programs: schema ggml-nvfp4.verify.1, see docs/json.md.
#include "formats/json_writer.h"
#include "report/engines.h"
#include "verify/statistics.h"
#include "verify/verify.h"

namespace gnv::verify {

static void write_rows(JsonWriter & json, const char * key, const std::vector<ErrorRow> & rows) {
    json.key(key).begin_array();
    for (const ErrorRow & row : rows) {
        json.begin_object().member("what", row.what).member("modules", row.modules);
        json.key("relative_error").begin_object();
        json.member("least", row.error.least).member("median", row.error.median);
        json.member("p99", row.error.p99).member("largest", row.error.largest).end_object();
        json.member("sqnr_db", row.sqnr_db).member("least_cosine", row.cosine);
        json.member("clipped", row.clipped).member("zeroed", row.zeroed).member("nearest_codes", row.nearest);
        json.member("saturated_scales", row.saturated).member("subnormal_scales", row.subnormal).end_object();
    }
    json.end_array();
}

static void write_checks(JsonWriter & json, const VerifyReport & report) {
    json.key("checks").begin_array();
    for (const CheckOutcome & outcome : report.outcomes) {
        const char * id = outcome.check->id;
        json.begin_object().member("id", id).member("title", outcome.check->title).member("done", outcome.done);
        if (!outcome.done) json.member("reason", outcome.reason);
        json.member("errors", report.findings.count(id, Severity::error));
        json.member("warnings", report.findings.count(id, Severity::warning));
        json.member("notes", report.findings.count(id, Severity::note)).end_object();
    }
    json.end_array();
}

static void write_findings(JsonWriter & json, const VerifyReport & report) {
    json.key("findings").begin_array();
    for (const Finding & finding : report.findings.all()) {
        json.begin_object().member("check", finding.check).member("severity", severity_name(finding.severity));
        json.member("subject", finding.subject).member("what", finding.what);
        json.member("effect", finding.effect).member("repair", finding.repair).end_object();
    }
    json.end_array();
}

static void write_coverage(JsonWriter & json, const VerifyReport & report) {
    json.key("coverage").begin_array();
    for (const CoverageRow & row : coverage(report)) {
        json.begin_object().member("part", part_name(row.part)).member("role", role_traits(row.role).name);
        json.member("modules", row.modules).member("declared", row.declared).member("nvfp4", row.nvfp4);
        json.member("fp8", row.fp8).member("plain", row.plain).member("absent", row.absent);
        json.member("weights", row.weights).end_object();
    }
    json.end_array();
}

static void write_range(JsonWriter & json, const char * key, const PlaceRow::Range & range) {
    json.key(key);
    if (range.largest == 0) {
        json.value(nullptr);
        return;
    }
    json.begin_object().member("minimum", range.least).member("median", range.median);
    json.member("maximum", range.largest).end_object();
}

static void write_places(JsonWriter & json, const VerifyReport & report) {
    json.key("by_layer_and_role").begin_array();
    for (const PlaceRow & row : places(report)) {
        json.begin_object().member("part", part_name(row.part)).member("layer", row.layer);
        json.member("role", role_traits(row.role).name).member("modules", row.modules);
        json.key("relative_error");
        row.compared > 0 ? json.value(row.relative_error) : json.value(nullptr);
        write_range(json, "weight_global_scale", row.weight_scale);
        write_range(json, "input_global_scale", row.input_scale);
        json.end_object();
    }
    json.end_array();
    json.key("expert_errors").begin_array();
    for (const auto & [layer, errors] : expert_errors(report))
        json.begin_object().member("layer", layer).member("relative_error", errors).end_object();
    json.end_array();
}

// What engines would make of the text model, and the checks that found errors that stop or mislead them.
static void write_engines(JsonWriter & json, const VerifyReport & report) {
    StoredModules stored;
    for (const Module & module : report.subject.modules) {
        const bool has_input = module.tensor(Component::input_global_scale) >= 0;
        if (module.stored == Stored::nvfp4) (has_input ? stored.w4a4 : stored.w4a16)++;
    }
    std::vector<std::string> stopped;
    for (const CheckOutcome & outcome : report.outcomes)
        if (outcome.check->id[0] == 'L' && report.findings.count(outcome.check->id, Severity::error) > 0)
            stopped.push_back(outcome.check->id);
    json.key("engines");
    engines_json(json, stored, stopped);
}

static void write_modules(JsonWriter & json, const VerifyReport & report) {
    json.key("modules").begin_array();
    for (size_t m = 0; m < report.subject.modules.size(); m++) {
        const ModuleValues & values = report.measurements->modules[m];
        if (!values.measured) continue;
        const Module & module = report.subject.modules[m];
        json.begin_object().member("name", module.name).member("part", part_name(module.part));
        json.member("role", role_traits(module.role).name).member("layer", module.layer);
        json.key("expert");
        module.expert >= 0 ? json.value(module.expert) : json.value(nullptr);
        json.member("weight_global_scale", double(values.weight_global_scale));
        if (values.has_input_scale) json.member("input_global_scale", double(values.input_global_scale));
        json.member("blocks", values.scales.blocks).member("zero_scales", values.scales.zero);
        json.member("subnormal_scales", values.scales.subnormal).member("saturated_scales", values.scales.saturated);
        if (values.compared) {
            const nvfp4::Comparison & comparison = values.comparison;
            json.member("relative_error", values.relative_error()).member("sqnr_db", values.sqnr_db());
            json.member("cosine", values.cosine());
            json.member("clipped", comparison.clipped).member("zeroed", comparison.zeroed);
            json.member("nearest_codes", comparison.nearest_codes).member("nearest_scales", comparison.nearest_scales);
            json.member("far_weights", comparison.far_weights);
        }
        if (values.recomputed_blocks > 0) json.member("recomputed_same", values.recomputed_same);
        json.end_object();
    }
    json.end_array();
}

static void write_preserved(JsonWriter & json, const VerifyReport & report) {
    static const char * const kinds[] = {"same", "converted", "rounded", "norm_trip", "different"};
    json.key("preserved").begin_array();
    for (size_t i = 0; i < report.measurements->preserved.size(); i++) {
        const PreservedValues & values = report.measurements->preserved[i];
        if (!values.measured) continue;
        json.begin_object().member("name", report.subject.info(report.source->preserved[i].tensor).name);
        json.member("kind", kinds[size_t(values.kind)]);
        if (!values.sha256.empty()) json.member("sha256", values.sha256);
        json.end_object();
    }
    json.end_array();
}

Result<std::string> report_json(const VerifyReport & report) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.verify.1").member("checkpoint", report.subject.folder->path());
    json.member("version", GNV_VERSION_STRING).member("threads", report.threads);
    json.key("source");
    if (report.source) {
        json.value(report.source->checkpoint.folder());
    } else {
        json.value(nullptr);
    }
    json.member("passed", report.passes()).member("strict", report.strict);
    json.member("errors", report.errors()).member("warnings", report.warnings());
    json.member("notes", report.findings.count(Severity::note));
    write_checks(json, report);
    write_findings(json, report);
    json.member("not_checked", report.not_checked);
    if (report.subject.checkpoint) {
        json.member("tensors", report.subject.checkpoint->tensors().size());
        json.member("tensor_bytes", report.subject.checkpoint->tensor_bytes());
        json.member("shards", report.subject.checkpoint->shards().size());
    }
    write_coverage(json, report);
    write_engines(json, report);
    if (report.measurements) {
        json.member("bytes_read", report.measurements->bytes_read);
        write_fetch_use(json, report.measurements->fetched);
        write_rows(json, "by_role", errors_by_role(report));
        write_rows(json, "by_layer", errors_by_layer(report));
        if (!report.recomputed_on.empty()) {
            const RecomputedSummary summary = recomputed_summary(report);
            json.key("recomputed").begin_object().member("device", report.recomputed_on);
            json.member("modules", summary.modules).member("same_modules", summary.same_modules);
            json.member("blocks", summary.blocks).member("same_blocks", summary.same_blocks).end_object();
        }
        write_places(json, report);
        write_modules(json, report);
        write_preserved(json, report);
    }
    for (const auto & [key, text] :
         {std::pair("output", &report.output_json), std::pair("canary", &report.canary_json)}) {
        if (text->empty()) continue;
        Result<JsonDocument> document = JsonDocument::parse(*text, key);
        if (!document.ok()) return document.take_status(); // written by this library: memory lacks
        json.key(key).value(document.value().root());
    }
    json.member("seconds", report.seconds).end_object();
    return json.take() + "\n";
}

} // namespace gnv::verify
