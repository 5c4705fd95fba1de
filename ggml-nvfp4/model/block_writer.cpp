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

ValueId BlockWriter::input_scale_of_part(const WeightRef & ref) {
    const Result<WeightSpec> spec = b_.weights.spec(ref);
    if (!b_.quantize_inputs || !spec.ok()) return no_value;
    if (b_.input_scales ? !b_.input_scales->has(ref.key()) : !spec.value().has_input_scale()) return no_value;
    const ValueId value = g_.weight("input scale", DType::f32, {std::max(ref.expert_count, 1)});
    b_.bound_weights.push_back({ref, value, true});
    return value;
}

} // namespace gnv
