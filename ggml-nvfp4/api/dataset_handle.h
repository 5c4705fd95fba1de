// What a gnv_dataset_t is: needed by every call that calibrates or compares with its sequences.
#pragma once

#include "api/handles.h"
#include "data/calibration_set.h"

struct gnv_dataset_t : gnv::api::Owned {
    gnv::CalibrationSet set;
    gnv::CalibrationOptions options;     // that it was made with
    std::vector<gnv_document> documents; // of the sequence last asked for
};
