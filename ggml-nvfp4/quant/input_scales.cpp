#include "quant/input_scales.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace gnv {

Status check_calibratable(const Plan & plan) {
    for (const PlanModule & module : plan.modules) {
        if (!plan.format(module).takes_input_scale()) continue;
        const LinearModule & linear = plan.linear(module);
        if (linear.part == Part::text && plan.layout.names->input_of(linear.role) >= 0) continue;
        return fail(Code::unsupported, linear.name,
                    " cannot be calibrated: a forward pass over text does not reach it; leave it out (--ignore), or "
                    "quantize weights only (--scheme nvfp4a16)");
    }
    return {};
}

static float largest_of(std::span<const float> maxima) {
    return maxima.empty() ? 0 : *std::max_element(maxima.begin(), maxima.end());
}

Result<std::vector<InputScale>> input_scales(const Plan & plan, const StatisticSet & measured) {
    const ModelNames & names = *plan.layout.names;
    std::vector<float> largest(names.inputs.size(), 0.0f);
    for (const auto & [key, total] : measured.totals())
        if (key.part == Part::text && key.statistic == &Statistic::maximum) {
            float & maximum = largest[size_t(key.input)];
            maximum = std::max(maximum, largest_of(measured.maxima(key.layer, key.input)));
        }
    const float headroom = plan.options.recipe.headroom;
    std::vector<InputScale> scales;
    for (const PlanModule & module : plan.modules) {
        InputScale & scale = scales.emplace_back();
        const Format & format = plan.format(module);
        if (!format.takes_input_scale()) continue;
        const LinearModule & linear = plan.linear(module);
        const int32_t input = names.input_of(linear.role);
        if (linear.layer < 0 || linear.layer >= measured.layers())
            return fail(Code::model, "the statistics have ", measured.layers(), " layers, ", linear.name,
                        " is of another");
        const std::span<const float> maxima = measured.maxima(linear.layer, input);
        const size_t group = names.inputs[size_t(input)].per_expert ? size_t(linear.expert) : 0;
        if (group >= maxima.size())
            return fail(Code::format, "the statistics have ", maxima.size(), " maxima of ",
                        names.inputs[size_t(input)].name, " in layer ", linear.layer, " and none for ", linear.name,
                        ": the file is damaged, or of another model");
        scale.maximum = maxima[group];
        scale.substituted = scale.maximum == 0;
        if (scale.substituted || headroom != 0) scale.maximum = largest_of(maxima);
        if (scale.maximum == 0) scale.maximum = largest[size_t(input)];
        const DType dtype = module.dtype;
        // The reference measures in the dtype of the model: its maximum is a number of that dtype.
        scale.maximum = nvfp4::round_to(dtype, scale.maximum);
        const float roomy = nvfp4::round_to(dtype, scale.maximum * (headroom != 0 ? headroom : 1));
        if (!format.input_scale(dtype, std::isfinite(roomy) ? roomy : scale.maximum, scale.scale))
            return fail(Code::bad_value, linear.name,
                        ": its inputs are zero or too small for a scale (largest magnitude ", double(scale.maximum),
                        "): calibrate with other data, or leave it out (--ignore)");
    }
    return scales;
}

} // namespace gnv
