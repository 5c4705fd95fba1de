// What tests of the C API share.
#pragma once

#include "ggml-nvfp4.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <memory>
#include <string>

namespace gnv::test {

inline const std::string tiny_folder = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
inline const std::string golden_folder = GNV_TEST_DATA "/golden"; // llm-compressor's output of layer 3, in part

struct Destroy {
    void operator()(gnv_engine_t * engine) const { gnv_engine_destroy(engine); }
    void operator()(gnv_plan_t * plan) const { gnv_plan_destroy(plan); }
    void operator()(gnv_checkpoint_t * checkpoint) const { gnv_checkpoint_close(checkpoint); }
    void operator()(gnv_comparison_t * comparison) const { gnv_comparison_destroy(comparison); }
    void operator()(gnv_report_t * report) const { gnv_report_destroy(report); }
    void operator()(gnv_text_t * text) const { gnv_text_destroy(text); }
    void operator()(gnv_tokenizer_t * tokenizer) const { gnv_tokenizer_destroy(tokenizer); }
    void operator()(gnv_dataset_t * dataset) const { gnv_dataset_destroy(dataset); }
    void operator()(gnv_calibration_t * calibration) const { gnv_calibration_destroy(calibration); }
    void operator()(gnv_model_t * model) const { gnv_model_close(model); }
    void operator()(gnv_session_t * session) const { gnv_session_close(session); }
    void operator()(gnv_shown_text_t * text) const { gnv_shown_text_destroy(text); }
    void operator()(gnv_dump_t * dump) const { gnv_dump_destroy(dump); }
    void operator()(gnv_picture_t * picture) const { gnv_picture_destroy(picture); }
};
template <class T>
using Handle = std::unique_ptr<T, Destroy>;

inline Handle<gnv_engine_t> make_engine(int threads = 2) {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = threads;
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(&options, &engine) == GNV_OK);
    return Handle<gnv_engine_t>(engine);
}

inline Handle<gnv_checkpoint_t> open_checkpoint(gnv_engine_t * engine, const std::string & folder) {
    gnv_checkpoint_t * checkpoint = nullptr;
    REQUIRE(gnv_checkpoint_open(engine, folder.c_str(), &checkpoint) == GNV_OK);
    return Handle<gnv_checkpoint_t>(checkpoint);
}

inline Handle<gnv_plan_t> make_plan(gnv_engine_t * engine, const std::string & source = tiny_folder) {
    gnv_plan_options options;
    gnv_plan_options_init(&options);
    options.scheme = GNV_SCHEME_NVFP4A16;
    gnv_plan_t * plan = nullptr;
    REQUIRE(gnv_plan_create(engine, source.c_str(), &options, &plan) == GNV_OK);
    return Handle<gnv_plan_t>(plan);
}

template <class Info>
Info make_info() {
    Info info = {};
    info.struct_size = sizeof info;
    return info;
}

inline bool error_has(const gnv_engine_t * engine, const std::string & part) {
    return std::string(gnv_last_error(engine)).find(part) != std::string::npos;
}

} // namespace gnv::test
