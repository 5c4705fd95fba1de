// The report for programs: schema ggml-nvfp4.evaluation.1, see docs/json.md.
#include "evaluate/evaluation.h"
#include "formats/json.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <iterator>

namespace gnv::evaluate {

static void write_estimate(JsonWriter & json, const char * key, const Estimate & estimate) {
    json.key(key).begin_object().member("mean", estimate.mean).member("error", estimate.error).end_object();
}

static void write_percentiles(JsonWriter & json, const char * key, const Percentiles & percentiles) {
    static const char * const names[percentile_count] = {"minimum", "0.1", "1",  "5",  "10",   "25",     "50",
                                                         "75",      "90",  "95", "99", "99.9", "maximum"};
    json.key(key).begin_object();
    for (size_t p = 0; p < percentile_count; p++) json.member(names[p], percentiles[p]);
    json.end_object();
}

static void write_figures(JsonWriter & json, const char * key, const Figures & figures) {
    json.key(key).begin_object().member("positions", figures.positions).member("predictions", figures.predictions);
    write_estimate(json, "kl", figures.divergence);
    write_percentiles(json, "kl_percentiles", figures.divergence_at);
    write_estimate(json, "same_top", figures.same_top);
    write_estimate(json, "perplexity", Figures::exponential(figures.nll));
    write_estimate(json, "source_perplexity", Figures::exponential(figures.source_nll));
    write_estimate(json, "perplexity_ratio", Figures::exponential(figures.log_ratio));
    write_estimate(json, "ln_perplexity_ratio", figures.log_ratio);
    json.member("correlation", figures.correlation);
    write_estimate(json, "probability_change", figures.probability);
    write_estimate(json, "probability_change_rms", figures.probability_rms);
    write_percentiles(json, "probability_change_percentiles", figures.probability_at);
    json.end_object();
}

// Tokens of a worst position: ids, and their text where it is known.
static void write_token(JsonWriter & json, const std::string & key, const std::vector<int32_t> & ids,
                        const Evaluation & evaluation) {
    json.member(key + "_ids", ids);
    std::vector<int32_t> words;
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(words), [](int32_t id) { return id >= 0; });
    const std::string text = evaluation.text_of && !words.empty() ? evaluation.text_of(words) : "";
    json.key(key);
    text.empty() ? json.value(nullptr) : json.value(text);
}

static void write_worst(JsonWriter & json, const std::vector<WorstPosition> & list, const Evaluation & evaluation) {
    json.key("worst_positions").begin_array();
    for (const WorstPosition & worst : list) {
        json.begin_object().member("window", worst.window).member("position", worst.position);
        json.member("kl", worst.divergence);
        write_token(json, "context", worst.context, evaluation);
        write_token(json, "next", worst.next < 0 ? std::vector<int32_t>() : std::vector<int32_t>{worst.next},
                    evaluation);
        write_token(json, "source_top", {worst.source_top}, evaluation);
        write_token(json, "line_top", {worst.line_top}, evaluation);
        json.end_object();
    }
    json.end_array();
}

static void write_line(JsonWriter & json, const LineReport & line, const Evaluation & evaluation) {
    json.key(line_key(line.line)).begin_object();
    write_figures(json, "all", line.all);
    write_figures(json, "last_quarter", line.last_quarter);
    if (line.pictures.positions > 0) {
        write_figures(json, "text", line.text);
        write_figures(json, "pictures", line.pictures);
    }
    json.key("layers").begin_array();
    for (const LayerFigures & layer : line.layers) {
        json.begin_object().member("sqnr_db", layer.sqnr_db()).member("relative_squared_error", layer.relative_error());
        json.member("added", layer.added).member("same_experts", layer.same_experts);
        json.member("experts_in_common", layer.experts_in_common);
        json.member("same_first_expert", layer.same_first_expert).end_object();
    }
    json.end_array().member("worst_layer", worst_layer(line.layers));
    json.key("windows").begin_array();
    for (const WindowSums & window : line.windows) {
        json.begin_object().member("positions", window.positions).member("predictions", window.predictions);
        json.member("kl", window.divergence).member("same_top", window.same_top);
        json.member("nll", window.nll).member("source_nll", window.source_nll).end_object();
    }
    json.end_array();
    json.key("kl_histogram").begin_object().member("edges", line.histogram.edges);
    json.member("counts", line.histogram.counts).end_object();
    json.key("kl_by_position").begin_array();
    for (const StretchFigures & stretch : line.by_position) {
        json.begin_object().member("begin", stretch.begin).member("end", stretch.end);
        json.member("positions", stretch.positions).member("kl", stretch.divergence).end_object();
    }
    json.end_array();
    if (!line.worst.empty()) write_worst(json, line.worst, evaluation);
    json.end_object();
}

