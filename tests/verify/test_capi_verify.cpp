// The C functions behind verify.
#include "verify_fixture.h"

#include <ggml-nvfp4.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Engine {
    gnv_engine_t * handle = nullptr;
    Engine() { REQUIRE(gnv_engine_create(nullptr, &handle) == GNV_OK); }
    ~Engine() { gnv_engine_destroy(handle); }
};

std::string take(gnv_text_t * text) {
    const std::string content(gnv_text_data(text), gnv_text_size(text));
    gnv_text_destroy(text);
    return content;
}

} // namespace

TEST_CASE("a report through the C API") {
    const Engine engine;
    gnv_verify_options options;
    gnv_verify_options_init(&options);
    uint64_t calls = 0;
    options.user = &calls;
    options.hashes = 1;
    options.progress = [](void * user, const gnv_progress * progress) {
        ++*static_cast<uint64_t *>(user);
        CHECK(progress->bytes <= progress->bytes_total);
        return 0;
    };
    gnv_report_t * report = nullptr;
    REQUIRE(gnv_verify(engine.handle, fused_pair().quantized.c_str(), tiny.c_str(), &options, &report) == GNV_OK);
    CHECK(calls > 0);
    gnv_report_info info = {};
    CHECK(gnv_report_get_info(report, &info) == GNV_INVALID_ARGUMENT); // struct_size
    info.struct_size = sizeof info;
    CHECK(gnv_report_get_info(report, &info) == GNV_OK);
    CHECK(info.errors == 0);
    CHECK(info.warnings == 0);
    CHECK(info.checks_done == 20);
    CHECK(info.checks_skipped == 1); // no README.md lists the files
    gnv_text_t * text = nullptr;
    CHECK(gnv_report_text(report, GNV_TEXT_PLAIN, &text) == GNV_OK);
    CHECK(take(text).find("Passed") != std::string::npos);
    CHECK(gnv_report_text(report, GNV_TEXT_JSON, &text) == GNV_OK);
    CHECK(Json::parse(take(text))["schema"] == "ggml-nvfp4.verify.1");
    gnv_report_destroy(report);
    gnv_report_destroy(nullptr);
}

TEST_CASE("failures leave no report, and say why") {
    const Engine engine;
    gnv_report_t * report = reinterpret_cast<gnv_report_t *>(1);
    CHECK(gnv_verify(engine.handle, "/no/such/folder", nullptr, nullptr, &report) == GNV_NOT_FOUND);
    CHECK(report == nullptr);
    CHECK(std::string(gnv_last_error(engine.handle)).find("/no/such/folder") != std::string::npos);
    CHECK(gnv_verify(engine.handle, nullptr, nullptr, nullptr, &report) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_verify(engine.handle, tiny.c_str(), nullptr, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_verify(nullptr, tiny.c_str(), nullptr, nullptr, &report) == GNV_INVALID_ARGUMENT);
    gnv_verify_options options = {}; // struct_size is not set
    CHECK(gnv_verify(engine.handle, tiny.c_str(), nullptr, &options, &report) == GNV_INVALID_ARGUMENT);
    gnv_verify_options_init(&options);
    options.progress = [](void *, const gnv_progress *) { return 1; };
    CHECK(gnv_verify(engine.handle, fused_pair().quantized.c_str(), tiny.c_str(), &options, &report) == GNV_CANCELLED);
    CHECK(report == nullptr);
    CHECK(gnv_report_get_info(nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_report_text(nullptr, GNV_TEXT_PLAIN, nullptr) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("an unquantized checkpoint is a report with errors, not a failure") {
    const Engine engine;
    gnv_report_t * report = nullptr;
    REQUIRE(gnv_verify(engine.handle, tiny.c_str(), nullptr, nullptr, &report) == GNV_OK);
    gnv_report_info info = {};
    info.struct_size = sizeof info;
    CHECK(gnv_report_get_info(report, &info) == GNV_OK);
    CHECK(info.errors > 0);
    CHECK(info.checks_skipped > 0);
    gnv_report_destroy(report);
}

TEST_CASE("the self-test through the C API") {
    const Engine engine;
    uint64_t escaped = 99;
    gnv_text_t * text = nullptr;
    CHECK(gnv_verify_self_test(engine.handle, odd_pair().quantized.c_str(), odd_pair().source.c_str(), nullptr,
                               GNV_TEXT_JSON, &text, &escaped) == GNV_OK);
    CHECK(escaped == 0);
    CHECK(Json::parse(take(text))["found"].get<int>() >= 30);
    CHECK(gnv_verify_self_test(engine.handle, "/no/such/folder", nullptr, nullptr, GNV_TEXT_PLAIN, nullptr, nullptr) ==
          GNV_NOT_FOUND);
}
