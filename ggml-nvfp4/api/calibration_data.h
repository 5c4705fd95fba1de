// A data set as the forward pass takes it.
#pragma once

#include "api/quantize.h"
#include "data/calibration_set.h"

namespace gnv {

CalibrationData make_calibration_data(const CalibrationSet & set, const CalibrationOptions & options);

} // namespace gnv
