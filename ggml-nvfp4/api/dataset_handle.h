// gnv_dataset_t, for the calls that calibrate or compare with its sequences.
#pragma once

#include "api/handles.h"
#include "data/calibration_set.h"

struct gnv_dataset_t : gnv::api::Owned {
    gnv::CalibrationSet set;
    gnv::CalibrationOptions options;     // of its construction
    std::vector<gnv_document> documents; // of the last requested sequence
};
