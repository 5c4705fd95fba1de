// gnv_dataset_t, for the calls that calibrate or compare with its sequences.
#pragma once

#include "api/handles.h"
#include "api/parts/calibration_data.h"

struct gnv_dataset_t : gnv::api::Owned {
    gnv::CalibrationSet set;
    gnv::CalibrationOptions options;                // of its construction
    std::vector<gnv_document> documents;            // of the last requested sequence
    std::shared_ptr<const gnv::VisionModel> vision; // of the tokenizer's folder; null: it has none

    gnv::Result<gnv::CalibrationData> calibration_data() const { return make_calibration_data(set, options, vision); }
};
