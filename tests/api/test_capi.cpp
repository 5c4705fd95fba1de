// The C API as its callers may use it: engines, plans, runs, verification; wrong arguments, old structures, threads.
#include "capi_fixture.h"

#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

using namespace gnv::test;

extern "C" {
typedef void (*any_function)(void);
extern const any_function api_functions[];
extern const size_t api_function_count;
uint64_t c_engine_options_size(void);
}

TEST_CASE("C sees the header as C++ does, and every declared function is there") {
    CHECK(c_engine_options_size() == sizeof(gnv_engine_options));
    CHECK(api_function_count > 50);
    for (size_t i = 0; i < api_function_count; i++) CHECK((api_functions[i] != nullptr));
}

TEST_CASE("version, kernels and status texts are never NULL") {
    CHECK(std::string(gnv_version()) == GNV_VERSION_STRING);
    CHECK(gnv_version_number() == GNV_VERSION);
    CHECK(strlen(gnv_cpu_kernels()) > 0);
    for (int code = -1; code < 70; code++) CHECK(strlen(gnv_status_string(gnv_status(code))) > 0);
    CHECK(std::string(gnv_status_string(GNV_NO_SPACE)) != gnv_status_string(GNV_IO));
}

TEST_CASE("NULL handles: destroying does nothing, asking gives nothing") {
    gnv_engine_destroy(nullptr);
    gnv_plan_destroy(nullptr);
    gnv_checkpoint_close(nullptr);
    gnv_comparison_destroy(nullptr);
    gnv_report_destroy(nullptr);
    gnv_text_destroy(nullptr);
    CHECK(std::string(gnv_text_data(nullptr)).empty());
    CHECK(gnv_text_size(nullptr) == 0);
    CHECK(std::string(gnv_last_error(nullptr)).empty());

    gnv_plan_t * plan = reinterpret_cast<gnv_plan_t *>(1);
    gnv_report_t * report = reinterpret_cast<gnv_report_t *>(1);
    gnv_text_t * text = reinterpret_cast<gnv_text_t *>(1);
    auto plan_info = make_info<gnv_plan_info>();
    auto report_info = make_info<gnv_report_info>();
    CHECK(gnv_plan_create(nullptr, "x", nullptr, &plan) == GNV_INVALID_ARGUMENT);
    CHECK(plan == nullptr); // outputs are cleared, whatever happens
    CHECK(gnv_verify(nullptr, "x", nullptr, nullptr, &report) == GNV_INVALID_ARGUMENT);
    CHECK(report == nullptr);
    CHECK(gnv_plan_text(nullptr, GNV_TEXT_PLAIN, &text) == GNV_INVALID_ARGUMENT);
    CHECK(text == nullptr);
    CHECK(gnv_plan_get_info(nullptr, &plan_info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_quantize(nullptr, "x", nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_report_get_info(nullptr, &report_info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_report_text(nullptr, GNV_TEXT_PLAIN, &text) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("engine options: defaults, sizes of older and of newer callers, nonsense") {
    gnv_engine_t * engine = nullptr;
    CHECK(gnv_engine_create(nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    CHECK(std::string(gnv_last_error(engine)).empty());
    gnv_engine_destroy(engine);

    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = -1;
    engine = reinterpret_cast<gnv_engine_t *>(1);
    CHECK(gnv_engine_create(&options, &engine) == GNV_INVALID_ARGUMENT);
    CHECK(engine == nullptr);
    options.struct_size = offsetof(gnv_engine_options, threads); // a caller from before there was such a field
    CHECK(gnv_engine_create(&options, &engine) == GNV_OK);
    gnv_engine_destroy(engine);
    for (const uint64_t size : {uint64_t(0), uint64_t(7), uint64_t(1) << 40}) {
        options.struct_size = size;
        CHECK(gnv_engine_create(&options, &engine) == GNV_INVALID_ARGUMENT);
    }
    struct {
        gnv_engine_options known;
        uint64_t of_a_later_version;
    } newer = {{}, 7};
    newer.known.struct_size = sizeof newer;
    CHECK(gnv_engine_create(&newer.known, &engine) == GNV_OK);
    gnv_engine_destroy(engine);
}

TEST_CASE("plans: what is wrong with the arguments is said, what is not set has a default") {
    const auto engine = make_engine();
    gnv_plan_t * plan = nullptr;
    gnv_plan_options options;
    const auto create = [&] { return gnv_plan_create(engine.get(), tiny_folder.c_str(), &options, &plan); };
    gnv_plan_options_init(&options);

    CHECK(gnv_plan_create(engine.get(), nullptr, &options, &plan) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "NULL"));
    CHECK(gnv_plan_create(engine.get(), tiny_folder.c_str(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_plan_create(engine.get(), "/nonexistent", &options, &plan) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "/nonexistent"));
    options.scheme = gnv_scheme(2);
    CHECK(create() == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "gnv_plan_options.scheme: 2 is not in 0..1"));
    gnv_plan_options_init(&options);
    options.preset = gnv_preset(-1);
    CHECK(create() == GNV_INVALID_ARGUMENT);
    gnv_plan_options_init(&options);
    const char * patterns[] = {".*", nullptr};
    options.ignore_count = 1;
    CHECK(create() == GNV_INVALID_ARGUMENT);
    options.ignore = patterns, options.ignore_count = 2;
    CHECK(create() == GNV_INVALID_ARGUMENT);
    patterns[0] = "(", options.ignore_count = 1;
    CHECK(create() == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "\"(\""));
    // A caller whose structure ends before the patterns.
    options.struct_size = offsetof(gnv_plan_options, ignore);
    CHECK(create() == GNV_OK);
    gnv_plan_destroy(plan);
    options.struct_size = 4;
    CHECK(create() == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "struct_size"));
    CHECK(plan == nullptr);
    CHECK(gnv_plan_create(engine.get(), tiny_folder.c_str(), nullptr, &plan) == GNV_OK);
    gnv_plan_destroy(plan);
}

TEST_CASE("result structures are filled as far as the caller's version goes") {
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    gnv_plan_info info;
    memset(&info, 0x5a, sizeof info);
    info.struct_size = offsetof(gnv_plan_info, quantized_modules);
    REQUIRE(gnv_plan_get_info(plan.get(), &info) == GNV_OK);
    CHECK(info.struct_size == offsetof(gnv_plan_info, quantized_modules));
    CHECK(info.source_tensors == 205);
    CHECK(info.source_bytes == 39289152);
    CHECK(info.quantized_modules == 0x5a5a5a5a5a5a5a5a);
    info = make_info<gnv_plan_info>();
    REQUIRE(gnv_plan_get_info(plan.get(), &info) == GNV_OK);
    CHECK(info.quantized_modules == 800);
    CHECK(info.tensors == 2557);
    info.struct_size = 0;
    CHECK(gnv_plan_get_info(plan.get(), &info) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "struct_size"));
    CHECK(gnv_plan_get_info(plan.get(), nullptr) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("texts end with NUL and know their size") {
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    for (const gnv_text_format format : {GNV_TEXT_PLAIN, GNV_TEXT_JSON}) {
        gnv_text_t * text = nullptr;
        REQUIRE(gnv_plan_text(plan.get(), format, &text) == GNV_OK);
        const Handle<gnv_text_t> owner(text);
        CHECK(strlen(gnv_text_data(text)) == gnv_text_size(text));
        CHECK((gnv_text_data(text)[0] == '{') == (format == GNV_TEXT_JSON));
    }
    CHECK(gnv_plan_text(plan.get(), GNV_TEXT_PLAIN, nullptr) == GNV_INVALID_ARGUMENT);
}

namespace {

// What a progress callback saw; stops after `calls_left`.
struct Watched {
    int calls_left = 1 << 30;
    int calls = 0;
    gnv_progress last = {};
    bool grows = true;

    static int callback(void * user, const gnv_progress * now) {
        Watched & self = *static_cast<Watched *>(user);
        self.grows = self.grows && now->struct_size == sizeof(gnv_progress) && now->bytes >= self.last.bytes &&
                     now->tensors >= self.last.tensors && now->seconds >= self.last.seconds;
        self.last = *now;
        self.calls++;
        return self.calls_left-- <= 0;
    }
};

} // namespace

TEST_CASE("quantize reports progress, can be stopped, and gives its times") {
    const ScratchFolder scratch;
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    Watched watched;
    gnv_quantize_options options;
    gnv_quantize_options_init(&options);
    options.progress = Watched::callback;
    options.user = &watched;
    gnv_text_t * report = nullptr;

    watched.calls_left = 0;
    CHECK(gnv_quantize(plan.get(), (scratch / "out").c_str(), &options, &report) == GNV_CANCELLED);
    CHECK(report == nullptr);
    CHECK(error_has(engine.get(), "out.partial"));
    CHECK_FALSE(gnv::path_exists(scratch / "out"));

    // Callers that were compiled before `resume` get what they had then; the others go on.
    gnv_quantize_options older = options;
    older.struct_size = offsetof(gnv_quantize_options, resume);
    CHECK(gnv_quantize(plan.get(), (scratch / "out").c_str(), &older, nullptr) == GNV_ALREADY_EXISTS);
    options.resume = gnv_resume(GNV_RESUME_EACH_LAYER + 1);
    CHECK(gnv_quantize(plan.get(), (scratch / "out").c_str(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    options.resume = GNV_RESUME_ON;
    watched = {};
    REQUIRE(gnv_quantize(plan.get(), (scratch / "out").c_str(), &options, &report) == GNV_OK);
    const Handle<gnv_text_t> owner(report);
    CHECK(strstr(gnv_text_data(report), "\"schema\": \"ggml-nvfp4.quantize.1\"") != nullptr);
    CHECK(watched.calls > 0);
    CHECK(watched.grows);
    CHECK(watched.last.tensors == 2557);
    CHECK(watched.last.tensors_total == 2557);
    CHECK(watched.last.bytes == watched.last.bytes_total);

    gnv_text_t * phases = owner.get(); // cleared, whatever fails
    options.phases = &phases;
    CHECK(gnv_quantize(plan.get(), nullptr, &options, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(phases == nullptr);
    CHECK(gnv_quantize(plan.get(), tiny_folder.c_str(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    options.struct_size = 0;
    CHECK(gnv_quantize(plan.get(), (scratch / "other").c_str(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    // A caller whose structure has no callback: the fields behind are not looked at.
    options.struct_size = offsetof(gnv_quantize_options, progress);
    watched = {};
    CHECK(gnv_quantize(plan.get(), (scratch / "other").c_str(), &options, nullptr) == GNV_OK);
    CHECK(watched.calls == 0);
}

TEST_CASE("verify: findings are no failures, missing folders are") {
    const ScratchFolder scratch;
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    const std::string out = scratch / "out";
    REQUIRE(gnv_quantize(plan.get(), out.c_str(), nullptr, nullptr) == GNV_OK);

    gnv_report_t * report = nullptr;
    gnv_verify_options options;
    gnv_verify_options_init(&options);
    CHECK(gnv_verify(engine.get(), nullptr, nullptr, &options, &report) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_verify(engine.get(), out.c_str(), nullptr, &options, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_verify(engine.get(), "/nonexistent", nullptr, &options, &report) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "/nonexistent"));
    CHECK(report == nullptr);

    Watched watched;
    options.progress = Watched::callback;
    options.user = &watched;
    REQUIRE(gnv_verify(engine.get(), out.c_str(), tiny_folder.c_str(), &options, &report) == GNV_OK);
    Handle<gnv_report_t> owner(report);
    CHECK(watched.calls > 0);
    CHECK(watched.grows);
    auto info = make_info<gnv_report_info>();
    REQUIRE(gnv_report_get_info(report, &info) == GNV_OK);
    CHECK(info.errors == 0);
    CHECK(info.checks_done > 0);
    info.struct_size = 0;
    CHECK(gnv_report_get_info(report, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_report_get_info(report, nullptr) == GNV_INVALID_ARGUMENT);
    gnv_text_t * text = nullptr;
    REQUIRE(gnv_report_text(report, GNV_TEXT_JSON, &text) == GNV_OK);
    CHECK(strstr(gnv_text_data(text), "ggml-nvfp4.verify.1") != nullptr);
    gnv_text_destroy(text);
    CHECK(gnv_report_text(report, GNV_TEXT_JSON, nullptr) == GNV_INVALID_ARGUMENT);

    watched = {};
    watched.calls_left = 0;
    CHECK(gnv_verify(engine.get(), out.c_str(), tiny_folder.c_str(), &options, &report) == GNV_CANCELLED);
    CHECK(report == nullptr);
    options.struct_size = 1;
    CHECK(gnv_verify(engine.get(), out.c_str(), nullptr, &options, &report) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("two engines in two threads: each has its own results and its own last error") {
    const ScratchFolder scratch;
    std::vector<std::string> problems(2);
    const auto work = [&](size_t i) {
        gnv_engine_options options;
        gnv_engine_options_init(&options);
        options.threads = 2;
        gnv_engine_t * engine = nullptr;
        if (gnv_engine_create(&options, &engine) != GNV_OK) return;
        const Handle<gnv_engine_t> owner(engine);
        const std::string absent = "/nonexistent/" + std::to_string(i), out = scratch / std::to_string(i);
        gnv_plan_options plan_options;
        gnv_plan_options_init(&plan_options);
        plan_options.scheme = GNV_SCHEME_NVFP4A16;
        gnv_plan_t * plan = nullptr;
        for (int round = 0; round < 100; round++) {
            if (gnv_plan_create(engine, absent.c_str(), &plan_options, &plan) != GNV_NOT_FOUND ||
                !error_has(engine, absent))
                problems[i] = gnv_last_error(engine);
        }
        if (gnv_plan_create(engine, tiny_folder.c_str(), &plan_options, &plan) != GNV_OK ||
            gnv_quantize(plan, out.c_str(), nullptr, nullptr) != GNV_OK)
            problems[i] = gnv_last_error(engine);
        gnv_plan_destroy(plan);
    };
    std::thread first(work, 0), second(work, 1);
    first.join();
    second.join();
    CHECK(problems == std::vector<std::string>(2));

    const auto engine = make_engine();
    const auto a = open_checkpoint(engine.get(), scratch / "0"), b = open_checkpoint(engine.get(), scratch / "1");
    gnv_comparison_t * comparison = nullptr;
    REQUIRE(gnv_checkpoint_compare(a.get(), b.get(), nullptr, &comparison) == GNV_OK);
    const Handle<gnv_comparison_t> owner(comparison);
    auto info = make_info<gnv_comparison_info>();
    REQUIRE(gnv_comparison_get_info(comparison, &info) == GNV_OK);
    CHECK(info.equal == 957);
    CHECK(info.values + info.form + info.quantized + info.only_here + info.only_there == 0);
}
