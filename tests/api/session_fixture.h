// What tests of gnv_session_* share.
#pragma once

#include "api/capi_fixture.h"
#include "golden_file.h"

#include <vector>

namespace gnv::test {

using Ids = std::vector<int32_t>;
using Model = Handle<gnv_model_t>;
using Session = Handle<gnv_session_t>;

inline gnv_status try_open(gnv_engine_t * engine, uint64_t sessions, uint64_t positions, Model & out,
                           gnv_precision precision = GNV_PRECISION_FP32, gnv_cache_dtype cache = GNV_CACHE_AUTO) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = 512;
    options.sessions = sessions;
    options.session_positions = positions;
    options.precision = precision;
    options.cache_dtype = cache;
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, tiny_folder.c_str(), &options, &model);
    out.reset(model);
    return status;
}

inline Model open_model(gnv_engine_t * engine, uint64_t sessions = 8, uint64_t positions = 0,
                        gnv_precision precision = GNV_PRECISION_FP32, gnv_cache_dtype cache = GNV_CACHE_AUTO) {
    Model model;
    const gnv_status status = try_open(engine, sessions, positions, model, precision, cache);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return model;
}

inline Session open_session(const Model & model) {
    gnv_session_t * session = nullptr;
    REQUIRE(gnv_session_open(model.get(), &session) == GNV_OK);
    return Session(session);
}

inline Ids text_ids(size_t begin, size_t count) {
    static const Ids all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

inline gnv_status feed(const Session & session, const Ids & ids, gnv_want want = GNV_WANT_LIKELIEST) {
    return gnv_session_feed(session.get(), ids.data(), ids.size(), want);
}

// Steps of all sessions until no id waits.
inline void run_all(gnv_engine_t * engine, const Model & model) {
    auto step = make_info<gnv_step_result>();
    do {
        const gnv_status status = gnv_model_step(model.get(), nullptr, 0, nullptr, &step);
        REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    } while (step.waiting > 0);
}

inline gnv_session_info info_of(const Session & session) {
    auto info = make_info<gnv_session_info>();
    REQUIRE(gnv_session_get_info(session.get(), &info) == GNV_OK);
    return info;
}

inline gnv_sessions_info room_of(const Model & model) {
    auto info = make_info<gnv_sessions_info>();
    REQUIRE(gnv_model_get_sessions(model.get(), &info) == GNV_OK);
    return info;
}

} // namespace gnv::test
