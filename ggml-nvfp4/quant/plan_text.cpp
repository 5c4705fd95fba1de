#include "quant/plan.h"

#include "checkpoint/safetensors_header.h"
#include "core/table.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <map>

namespace gnv {

static const char * const part_names[] = {"text", "vision tower", "draft head"};

// --- For people -------------------------------------------------------------------------------------------------------------

namespace {

// One line of the summary: all tensors of a role with the same result and the same reason.
struct SummaryRow {
    std::string what, becomes, rule;
    uint64_t tensors = 0, source_bytes = 0, result_bytes = 0;
    size_t order = 0;
};

std::vector<SummaryRow> summarize(const Plan & plan) {
    // The rule of a source tensor is that of the modules inside it.
    std::vector<int> module_in(plan.checkpoint.tensors().size(), -1);
    for (size_t m = 0; m < plan.layout.modules.size(); m++)
        if (module_in[plan.layout.modules[m].source] < 0) module_in[plan.layout.modules[m].source] = int(m);
    std::vector<uint64_t> result_bytes(plan.checkpoint.tensors().size(), 0);
    for (size_t t = 0; t < plan.tensors.size(); t++)
        result_bytes[plan.tensors[t].source] += plan.output.tensors[t].bytes;

    std::map<std::string, SummaryRow> rows;
    for (const ModelTensor & tensor : plan.layout.tensors) {
        const int module = module_in[tensor.source];
        const Format * const format = module >= 0 ? plan.selection.format[size_t(module)] : nullptr;
        SummaryRow row;
        row.becomes = format ? format->name : "copied";
        if (tensor.part != Part::text) { // a row for what is copied, and one for a head's modules in a format
            row.what = part_names[size_t(tensor.part)];
            if (format) row.rule = "target draft head";
        } else {
            row.what = role_traits(tensor.role).name;
            if (module >= 0) row.rule = plan.recipe.describe_rule(plan.selection.rule[size_t(module)]);
        }
        row.order = rows.size();
        SummaryRow & kept = rows.emplace(row.what + "|" + row.becomes + "|" + row.rule, row).first->second;
        kept.tensors++;
        kept.source_bytes += plan.checkpoint.tensors()[tensor.source].bytes;
        kept.result_bytes += result_bytes[tensor.source];
    }
    std::vector<SummaryRow> sorted;
    for (const auto & [key, row] : rows) sorted.push_back(row);
    std::sort(sorted.begin(), sorted.end(), [](const auto & a, const auto & b) { return a.order < b.order; });
    return sorted;
}

} // namespace

static std::string files(size_t count, const char * kind = "") {
    return concat(count_text(count), " ", kind, count == 1 ? "file" : "files");
}

static std::string draft_text(const Plan & plan) {
    const Format * const format = plan.options.recipe.draft_head;
    if (!format) return "";
    return concat(", ", count_text(uint64_t(plan.selection.draft_count)), " of them of the draft head: ", format->name,
                  " by ", plan.recipe.quantizer_of(Part::mtp).name());
}

std::string plan_text(const Plan & plan, size_t width) {
    uint64_t twice = 0;
    for (const PlanUnit & unit : plan.units) twice += unit.read_twice;
    uint64_t other_bytes = 0;
    for (const PlanFile & file : plan.files) other_bytes += file.bytes;

    std::string out = format_table(
        {{"source", plan.checkpoint.folder()},
         {"",
          concat(count_text(plan.checkpoint.tensors().size()), " tensors in ", files(plan.checkpoint.shards().size()),
                 ", ", count_text(plan.checkpoint.tensor_bytes()), " bytes")},
         {"model", plan.layout.description},
         {"scheme", concat(plan.options.recipe.scheme->name, ", preset ", preset_name(plan.options.recipe.preset), ": ",
                           count_text(uint64_t(plan.selection.count)), " quantized modules", draft_text(plan))},
         {"result", concat(count_text(plan.output.tensors.size()), " tensors in ", files(plan.output.shards.size()),
                           ", ", count_text(plan.output.tensor_bytes()), " bytes; ", files(plan.files.size(), "other "),
                           ", ", bytes_text(other_bytes))},
         {"disk", concat("reads ", bytes_text(plan.source_bytes_read()), ", writes ", bytes_text(plan.disk_bytes()))},
         {"memory",
          concat(plan.memory.workers, " threads x ", bytes_text(plan.memory.source_buffer + plan.memory.output_buffer),
                 " of buffers = ", bytes_text(plan.memory.total()),
                 twice ? concat("; ", twice, " groups are read twice") : "")}},
        {false, false});
    if (!plan.stream_text.empty()) out += "streamed: " + plan.stream_text + "\n";

    std::vector<std::vector<std::string>> rows = {{"tensors", "count", "source", "result", "becomes", "because of"}};
    for (const SummaryRow & row : summarize(plan))
        rows.push_back({row.what, count_text(row.tensors), bytes_text(row.source_bytes), bytes_text(row.result_bytes),
                        row.becomes, row.rule});
    out += "\n" + format_table(rows, {false, true, true, true, false, false}, width);
    for (const std::string & text : {plan.calibration_text, plan.estimate_text})
        if (!text.empty()) out += "\n" + text;
    if (!(plan.calibration_text + plan.estimate_text).empty() && plan.notes.size() + plan.warnings.size() > 0)
        out += "\n";
    for (const std::string & note : plan.notes) out += "note: " + printable_line(note) + "\n";
    for (const std::string & warning : plan.warnings) out += "warning: " + printable_line(warning) + "\n";
    return printable_text(out);
}

// --- For programs -------------------------------------------------------------------------------------------------------------

static std::string json_list(const std::vector<std::string> & texts) {
    std::string out = "[";
    for (const std::string & text : texts) out += (out.size() > 1 ? "," : "") + json_quote(text);
    return out + "]";
}

void write_draft_head(JsonWriter & json, const Plan & plan) {
    const Format * const format = plan.options.recipe.draft_head;
    if (!format) {
        json.value(nullptr);
        return;
    }
    json.begin_object().member("scheme", format->name).member("method", plan.recipe.quantizer_of(Part::mtp).name());
    json.member("quantized_modules", plan.selection.draft_count).end_object();
}

static std::string draft_json(const Plan & plan) {
    JsonWriter json;
    write_draft_head(json, plan);
    return json.take();
}

// Written piece by piece: 124,000 tensors take no longer than a JSON library takes to build a tree.
std::string plan_json(const Plan & plan) {
    const auto shape_json = [](const std::vector<int64_t> & shape) {
        std::string text = "[";
        for (const int64_t extent : shape) text += (text.size() > 1 ? "," : "") + std::to_string(extent);
        return text + "]";
    };
    std::string out =
        concat("{\"schema\":\"ggml-nvfp4.plan.1\",\n\"source\":{\"folder\":", json_quote(plan.checkpoint.folder()),
               ",\"tensors\":", plan.checkpoint.tensors().size(), ",\"bytes\":", plan.checkpoint.tensor_bytes(),
               ",\"fingerprint\":\"", plan.source_fingerprint, "\",\"shards\":[");
    for (const Shard & shard : plan.checkpoint.shards())
        out += concat(out.back() == '[' ? "" : ",", "{\"file\":", json_quote(shard.file_name),
                      ",\"bytes\":", shard.stamp.size, "}");
    out += concat("]},\n\"model\":{\"family\":", json_quote(plan.layout.family),
                  ",\"description\":", json_quote(plan.layout.description), "},\n\"scheme\":\"",
                  plan.options.recipe.scheme->name, "\",\"preset\":\"", preset_name(plan.options.recipe.preset),
                  "\",\"method\":\"", plan.quantizer().name(), "\",\"headroom\":", double(plan.options.recipe.headroom),
                  ",\"draft_head\":", draft_json(plan), ",\"quantized_modules\":", plan.selection.count,
                  ",\n\"bytes_read\":", plan.source_bytes_read(), ",\"disk_bytes\":", plan.disk_bytes(),
                  ",\n\"memory\":{\"threads\":", plan.memory.workers, ",\"source_buffer\":", plan.memory.source_buffer,
                  ",\"output_buffer\":", plan.memory.output_buffer, ",\"total\":", plan.memory.total(),
                  "},\n\"calibration\":", plan.calibration_json.empty() ? "null" : plan.calibration_json,
                  ",\n\"estimate\":", plan.estimate_json.empty() ? "null" : plan.estimate_json,
                  ",\n\"streamed\":", plan.stream_json.empty() ? "null" : plan.stream_json, ",\n\"fingerprint\":\"",
                  plan.plan_fingerprint, "\",\n\"result\":{\"tensors\":", plan.output.tensors.size(),
                  ",\"bytes\":", plan.output.tensor_bytes(), ",\"shards\":[");
    for (const OutputShard & shard : plan.output.shards)
        out += concat(out.back() == '[' ? "" : ",", "{\"file\":", json_quote(shard.file_name),
                      ",\"bytes\":", shard.file_bytes, "}");
    out += "]},\n\"files\":[";
    for (const PlanFile & file : plan.files)
        out +=
            concat(out.back() == '[' ? "" : ",", "{\"name\":", json_quote(file.name), ",\"bytes\":", file.bytes, "}");
    out +=
        "],\n\"notes\":" + json_list(plan.notes) + ",\n\"warnings\":" + json_list(plan.warnings) + ",\n\"tensors\":[";
    for (size_t t = 0; t < plan.tensors.size(); t++) {
        const OutputTensor & tensor = plan.output.tensors[t];
        const PlanTensor & what = plan.tensors[t];
        const TensorInfo & source = plan.checkpoint.tensors()[what.source];
        uint64_t from = source.offset, size = source.bytes;
        const char * content = "copy";
        if (what.component >= 0) {
            const LinearModule & linear = plan.layout.modules[what.module];
            content = plan.selection.format[what.module]->components[size_t(what.component)].name;
            from += linear.offset;
            size = plan.weight_bytes(linear);
        }
        out += concat(t ? ",\n" : "\n", "{\"name\":", json_quote(tensor.name), ",\"dtype\":\"",
                      dtype_name(tensor.dtype), "\",\"shape\":", shape_json(tensor.shape), ",\"content\":\"", content,
                      "\",\"file\":", tensor.shard, ",\"offset\":", tensor.offset, ",\"bytes\":", tensor.bytes,
                      ",\"source\":{\"name\":", json_quote(source.name), ",\"file\":", source.shard,
                      ",\"offset\":", from, ",\"bytes\":", size, "}}");
    }
    return out + "\n]}\n";
}

} // namespace gnv
