#include "model/block_writer.h"

#include <algorithm>

namespace gnv {

// --- Statistics ---------------------------------------------------------------------------------------------------------------

std::vector<const Statistic *> BlockWriter::asked(int32_t input) const {
    return b_.statistics ? b_.statistics->statistics_of(part_, layer_, input) : std::vector<const Statistic *>();
}

ValueId BlockWriter::total(const Statistic & statistic, int32_t input, int32_t first_group, int32_t groups,
                           int64_t width) {
    const ValueId value = g_.state(statistic.name, statistic.dtype, statistic.total_shape(groups, width));
    b_.bound_totals.push_back({{part_, layer_, input, &statistic}, first_group, value});
    return value;
}

void BlockWriter::observe(ValueId x, int32_t input, int32_t first_group, int32_t groups, ValueId offsets) {
    if (!g_.status().ok()) return;
    const int64_t row = g_.value(x).shape.last();
    for (const Statistic * const statistic : asked(input)) {
        const ValueId into = total(*statistic, input, first_group, groups, offsets == no_value ? row / groups : row);
        const bool all = statistic->rows == Statistic::Rows::all;
        g_.add(ObserveParams{statistic, groups},
               {x, into, offsets, no_value, no_value, all ? no_value : positions(), all ? no_value : mask()},
               where(names_.inputs[size_t(input)].name));
    }
}

void BlockWriter::observe_routed(ValueId x, int32_t input, const Stage & stage, const Routed & routed) {
    if (!g_.status().ok()) return;
    const int64_t width = g_.value(x).shape.last();
    for (const Statistic * const statistic : asked(input)) {
        const ValueId into = total(*statistic, input, stage.first_expert, stage.expert_count, width);
        g_.add(ObserveParams{statistic, stage.expert_count, routed.row, routed.slots_per_token},
               {x, into, routed.offsets, routed.slots, routed.weights, positions(), mask()},
               where(names_.inputs[size_t(input)].name));
    }
}

ValueId BlockWriter::activation(ValueId gate, ValueId up, const char * what, int32_t input, int32_t first_group,
                                int32_t groups, ValueId offsets) {
    const ValueId a = g_.add(SiluMulParams{}, {gate, up, no_value, no_value}, where(what));
    observe(a, input, first_group, groups, offsets);
    return a;
}

ValueId BlockWriter::joined_inputs(ValueId x, const Stage & stage, ValueId slots, ValueId offsets,
                                   int64_t slots_per_token, int32_t input) {
    const std::vector<const Statistic *> statistics = asked(input);
    if (!b_.joins_expert_inputs || statistics.size() != 1 || statistics[0] != &Statistic::maximum) return no_value;
    const WeightRef gate = {Role::expert_gate, layer_, stage.first_expert, stage.expert_count, false, part_};
    const WeightRef up = {Role::expert_up, layer_, stage.first_expert, stage.expert_count, false, part_};
    for (const WeightRef & ref : {gate, up}) {
        const Result<WeightSpec> spec = b_.weights.spec(ref);
        if (!spec.ok() || spec.value().dtype != DType::bf16 || spec.value().shape.dims[1] % 2 != 0 ||
            spec.value().shape.last() % 8 != 0)
            return no_value;
    }
    const ValueId maxima = total(Statistic::maximum, input, stage.first_expert, stage.expert_count, 0);
    const ValueId y = g_.add(ExpertInputsParams{slots_per_token, b_.screening},
                             {x, weight(gate), weight(up), slots, offsets, maxima}, where("expert activation"));
    g_.label(y, expert_product_label);
    return y;
}

void BlockWriter::count_experts(ValueId indices, int32_t input, int32_t experts) {
    if (asked(input).empty()) return;
    const ValueId counts = total(Statistic::tokens, input, 0, experts, 0);
    g_.add(CountExpertsParams{}, {indices, mask(), counts}, where("tokens per expert"));
}

// --- Weights ------------------------------------------------------------------------------------------------------------------

ValueId BlockWriter::weight_of_part(const WeightRef & ref) {
    const Result<WeightSpec> spec = b_.weights.spec(ref);
    if (!spec.ok()) {
        g_.refuse(copy_of(spec.status()));
        return g_.weight(role_traits(ref.role).name, DType::f32, {1});
    }
    const ValueId value = g_.weight(role_traits(ref.role).name, spec.value().dtype, spec.value().shape);
    b_.bound_weights.push_back({ref, value, false});
    return value;
}

ValueId BlockWriter::grouped_linear(ValueId x, Role role, const Stage & stage, ValueId slots, ValueId offsets,
                                    GroupedLinearParams params) {
    params.few_rows = b_.batch.has_few_rows();
    const WeightRef ref = {role, layer_, stage.first_expert, stage.expert_count};
    const auto cached =
        std::find_if(cached_.begin(), cached_.end(), [&](const Cached & one) { return one.role == role; });
    const ValueId w = cached == cached_.end() ? weight(ref) : cached->weight;
    return g_.add(params, {x, w, slots, offsets, input_scale(ref), cached == cached_.end() ? no_value : places_},
                  where(role_traits(role).name));
}

void BlockWriter::fetch_experts(const Stage & stage, ValueId offsets, std::span<const Role> roles) {
    const int64_t places = b_.batch.expert_places;
    if (places == 0 || !g_.status().ok()) return;
    std::vector<ValueId> inputs = {offsets};
    for (const Role role : roles) {
        const WeightRef ref = {role, layer_, stage.first_expert, stage.expert_count, false, part_};
        inputs.push_back(weight(ref));
        Shape shape = g_.value(inputs.back()).shape;
        shape.dims[0] = places;
        inputs.push_back(g_.state("cached experts", g_.value(inputs.back()).dtype, shape));
        b_.bound_caches.push_back({ref, inputs.back()});
        cached_.push_back({role, inputs.back()});
    }
    inputs.resize(7, no_value);
    inputs.push_back(g_.state("table of cached experts", DType::i32, {stage.expert_count + places}));
    b_.bound_caches.push_back({{Role::extra, layer_, -1, 0, false, part_}, inputs.back()});
    places_ = g_.add(ExpertFetchParams{}, inputs, where("experts from host memory"));
}

ValueId BlockWriter::input_scale_of_part(const WeightRef & ref) {
    const Result<WeightSpec> spec = b_.weights.spec(ref);
    if (!b_.quantize_inputs || !spec.ok()) return no_value;
    if (b_.input_scales ? !b_.input_scales->has(ref.key()) : !spec.value().has_input_scale()) return no_value;
    const ValueId value = g_.weight("input scale", DType::f32, {std::max(ref.expert_count, 1)});
    b_.bound_weights.push_back({ref, value, true});
    return value;
}

} // namespace gnv
