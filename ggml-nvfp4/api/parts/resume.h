// gnv_resume of the C API.
#pragma once

#include "api/arguments.h"
#include "pass/pass_state.h"

namespace gnv::api {

inline Result<Resume> take_resume(gnv_resume resume, const char * what) {
    GNV_TRY(check_number(resume, GNV_RESUME_EACH_LAYER, what));
    return resume == GNV_RESUME_OFF ? Resume::off : resume == GNV_RESUME_ON ? Resume::on : Resume::each_layer;
}

} // namespace gnv::api
