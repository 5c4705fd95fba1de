// Owners of the library's handles, and its failures as exceptions.
#pragma once

#include <ggml-nvfp4.h>

#include <memory>
#include <stdexcept>

namespace server {

struct Close {
    void operator()(gnv_engine_t * engine) const { gnv_engine_destroy(engine); }
    void operator()(gnv_model_t * model) const { gnv_model_close(model); }
    void operator()(gnv_session_t * session) const { gnv_session_close(session); }
    void operator()(gnv_shown_text_t * text) const { gnv_shown_text_destroy(text); }
};
template <class Handle>
using Owner = std::unique_ptr<Handle, Close>;
using Session = Owner<gnv_session_t>;

struct CallFailed : std::runtime_error {
    CallFailed(gnv_status status_, const char * message) : std::runtime_error(message), status(status_) {}
    const gnv_status status;
};

inline void check(const gnv_engine_t * engine, gnv_status status) {
    if (status != GNV_OK) throw CallFailed(status, gnv_last_error(engine));
}

} // namespace server