static void write_inputs(JsonWriter & json, const InputReport & inputs) {
    json.key("inputs").begin_array();
    for (const InputFigures & figures : inputs.roles) {
        json.begin_object().member("layer", figures.layer).member("role", role_traits(figures.role).name);
        json.member("modules", figures.modules).member("unmeasured", figures.unmeasured);
        json.member("clipped", figures.clipped).member("clipped_values", figures.clipped_values);
        json.member("values", figures.values).member("least_room", figures.least_room);
        json.member("largest_room", figures.largest_room).member("expert_of_least", figures.expert_of_least);
        json.member("expert_of_largest", figures.expert_of_largest).member("spread", figures.spread).end_object();
    }
    json.end_array().key("expert_tokens").begin_array();
    for (const InputReport::Layer & layer : inputs.layers) {
        json.begin_object().member("experts_without_tokens", layer.experts_without_tokens);
        json.member("least", layer.least_tokens).member("most", layer.most_tokens);
        json.member("tokens", layer.tokens).end_object();
    }
    json.end_array();
}

static void write_sensitivity(JsonWriter & json, const Sensitivity & sensitivity) {
    json.key("sensitivity").begin_object().member("line", line_key(sensitivity.line));
    json.member("bytes", sensitivity.bytes);
    write_estimate(json, "kl", sensitivity.divergence);
    json.key("groups").begin_array();
    for (const SensitivityRow & row : sensitivity.rows) {
        json.begin_object().member("kind", row.kind).member("first_layer", row.first_layer);
        json.member("last_layer", row.last_layer).member("modules", row.modules);
        json.member("bytes_added", row.bytes_added);
        write_estimate(json, "kl", row.divergence);
        write_estimate(json, "kl_saved", row.saved);
        json.end_object();
    }
    json.end_array().end_object();
}

std::string evaluation_json(const Evaluation & evaluation) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.evaluation.1").member("checkpoint", evaluation.checkpoint);
    json.member("source", evaluation.source.empty() ? nullptr : evaluation.source.c_str());
    json.member("model", evaluation.model).member("source_fingerprint", evaluation.source_fingerprint);
    json.member("data_sha256", evaluation.data_sha256).member("precision", precision_name(evaluation.precision));
    json.member("device", evaluation.device);
    json.member("windows", evaluation.windows).member("positions", evaluation.positions);
    json.member("predictions", evaluation.predictions);
    json.member("shared_expert_scale", evaluation.shared_expert_scale);
    json.member("source_logits_read", evaluation.source_logits_read);
    json.key("lines").begin_object();
    for (const LineReport & line : evaluation.lines) write_line(json, line, evaluation);
    json.end_object();
    write_inputs(json, evaluation.inputs);
    if (!evaluation.sensitivity.rows.empty()) write_sensitivity(json, evaluation.sensitivity);
    json.key("gates").begin_array();
    for (const GateResult & gate : evaluation.gates) {
        json.begin_object().member("gate", gate.gate).member("passed", gate.passed).member("flagged", gate.flagged);
        json.member("value", gate.value).member("limit", gate.limit).member("text", gate.text).end_object();
    }
    json.end_array().member("notes", evaluation.notes);
    return json.end_object().take() + "\n";
}

} // namespace gnv::evaluate
