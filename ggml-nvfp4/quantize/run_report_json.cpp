// The report of a run for programs: schema ggml-nvfp4.quantize.1, see docs/json.md.
#include "formats/json_writer.h"
#include "quantize/estimate/estimate.h"
#include "quantize/quantization_report.h"
#include "quantize/quantize.h"
#include "report/engines.h"

namespace gnv {

static void write_scales(JsonWriter & json, const QuantizeReport & report) {
    json.key("input_scales").begin_array();
    for (const QuantizeReport::Scales & scales : report.scales) {
        json.begin_object().member("layer", scales.layer).member("role", role_traits(scales.role).name);
        json.member("modules", scales.modules).member("minimum", double(scales.minimum));
        json.member("median", double(scales.median)).member("maximum", double(scales.maximum)).end_object();
    }
    json.end_array();
}

static void write_engines(JsonWriter & json, const Plan & plan) {
    StoredModules stored;
    for (const PlanModule & module : plan.modules)
        plan.format(module).takes_input_scale() ? stored.w4a4++ : stored.w4a16++;
    json.key("engines");
    engines_json(json, stored, {});
}

static std::vector<std::string> not_checked(const QuantizeReport & report) {
    if (report.destination.empty()) return {"nothing was quantized: the run measured inputs alone"};
    return {"that loaders accept the files as written: ggml-nvfp4 verify DST",
            "the weights of the result against the source: ggml-nvfp4 verify DST --source SRC",
            "what the model answers: ggml-nvfp4 verify DST --source SRC --data FILE",
            "speed, and answers in an engine: no engine was run"};
}

Result<std::string> quantize_report_json(const Plan & plan, const QuantizeReport & report) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.quantize.1").member("version", GNV_VERSION_STRING);
    json.member("source", plan.checkpoint.folder());
    json.key("destination");
    report.destination.empty() ? json.value(nullptr) : json.value(report.destination);
    json.member("model", plan.layout.description);
    json.member("scheme", plan.options.recipe.scheme->name);
    json.member("preset", preset_name(plan.options.recipe.preset));
    json.member("method", plan.quantizer().name()).member("headroom", double(plan.options.recipe.headroom));
    json.key("draft_head");
    write_draft_head(json, plan);
    json.member("source_tensors", plan.checkpoint.tensors().size());
    json.member("source_bytes", plan.checkpoint.tensor_bytes());
    json.member("quantized_modules", plan.selection.count);
    json.member("tensors", plan.output.tensors.size()).member("shards", plan.output.shards.size());
    json.member("bytes_read", report.bytes_read).member("bytes_written", report.bytes_written);
    json.key("thread_seconds").begin_object().member("read", report.read).member("measure", report.measure);
    json.member("pack", report.pack).member("write", report.write).end_object();
    json.key("seconds")
        .begin_object()
        .member("prepare", report.prepare_wall)
        .member("calibrate", report.calibrate_wall)
        .member("stream", report.stream_wall)
        .member("sync", report.sync_wall)
        .member("state", report.state_wall);
    json.member("hash", report.hash_wall)
        .member("finish", report.finish_wall)
        .member("remove", report.remove_wall)
        .member("total", report.total_wall)
        .end_object();
    json.key("estimate");
    report.estimate ? estimate_json(json, *report.estimate) : void(json.value(nullptr));
    json.key("phases");
    phases_json(json, report.phases);
    json.key("disks");
    disks_json(json, report.disks);
    json.member("cpu_seconds", report.cpu);
    json.member("threads", plan.memory.workers).member("planned_buffer_bytes", plan.memory.total());
    json.member("planned_calibration_bytes", report.planned_bytes);
    json.member("device", report.device).member("devices", report.devices);
    json.member("planned_device_bytes", report.planned_device_bytes);
    json.member("device_bytes_in_use", report.device_bytes_in_use);
    json.key("resumed");
    if (report.resumed) {
        json.begin_object().member("units", report.resumed_units).member("layers", report.resumed_layers).end_object();
    } else {
        json.value(nullptr);
    }
    write_fetch_use(json, report.fetched);
    json.member("state_bytes", report.state_bytes);
    json.member("substituted_input_scales", report.substituted_scales);
    json.member("peak_rss_bytes", report.peak_rss).member("codec", report.codec);
    std::vector<std::string> warnings = plan.warnings;
    warnings.insert(warnings.end(), report.warnings.begin(), report.warnings.end());
    json.member("warnings", warnings).member("notes", plan.notes);
    write_scales(json, report);
    write_engines(json, plan);
    json.member("not_checked", not_checked(report));
    json.key("quantization_report");
    if (report.result_json.empty()) {
        json.value(nullptr);
    } else {
        Result<JsonDocument> result = JsonDocument::parse(report.result_json, quantization_report_name);
        if (!result.ok()) return result.take_status(); // written by this library: memory lacks
        json.value(result.value().root());
    }
    return json.end_object().take() + "\n";
}

} // namespace gnv
