// The opaque handles of ggml-nvfp4.h, and the C boundary: every function body runs inside call() or run(), which keep
// the message of a failure in the engine and let no exception out.
//
// run() is for calls that compute with the engine's threads, change a model, log or call back: one at a time, a second
// is refused. call() is for all other calls: they wait for each other, and callbacks may make them. They may read the
// data of a run(), because a run() changes such data only under quick_mutex.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "ggml-nvfp4.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace gnv::api {

// The base of every handle made from an engine.
struct Owned {
    gnv_engine_t * engine = nullptr;
    void (*destroy)(Owned * handle) = nullptr;
    Owned * next = nullptr; // in the list to destroy when the running call ends
};

} // namespace gnv::api

struct gnv_text_t {
    std::string text;
};

struct gnv_engine_t {
    gnv_engine_options options;
    std::unique_ptr<gnv::ThreadPool> threads;
    std::mutex log_mutex, quick_mutex;

    void log(gnv_log_level level, const std::string & message);
    void warn_once(const std::string & message); // nothing where the last such warning said the same

    gnv_status keep(const gnv::Status & status) noexcept; // the message of a failure
    const char * last_error() const noexcept;
    gnv_status last_status() const noexcept;
    bool begin_run();
    void end_run();                      // may delete the engine
    void retire(gnv::api::Owned * next); // destroys it now, or when the running call ends
    void destroy();                      // the same with the engine itself

  private:
    ~gnv_engine_t() = default;

    mutable std::mutex mutex_; // for the members below
    std::string last_warning_; // of warn_once()
    bool runs_ = false, doomed_ = false;
    gnv::api::Owned * retired_ = nullptr;
    // The newest message, and a copy for each thread that asked for it: no other thread writes to a copy.
    struct Message {
        uint64_t number = 0;
        gnv_status status = GNV_OK;
        std::string text;
    };
    Message newest_;
    mutable std::map<std::thread::id, Message> messages_;
};

namespace gnv::api {

template <class Body>
gnv_status call(gnv_engine_t * engine, const Body & body) {
    if (!engine) return GNV_INVALID_ARGUMENT;
    const std::lock_guard<std::mutex> lock(engine->quick_mutex);
    return engine->keep(guard_exceptions(body));
}

template <class Body>
gnv_status run(gnv_engine_t * engine, const Body & body) {
    if (!engine) return GNV_INVALID_ARGUMENT;
    if (!engine->begin_run())
        return engine->keep(guard_exceptions([] {
            return Status(
                Code::invalid_argument,
                "another call on this engine has not returned yet: wait for it (a callback must return first), "
                "or use an engine of its own");
        }));
    const gnv_status status = engine->keep(guard_exceptions(body));
    engine->end_run();
    return status;
}

template <class Handle>
void destroy(Handle * handle) {
    if (!handle) return;
    handle->destroy = [](Owned * owned) { delete static_cast<Handle *>(owned); };
    handle->engine->retire(handle);
}

template <class Handle>
gnv_engine_t * engine_of(const Handle * handle) {
    return handle ? handle->engine : nullptr;
}

inline gnv_text_t * make_text(std::string text) { return new gnv_text_t{std::move(text)}; }

} // namespace gnv::api
