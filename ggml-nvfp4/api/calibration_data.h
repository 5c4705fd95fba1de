// A data set in the form of the forward pass.
#pragma once

#include "data/calibration_set.h"
#include "quantize/quantize.h"

namespace gnv {

CalibrationData make_calibration_data(const CalibrationSet & set, const CalibrationOptions & options);

} // namespace gnv
