#include "quantize/packing/unit_statistics.h"

#include <algorithm>
#include <map>
#include <set>

namespace gnv {

Result<UnitStatistics> UnitStatistics::create(const Plan & plan) {
    UnitStatistics statistics(plan);
    const std::vector<const Statistic *> needs = plan.quantizer().needs();
    if (needs.empty()) return statistics;
    const ModelNames & names = *plan.layout.names;
    if (!names.routed_input_of)
        return fail(Code::unsupported, "the method ", plan.quantizer().name(),
                    " needs statistics that models of the family ", plan.layout.family, " do not give");
    std::set<std::pair<int32_t, int32_t>> inputs; // layer, input
    for (const PlanModule & module : plan.modules) {
        const LinearModule & linear = plan.linear(module);
        if (plan.quantizer(linear).needs().empty()) continue;
        const int32_t own = names.routed_input_of(linear.role), all = names.input_of(linear.role);
        if (linear.part != Part::text || own < 0)
            return fail(
                Code::unsupported, linear.name,
                " cannot be calibrated: a forward pass over text does not reach it; leave it out (--ignore), or "
                "use a method that needs no statistics");
        inputs.emplace(linear.layer, own);
        if (!names.inputs[size_t(all)].per_expert) inputs.emplace(linear.layer, all);
    }
    for (const auto & [layer, input] : inputs)
        for (const Statistic * const statistic : needs)
            statistics.requests_.push_back({statistic, Part::text, layer, input});
    return statistics;
}

uint64_t UnitStatistics::kept_bytes(const TextModel & model) const {
    const StatisticSet set = StatisticSet::plan(model, requests_);
    std::map<int32_t, uint64_t> by_layer;
    for (const auto & [key, total] : set.totals())
        if (!key.statistic->is_kept && !is_routed(key.input))
            by_layer[key.layer] += tensor_bytes(key.statistic->dtype, total.shape);
    uint64_t most = 0;
    for (const auto & [layer, bytes] : by_layer) most = std::max(most, bytes);
    return most;
}

Status UnitStatistics::take(const StatisticWindow & window) {
    Backend & device = window.backend();
    std::erase_if(totals_, [&](const Total & total) { return total.data != nullptr; });
    for (const StatisticWindow::Total & measured : window.totals()) {
        if (measured.key.statistic->is_kept) continue;
        std::erase_if(totals_, [&](const Total & total) { return total.key.layer != measured.key.layer; });
        Total total = {measured.key, measured.first_group, measured.tensor.shape[0], 0, {}, nullptr};
        const uint64_t bytes = tensor_bytes(measured.tensor.dtype, measured.tensor.shape);
        total.bytes = bytes / uint64_t(total.groups);
        if (is_routed(total.key.input)) {
            total.data = measured.tensor.data;
        } else {
            total.own.resize(size_t((bytes + 7) / 8));
            device.download(total.own.data(), measured.tensor.data, bytes);
        }
        totals_.push_back(std::move(total));
    }
    return device.synchronize();
}

InputMoments UnitStatistics::moments_of(const std::vector<UnitStatistic> & statistics) {
    InputMoments moments;
    for (const UnitStatistic & one : statistics) {
        if (one.kind->of_weights)
            moments.weights = static_cast<const double *>(one.total);
        else if (one.kind->rows == Statistic::Rows::held)
            moments.held = static_cast<const float *>(one.total);
        else
            moments.fitted = static_cast<const float *>(one.total);
    }
    return moments;
}

std::vector<UnitStatistic> UnitStatistics::find(int32_t layer, int32_t input, int32_t group) const {
    std::vector<UnitStatistic> list;
    for (const Total & total : totals_) {
        const int64_t at = int64_t(group) - total.first_group;
        if (total.key.layer != layer || total.key.input != input || at < 0 || at >= total.groups) continue;
        const auto * const data = static_cast<const uint8_t *>(total.data ? total.data : total.own.data());
        list.push_back({total.key.statistic, data + uint64_t(at) * total.bytes});
    }
    return list;
}

namespace {

// The inputs of a unit's modules by place: its own, and the one that all experts of the layer read; -1: none.
struct InputPlaces {
    int32_t layer, own, group, all;
    InputPlaces(const Plan & plan, const PlanUnit & unit) {
        const LinearModule & linear = plan.linear(plan.modules[unit.first]);
        const ModelNames & names = *plan.layout.names;
        layer = linear.layer;
        own = names.routed_input_of(linear.role);
        group = names.inputs[size_t(own)].is_routed ? linear.expert : 0;
        all = names.input_of(linear.role);
        if (own == all || names.inputs[size_t(all)].per_expert) all = -1;
    }
};

} // namespace

UnitInputs UnitStatistics::find(const PlanUnit & unit) const {
    UnitInputs inputs;
    inputs.width = plan_->linear(plan_->modules[unit.first]).columns;
    if (requests_.empty()) return inputs;
    const InputPlaces places(*plan_, unit);
    inputs.own = find(places.layer, places.own, places.group);
    if (places.all >= 0) inputs.layer = find(places.layer, places.all, 0);
    return inputs;
}

Result<UnitInputs> UnitStatistics::read(const Plan & plan, const PlanUnit & unit, const MomentFiles & files,
                                        MomentFiles::Totals & own, MomentFiles::Totals & layer) {
    UnitInputs inputs;
    inputs.width = plan.linear(plan.modules[unit.first]).columns;
    const InputPlaces places(plan, unit);
    GNV_TRY(files.read(places.layer, places.own, places.group, inputs.width, own));
    if (places.all >= 0) GNV_TRY(files.read(places.layer, places.all, 0, inputs.width, layer));
    inputs.own = own.list;
    inputs.layer = layer.list;
    return inputs;
}

} // namespace gnv
