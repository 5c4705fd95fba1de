// Scales: L6 to L9.
#include "verify/checks.h"
#include "verify/loader_names.h"
#include "verify/measure.h"

#include "codec/nvfp4.h"
#include "core/strings.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace gnv::verify {

static const char * const quantize_repair = "quantize the module again";

// Reports a scale that is not a positive number; then false.
static bool check_scale(const Reporter & report, const std::string & name, float value) {
    if (std::isfinite(value) && value > 0) return true;
    report.error(name, concat("is ", double(value), ", must be a positive number"),
                 "loaders divide by it: Inf, NaN or zeros, depending on the kernel and on which experts a prompt meets",
                 "calibrate again; a module that saw no input takes its layer's largest one");
    return false;
}

// Members of a fused parameter: loaders keep one of the values for all.
static void check_fused_scales(const Reporter & report, const Subject & subject, const Measurements & measurements,
                               const FusedGroup & group) {
    if (!fused_parameters()[size_t(group.parameter)].shares_scale) return;
    const auto compare = [&](Component component, auto value, bool (*has)(const ModuleValues &)) {
        const Module * first = nullptr;
        float expected = 0;
        for (const uint32_t m : group.modules) {
            const ModuleValues & values = measurements.modules[m];
            if (!has(values)) continue;
            if (!first) {
                first = &subject.modules[m];
                expected = values.*value;
            } else if (values.*value != expected) {
                report.error(subject.modules[m].name + nvfp4_component(component).suffix,
                             concat("is ", double(values.*value), ", ", first->name, " has ", double(expected),
                                    "; loaders fuse them into ", fused_parameters()[size_t(group.parameter)].name),
                             "loaders use one of the values for both: one weight is wrong by their ratio",
                             "quantize the group with one global scale");
            }
        }
    };
    compare(Component::weight_global_scale, &ModuleValues::weight_global_scale,
            [](const ModuleValues & values) { return values.measured; });
    compare(Component::input_global_scale, &ModuleValues::input_global_scale,
            [](const ModuleValues & values) { return values.has_input_scale; });
}

void check_global_scales(const Context & context, Findings & findings) {
    const Reporter report(findings, "L6");
    const Subject & subject = context.subject;
    for (size_t i = 0; i < subject.modules.size(); i++) {
        const ModuleValues & values = context.measurements->modules[i];
        const std::string & name = subject.modules[i].name;
        if (values.measured) check_scale(report, name + ".weight_global_scale", values.weight_global_scale);
        if (values.has_input_scale) check_scale(report, name + ".input_global_scale", values.input_global_scale);
    }
    for (const FusedGroup & group : subject.fused_groups)
        check_fused_scales(report, subject, *context.measurements, group);
}

// --- L7 -------------------------------------------------------------------------------------------------------------------

// One step of E4M3, between a largest block scale of 448 and its neighbour, in both directions.
static constexpr double e4m3_step = 1.125;
// A bound without the source's weights: no trained weight is this large, and an inverted scale implies a much larger
// one.
static constexpr double largest_plausible_weight = 1e4;
static constexpr double smallest_plausible_weight = 1e-7;
// A relative squared error below this shows a sound weight, for any choice of scales.
static constexpr double sound_error = 0.04;

// Modules that share a global scale count as one.
static std::vector<std::vector<uint32_t>> scale_groups(const Subject & subject, const Measurements & measurements) {
    std::vector<std::vector<uint32_t>> groups;
    std::vector<int64_t> of_fused(subject.fused_groups.size(), -1);
    for (uint32_t i = 0; i < subject.modules.size(); i++) {
        if (!measurements.modules[i].measured) continue;
        const int32_t fused = subject.modules[i].fused;
        if (fused >= 0 && of_fused[size_t(fused)] >= 0) {
            groups[size_t(of_fused[size_t(fused)])].push_back(i);
            continue;
        }
        if (fused >= 0) of_fused[size_t(fused)] = int64_t(groups.size());
        groups.push_back({i});
    }
    return groups;
}

