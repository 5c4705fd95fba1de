// Helpers for the functions of parts that a build leaves out (GNV_WITH_... of CMake): the symbols exist, handles are
// NULL.
#pragma once

#include "api/handles.h"

namespace gnv::api {

// The result of functions that would make a handle.
inline gnv_status left_out(gnv_engine_t * engine, const char * part, const char * option) {
    return call(engine, [&]() -> Status {
        return fail(Code::unsupported, "this build of ggml-nvfp4 has no ", part, ": configure it with -D", option,
                    "=ON, or use another build");
    });
}

template <class Handle>
void clear(Handle ** out) {
    if (out) *out = nullptr;
}

} // namespace gnv::api
