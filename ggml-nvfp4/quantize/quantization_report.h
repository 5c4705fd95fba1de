// quantization_report.json of a result: the quantized modules, the rules, and the findings of calibration. It does not
// depend on time, place or speed of the run.
#pragma once

#include "quant/calibration_statistics.h"
#include "quant/input_scales.h"
#include "quant/plan.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace gnv {

using LayerChoices = std::map<std::pair<int32_t, Role>, MethodChoices>; // by layer and role, of the text

// `statistics` may be null (weights only), `scales` is then empty.
Result<std::string> quantization_report(const Plan & plan, const Statistics * statistics,
                                        const std::vector<InputScale> & scales, const LayerChoices & choices);

} // namespace gnv
