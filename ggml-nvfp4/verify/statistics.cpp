#include "verify/statistics.h"

#include "core/strings.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace gnv::verify {

RecomputedSummary recomputed_summary(const VerifyReport & report) {
    RecomputedSummary summary;
    if (!report.measurements) return summary;
    for (const ModuleValues & values : report.measurements->modules) {
        if (values.recomputed_blocks == 0) continue;
        summary.modules++;
        summary.same_modules += values.recomputed_same == values.recomputed_blocks;
        summary.blocks += values.recomputed_blocks;
        summary.same_blocks += values.recomputed_same;
    }
    return summary;
}

const char * part_name(Part part) {
    static const char * const names[] = {"text", "vision", "draft head"};
    return names[size_t(part)];
}

std::vector<CoverageRow> coverage(const VerifyReport & report) {
    std::map<std::pair<Part, Role>, CoverageRow> rows;
    for (const Module & module : report.subject.modules) {
        CoverageRow & row = rows[{module.part, module.role}];
        row.part = module.part, row.role = module.role;
        row.modules++;
        row.nvfp4 += module.stored == Stored::nvfp4;
        row.fp8 += module.stored == Stored::fp8;
        row.plain += module.stored == Stored::plain;
        row.absent += module.stored == Stored::absent;
        row.declared += !module.declared.empty() && module.declared.front() != undeclared;
        row.weights += uint64_t(module.rows) * uint64_t(module.columns);
    }
    std::vector<CoverageRow> out;
    for (const auto & [key, row] : rows) out.push_back(row);
    return out;
}

static Quantiles quantiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) { return values[size_t(std::ceil(share * double(values.size() - 1)))]; };
    return {values.front(), at(0.5), at(0.99), values.back()};
}

static ErrorRow make_row(std::string what, const VerifyReport & report, const std::vector<uint32_t> & modules) {
    ErrorRow row;
    row.what = std::move(what);
    row.modules = modules.size();
    row.cosine = 1;
    std::vector<double> errors;
    nvfp4::Comparison total;
    ScaleCensus scales;
    for (const uint32_t m : modules) { // in the order of the model: sums are the same in every run
        const ModuleValues & values = report.measurements->modules[m];
        errors.push_back(values.relative_error());
        row.cosine = std::min(row.cosine, values.cosine());
        total.add(values.comparison);
        scales.add(values.scales);
    }
    row.error = quantiles(std::move(errors));
    const double blocks = double(scales.blocks), elements = blocks * 16;
    row.sqnr_db = -10 * std::log10(total.error_squares / total.weight_squares);
    row.clipped = double(total.clipped) / elements, row.zeroed = double(total.zeroed) / elements;
    row.nearest = double(total.nearest_codes) / elements;
    row.saturated = double(scales.saturated) / blocks, row.subnormal = double(scales.subnormal) / blocks;
    return row;
}

template <class Key, class KeyOf, class NameOf>
static std::vector<ErrorRow> group_errors(const VerifyReport & report, const KeyOf & key_of, const NameOf & name_of) {
    std::map<Key, std::vector<uint32_t>> groups;
    if (!report.measurements) return {};
    for (uint32_t m = 0; m < report.subject.modules.size(); m++)
        if (report.measurements->modules[m].compared) groups[key_of(report.subject.modules[m])].push_back(m);
    std::vector<ErrorRow> rows;
    for (const auto & [key, modules] : groups) rows.push_back(make_row(name_of(key), report, modules));
    return rows;
}

std::vector<ErrorRow> errors_by_role(const VerifyReport & report) {
    return group_errors<Role>(
        report, [](const Module & module) { return module.role; },
        [](Role role) { return std::string(role_traits(role).name); });
}

std::vector<ErrorRow> errors_by_layer(const VerifyReport & report) {
    using Place = std::pair<Part, int32_t>;
    return group_errors<Place>(
        report, [](const Module & module) { return Place(module.part, module.layer); },
        [](const Place & place) {
            return concat(place.first == Part::mtp ? "draft head layer " : "layer ", place.second);
        });
}

static PlaceRow::Range range_of(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    return {values.front(), values[values.size() / 2], values.back()};
}

std::vector<PlaceRow> places(const VerifyReport & report) {
    std::map<std::tuple<Part, int32_t, Role>, std::vector<uint32_t>> groups;
    if (!report.measurements) return {};
    for (uint32_t m = 0; m < report.subject.modules.size(); m++) {
        const Module & module = report.subject.modules[m];
        if (report.measurements->modules[m].measured) groups[{module.part, module.layer, module.role}].push_back(m);
    }
    std::vector<PlaceRow> rows;
    for (const auto & [place, modules] : groups) {
        PlaceRow row;
        std::tie(row.part, row.layer, row.role) = place;
        row.modules = modules.size();
        std::vector<double> weight_scales, input_scales;
        nvfp4::Comparison total;
        for (const uint32_t m : modules) {
            const ModuleValues & values = report.measurements->modules[m];
            weight_scales.push_back(double(values.weight_global_scale));
            if (values.has_input_scale) input_scales.push_back(double(values.input_global_scale));
            if (!values.compared) continue;
            row.compared++;
            total.add(values.comparison);
        }
        row.relative_error = total.error_squares / total.weight_squares;
        row.weight_scale = range_of(std::move(weight_scales));
        row.input_scale = range_of(std::move(input_scales));
        rows.push_back(row);
    }
    return rows;
}

std::map<int32_t, std::vector<double>> expert_errors(const VerifyReport & report) {
    std::map<int32_t, std::vector<nvfp4::Comparison>> sums;
    if (!report.measurements) return {};
    for (size_t m = 0; m < report.subject.modules.size(); m++) {
        const Module & module = report.subject.modules[m];
        if (!report.measurements->modules[m].compared || module.part != Part::text || module.expert < 0) continue;
        std::vector<nvfp4::Comparison> & layer = sums[module.layer];
        if (layer.size() <= size_t(module.expert)) layer.resize(size_t(module.expert) + 1);
        layer[size_t(module.expert)].add(report.measurements->modules[m].comparison);
    }
    std::map<int32_t, std::vector<double>> out;
    for (const auto & [layer, experts] : sums)
        for (const nvfp4::Comparison & expert : experts)
            out[layer].push_back(expert.error_squares / expert.weight_squares);
    return out;
}

std::vector<uint32_t> worst_modules(const VerifyReport & report, size_t count) {
    std::vector<uint32_t> modules;
    if (!report.measurements) return modules;
    for (uint32_t m = 0; m < report.subject.modules.size(); m++)
        if (report.measurements->modules[m].compared) modules.push_back(m);
    std::stable_sort(modules.begin(), modules.end(), [&](uint32_t a, uint32_t b) {
        return report.measurements->modules[a].relative_error() > report.measurements->modules[b].relative_error();
    });
    modules.resize(std::min(modules.size(), count));
    return modules;
}

PreservedSummary preserved_summary(const VerifyReport & report) {
    PreservedSummary summary;
    if (!report.measurements) return summary;
    for (size_t i = 0; i < report.measurements->preserved.size(); i++) {
        if (!report.measurements->preserved[i].measured) continue;
        const Preserved kind = report.measurements->preserved[i].kind;
        summary.tensors++;
        summary.bytes += report.subject.info(report.source->preserved[i].tensor).bytes;
        summary.same += kind == Preserved::same;
        summary.converted += kind == Preserved::converted;
        summary.rounded += kind == Preserved::rounded;
        summary.norm_trip += kind == Preserved::norm_trip;
        summary.different += kind == Preserved::different;
    }
    return summary;
}

} // namespace gnv::verify
