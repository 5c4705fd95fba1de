// Functions of parts that a build leaves out (GNV_WITH_... of CMake): the symbols are there, the handles
// can only be NULL.
#pragma once

#include "api/handles.h"

namespace gnv::api {

// The answer where a handle would be made.
inline gnv_status left_out(gnv_engine_t * engine, const char * part, const char * option) {
    return call(engine, [&]() -> Status {
        return fail(Code::unsupported, "this build of ggml-nvfp4 has no ", part, ": configure it with -D", option,
                    "=ON, or take another build");
    });
}

template <class Handle>
void clear(Handle ** out) {
    if (out) *out = nullptr;
}

} // namespace gnv::api
