#include "quantize/quantization_report.h"

#include "formats/json_writer.h"

#include <algorithm>
#include <map>

namespace gnv {

namespace {

void write_recipe(JsonWriter & json, const Plan & plan) {
    json.key("recipe").begin_object();
    json.member("scheme", plan.options.recipe.scheme->name);
    json.member("preset", preset_name(plan.options.recipe.preset));
    json.member("method", plan.quantizer().name()).member("headroom", double(plan.options.recipe.headroom));
    json.key("draft_head");
    write_draft_head(json, plan);
    json.key("rules").begin_array();
    for (size_t r = 0; r < plan.recipe.rules().size(); r++) json.value(plan.recipe.describe_rule(int(r)));
    json.end_array().end_object();
}

// Smallest, middle and largest of the input scales of one role.
void write_scales(JsonWriter & json, const Plan & plan, const std::vector<InputScale> & scales) {
    std::map<Role, std::vector<float>> by_role;
    for (size_t m = 0; m < scales.size(); m++)
        if (scales[m].scale > 0) by_role[plan.linear(plan.modules[m]).role].push_back(scales[m].scale);
    json.key("input_global_scale").begin_object();
    for (auto & [role, list] : by_role) {
        std::sort(list.begin(), list.end());
        json.key(role_traits(role).name).begin_object().member("modules", list.size());
        json.member("minimum", double(list.front())).member("median", double(list[list.size() / 2]));
        json.member("maximum", double(list.back())).end_object();
    }
    json.end_object();
}

void write_substituted(JsonWriter & json, const Plan & plan, const std::vector<InputScale> & scales) {
    json.key("substituted_input_scales").begin_array();
    for (size_t m = 0; m < scales.size(); m++)
        if (scales[m].substituted) json.value(plan.linear(plan.modules[m]).name);
    json.end_array();
}

// How many rows each method packed, and the mean of their errors on inputs that were held back, as a part of round-to-nearest's.
void write_choices(JsonWriter & json, const LayerChoices & choices) {
    json.key("rows_by_method").begin_array();
    for (const auto & [place, choice] : choices) {
        json.begin_object().member("layer", place.first).member("role", role_traits(place.second).name);
        for (size_t m = 0; m < all_quantizers().size(); m++) json.member(all_quantizers()[m]->name(), choice.rows[m]);
        json.member("held_back_error", choice.mean_error_part()).end_object();
    }
    json.end_array();
}

Status write_calibration(JsonWriter & json, const Statistics & statistics) {
    json.key("calibration").begin_object().member("data_sha256", statistics.data_sha256);
    json.member("sequences", statistics.sequences).member("positions", statistics.positions);
    json.member("tokens", statistics.tokens).member("precision", precision_name(statistics.precision));
    json.member("experts", expert_tokens_name(statistics.expert_tokens));
    GNV_TRY(write_data(json.key("data"), statistics));
    json.key("tokens_per_expert").begin_array();
    for (int32_t layer = 0; layer < statistics.totals.layers(); layer++) {
        const std::span<const int64_t> tokens = statistics.totals.tokens_per_expert(layer);
        json.value(std::vector<int64_t>(tokens.begin(), tokens.end()));
    }
    json.end_array().end_object();
    return {};
}

} // namespace

Result<std::string> quantization_report(const Plan & plan, const Statistics * statistics,
                                        const std::vector<InputScale> & scales, const LayerChoices & choices) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.quantization_report.1").member("version", GNV_VERSION_STRING);
    json.member("model", plan.layout.description).member("quantized_modules", plan.selection.count);
    if (statistics) json.member("source_fingerprint", statistics->model_fingerprint);
    write_recipe(json, plan);
    if (statistics) {
        GNV_TRY(write_calibration(json, *statistics));
        write_scales(json, plan, scales);
        write_substituted(json, plan, scales);
    }
    if (!plan.quantizer().needs().empty()) write_choices(json, choices);
    json.member("warnings", plan.warnings).member("notes", plan.notes);
    return json.end_object().take() + "\n";
}

} // namespace gnv
