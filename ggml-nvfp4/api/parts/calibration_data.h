// A data set in the form of the forward pass.
#pragma once

#include "data/calibration_set.h"
#include "quantize/quantize.h"

namespace gnv {

// Refers to the pixels of the set, which must outlive it. `vision`: the model that its pictures were made for.
Result<CalibrationData> make_calibration_data(const CalibrationSet & set, const CalibrationOptions & options,
                                              std::shared_ptr<const VisionModel> vision = nullptr);

} // namespace gnv
