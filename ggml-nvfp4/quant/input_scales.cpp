#include "quant/input_scales.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <array>

namespace gnv {

Status check_calibratable(const Plan & plan) {
    for (const PlanModule & module : plan.modules) {
        const LinearModule & linear = plan.linear(module);
        if (linear.part == Part::text && observed_by(linear.role) != Observed::count_) continue;
        return fail(Code::unsupported, linear.name,
                    " cannot be calibrated: a forward pass over text does not reach it; leave it out (--ignore), or "
                    "quantize weights only (--scheme nvfp4a16)");
    }
    return {};
}

static float largest_of(const std::vector<float> & maxima) {
    return maxima.empty() ? 0 : *std::max_element(maxima.begin(), maxima.end());
}

// The reference measures in the dtype of the model: its maximum is a number of that dtype.
static float rounded(DType dtype, float value) {
    if (dtype == DType::bf16) return nvfp4::bf16_to_float(nvfp4::bf16_from_float(value));
    if (dtype == DType::f16) return nvfp4::f16_to_float(nvfp4::f16_from_float(value));
    return value;
}

Result<std::vector<InputScale>> input_scales(const Plan & plan, const std::vector<LayerStatistics> & layers) {
    std::array<float, size_t(Observed::count_)> largest{};
    for (const LayerStatistics & layer : layers)
        for (size_t i = 0; i < largest.size(); i++) largest[i] = std::max(largest[i], largest_of(layer.maxima[i]));
    std::vector<InputScale> scales;
    for (const PlanModule & module : plan.modules) {
        const LinearModule & linear = plan.linear(module);
        const auto observed = size_t(observed_by(linear.role));
        if (linear.layer < 0 || size_t(linear.layer) >= layers.size())
            return fail(Code::model, "the statistics have ", layers.size(), " layers, ", linear.name, " is of another");
        const std::vector<float> & maxima = layers[size_t(linear.layer)].maxima[observed];
        const size_t group = Observed(observed) == Observed::expert_down_input ? size_t(linear.expert) : 0;
        if (group >= maxima.size())
            return fail(Code::format, "the statistics have ", maxima.size(), " maxima of ",
                        observed_name(Observed(observed)), " in layer ", linear.layer, " and none for ", linear.name,
                        ": the file is damaged, or of another model");
        InputScale scale;
        scale.maximum = maxima[group];
        scale.substituted = scale.maximum == 0;
        if (scale.substituted) scale.maximum = largest_of(maxima);
        if (scale.maximum == 0) scale.maximum = largest[observed];
        const DType dtype = plan.source_of(linear).dtype;
        scale.maximum = rounded(dtype, scale.maximum);
        scale.scale = nvfp4::global_scale(dtype, scale.maximum);
        // The codec says 1 where the quotient is not finite; a maximum of 2688 means it.
        if (scale.maximum < 1 && scale.scale == 1.0f)
            return fail(Code::bad_value, linear.name,
                        ": its inputs are zero or too small for a scale (largest magnitude ", double(scale.maximum),
                        "): calibrate with other data, or leave it out (--ignore)");
        scales.push_back(scale);
    }
    return scales;
}

} // namespace gnv
