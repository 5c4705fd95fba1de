// What the opaque handles of ggml-nvfp4.h are, and how calls cross the C boundary: every function body runs inside
// call(), which keeps the message of a failure in the engine and lets no exception out.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "ggml-nvfp4.h"

#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

struct gnv_text_t {
    std::string text;
};

struct gnv_engine_t {
    gnv_engine_options options;
    std::unique_ptr<gnv::ThreadPool> threads;
    std::mutex log_mutex;
    std::string last_error;

    void log(gnv_log_level level, const std::string & message);
};

namespace gnv::api {

// Copies what the caller's version of an option structure holds over the defaults in `out`.
// False when struct_size was not set.
template <class Options>
bool take_options(const Options * given, Options & out) {
    static_assert(offsetof(Options, struct_size) == 0);
    if (!given) return true;
    if (given->struct_size < sizeof(uint64_t) || given->struct_size > 4096) return false;
    const size_t size = given->struct_size < sizeof(Options) ? size_t(given->struct_size) : sizeof(Options);
    memcpy(static_cast<void *>(&out), given, size);
    out.struct_size = sizeof(Options);
    return true;
}

// Copies what the caller's version of a result structure has room for. False when struct_size was not set.
template <class Info>
bool give_struct(Info info, Info * out) {
    static_assert(offsetof(Info, struct_size) == 0);
    if (!out || out->struct_size < sizeof(uint64_t) || out->struct_size > 4096) return false;
    const size_t size = out->struct_size < sizeof(Info) ? size_t(out->struct_size) : sizeof(Info);
    info.struct_size = out->struct_size;
    memcpy(static_cast<void *>(out), &info, size);
    return true;
}

// Runs `body` (a callable that returns Status) for a call on `engine`.
template <class Body>
gnv_status call(gnv_engine_t * engine, const Body & body) {
    if (!engine) return GNV_INVALID_ARGUMENT;
    const Status status = guard_exceptions(body);
    if (status.ok()) return GNV_OK;
    try {
        engine->last_error = status.message();
    } catch (...) {
        engine->last_error = "out of memory"; // needs none: the string object holds that much
    }
    return gnv_status(status.code());
}

inline gnv_text_t * make_text(std::string text) { return new gnv_text_t{std::move(text)}; }

} // namespace gnv::api