void check_orientation(const Context & context, Findings & findings) {
    const Reporter report(findings, "L7");
    for (const std::vector<uint32_t> & group : scale_groups(context.subject, *context.measurements)) {
        double implied = 0, actual = 0, worst_error = 0;
        bool compared = true, usable = true;
        for (const uint32_t m : group) {
            const ModuleValues & values = context.measurements->modules[m];
            usable = usable && std::isfinite(values.weight_global_scale) && values.weight_global_scale > 0; // else L6
            implied = std::max(implied, double(values.scales.largest) * 6 / double(values.weight_global_scale));
            compared = compared && values.compared;
            actual = std::max(actual, double(values.comparison.absolute_maximum));
            worst_error = std::max(worst_error, values.relative_error());
        }
        const std::string name = context.subject.modules[group.front()].name + ".weight_global_scale";
        if (!usable || implied == 0) continue;
        if (!compared) {
            if (implied > largest_plausible_weight || implied < smallest_plausible_weight)
                report.error(name, concat("stands for weights up to ", implied, ": it looks inverted"),
                             "weights come out wrong by many powers of ten",
                             "store the divisor 448 * 6 / amax, not its inverse");
            continue;
        }
        const double ratio = actual > 0 ? implied / actual : 1;
        if (ratio <= e4m3_step && ratio >= 1 / e4m3_step) continue;
        if (worst_error <= sound_error) {
            report.note(name, concat("stands for weights up to ", implied, ", the source has ", actual,
                                     "; the values are close, so another method chose the scales"));
        } else {
            report.error(name, concat("stands for weights up to ", implied, ", the source has ", actual),
                         "weights come out wrong by this ratio",
                         "store the divisor 448 * 6 / amax of the fused group's weights");
        }
    }
}

// --- L8 -------------------------------------------------------------------------------------------------------------------

// Kernels use one input scale for a layer's experts, the smallest stored. Blocks of other experts then lose small
// values.
static constexpr double outlier_ratio = 64;

void check_input_scales(const Context & context, Findings & findings) {
    const Reporter report(findings, "L8");
    const Subject & subject = context.subject;
    struct Scale {
        float value;
        const Module * module;
    };
    std::map<std::tuple<Part, int32_t, bool>, std::vector<Scale>> layers; // part, layer, down projection
    for (size_t i = 0; i < subject.modules.size(); i++) {
        const Module & module = subject.modules[i];
        const float value = context.measurements->modules[i].input_global_scale;
        if (module.expert >= 0 && context.measurements->modules[i].has_input_scale && std::isfinite(value) && value > 0)
            layers[{module.part, module.layer, module.role == Role::expert_down}].push_back({value, &module});
    }
    for (auto & [place, scales] : layers) {
        std::stable_sort(scales.begin(), scales.end(),
                         [](const Scale & a, const Scale & b) { return a.value < b.value; });
        const float median = scales[scales.size() / 2].value;
        for (const Scale & scale : scales) {
            if (double(median) / double(scale.value) <= outlier_ratio) break;
            report.warning(
                scale.module->name + ".input_global_scale",
                concat("is ", double(scale.value), ", the median of the layer's experts is ", double(median)),
                "kernels that use one scale a layer take the smallest: small inputs of all its experts vanish",
                "calibrate with more data, or clip this expert's range");
        }
    }
}

// --- L9 -------------------------------------------------------------------------------------------------------------------

void check_block_scales(const Context & context, Findings & findings) {
    const Reporter report(findings, "L9");
    for (size_t i = 0; i < context.subject.modules.size(); i++) {
        const ModuleValues & values = context.measurements->modules[i];
        const ScaleCensus & census = values.scales;
        const std::string name = context.subject.modules[i].name + ".weight_scale";
        if (census.nan > 0)
            report.error(name, concat("holds NaN in ", count_text(census.nan), " blocks"),
                         "every output of the rows is NaN", quantize_repair);
        if (census.negative > 0)
            report.error(name, concat("is negative in ", count_text(census.negative), " blocks"),
                         "kernels take block scales for unsigned: wrong numbers", quantize_repair);
        if (census.zero == 0) continue;
        // Also legitimate for zero weights: nothing is lost.
        const bool harmless = values.compared && values.comparison.far_weights == 0;
        if (harmless) continue;
        report.add(values.compared || census.zero == census.blocks ? Severity::error : Severity::warning, name,
                   concat("is zero in ", count_text(census.zero), " of ", count_text(census.blocks), " blocks"),
                   "their weights are lost", quantize_repair);
    }
}

} // namespace gnv::verify
