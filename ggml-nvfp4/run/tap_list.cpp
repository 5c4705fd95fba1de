#include "run/tap_list.h"

namespace gnv {

// A graph is only built, never run.
static Status list_group(const TextVariant & variant, const std::vector<Stage> & stages, int64_t positions,
                         std::vector<TapInfo> & taps) {
    Graph graph(variant.precision);
    StageBuilder builder(graph, *variant.weights, {positions, 1});
    builder.quantize_inputs = variant.quantize_inputs;
    if (variant.model->part() == Part::vision) {
        builder.batch.given_rows = positions;
        builder.batch.given_columns = variant.model->sizes().given;
    }
    if (stages.front().kind != StageKind::embed)
        builder.fields[hidden_field] = graph.input("hidden", DType::f32, {positions, variant.model->sizes().hidden});
    for (const Stage & stage : stages) variant.model->build(stage, builder);
    GNV_TRY(copy_of(graph.status()));
    for (const Graph::Tapped & tapped : graph.taps())
        taps.push_back({tapped.tap, graph.value(tapped.value).dtype, graph.value(tapped.value).shape});
    return {};
}

Result<std::vector<TapInfo>> list_taps(const TextVariant & variant, int64_t positions) {
    std::vector<TapInfo> taps;
    GNV_TRY(list_group(variant, {embed_stage(*variant.model)}, positions, taps));
    for (int32_t layer = 0; layer < variant.model->sizes().layers; layer++)
        GNV_TRY(list_group(variant, variant.model->block_stages(layer), positions, taps));
    GNV_TRY(list_group(variant, {head_stage(*variant.model)}, positions, taps));
    return taps;
}

Result<size_t> find_tap(const std::vector<TapInfo> & taps, const std::string & name, const TextModel & model,
                        const TextModel * tower) {
    GNV_ASSIGN(const Tap wanted,
               parse_tap(model.names(), name, model.sizes().layers, tower ? tower->sizes().layers : 0));
    std::string there; // in the same layer
    for (size_t i = 0; i < taps.size(); i++) {
        if (taps[i].tap == wanted) return i;
        if (taps[i].tap.part == wanted.part && taps[i].tap.layer == wanted.layer)
            there += (there.empty() ? "" : ", ") + tap_name(model.names(), taps[i].tap);
    }
    return fail(Code::not_found, "this model has no output ", name, "; there are ", there);
}

} // namespace gnv
