// gnv_report_t.
#pragma once

#include "api/handles.h"
#include "verify/verify.h"

struct gnv_report_t : gnv::api::Owned {
    gnv::verify::VerifyReport report;
    uint64_t failed_gates = 0, suspicions = 0; // of an added evaluation
    uint64_t canary_failed_gates = 0, canary_suspicions = 0;
};
