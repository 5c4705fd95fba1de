// gnv_report_t.
#pragma once

#include "api/handles.h"
#include "verify/verify.h"

struct gnv_report_t : gnv::api::Owned {
    gnv::verify::VerifyReport report;
};
