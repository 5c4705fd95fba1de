// The input_global_scale of every quantized Linear, from the statistics of calibration.
#pragma once

#include "quant/calibration_statistics.h"
#include "quant/plan.h"

#include <string>
#include <vector>

namespace gnv {

struct InputScale {
    float maximum = 0;        // of the input's magnitudes
    float scale = 0;          // of the format, in the arithmetic of the weight's dtype; 0: the format has none
    bool substituted = false; // without a usable measurement: the largest of the layer's projection
};

// A Linear that no forward pass over text reaches (draft head, vision tower) cannot be calibrated: fails and names it.
Status check_calibratable(const Plan & plan);

// By position in Plan::modules; nothing is measured for formats without an input scale. An expert that saw no token or only
// zeros gets the largest of its layer for that projection; other Linears, and experts of a layer without any, the largest of
// all layers. Fails when that is zero too. With headroom (RecipeOptions) every expert gets the largest of its layer: engines
// reduce the scales of a layer's experts to one anyway.
Result<std::vector<InputScale>> input_scales(const Plan & plan, const StatisticSet & measured);

} // namespace gnv
