// Wrong uses of the C API: numbers that no enumeration has, sizes that no array has, calls from callbacks and from other
// threads while the engine is in use.
#include "api/capi_fixture.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

using namespace gnv::test;

namespace {

using Model = Handle<gnv_model_t>;

Model open_tiny(gnv_engine_t * engine, uint64_t capacity = 64) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = capacity;
    gnv_model_t * model = nullptr;
    REQUIRE(gnv_model_open(engine, tiny_folder.c_str(), &options, &model) == GNV_OK);
    return Model(model);
}

Handle<gnv_tokenizer_t> load_tokenizer(gnv_engine_t * engine) {
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, tiny_folder.c_str(), &tokenizer) == GNV_OK);
    return Handle<gnv_tokenizer_t>(tokenizer);
}

Handle<gnv_dataset_t> open_reference(gnv_engine_t * engine, const gnv_tokenizer_t * tokenizer) {
    const std::string tokens = golden_folder + "/reference-tokens.json";
    gnv_dataset_options options;
    gnv_dataset_options_init(&options);
    options.tokens_file = tokens.c_str();
    gnv_dataset_t * dataset = nullptr;
    REQUIRE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK);
    return Handle<gnv_dataset_t>(dataset);
}

const std::string module_name = "model.language_model.layers.3.mlp.gate.weight";

// Every function that an engine runs one at a time.
std::vector<gnv_status> use_engine(gnv_engine_t * engine, gnv_plan_t * plan, gnv_checkpoint_t * checkpoint,
                                   gnv_tokenizer_t * tokenizer) {
    const char * const tiny = tiny_folder.c_str();
    int32_t count = 0;
    float number = 0;
    uint8_t bytes[16] = {};
    auto device = make_info<gnv_device_info>();
    gnv_plan_t * new_plan = nullptr;
    gnv_report_t * report = nullptr;
    gnv_text_t * text = nullptr;
    gnv_evaluation_t * evaluation = nullptr;
    gnv_canary_t * canary = nullptr;
    gnv_comparison_t * comparison = nullptr;
    gnv_dataset_t * dataset = nullptr;
    gnv_model_t * model = nullptr;
    gnv_calibration_t * calibration = nullptr;
    gnv_quantize_options quantize;
    gnv_quantize_options_init(&quantize);
    gnv_evaluate_options evaluate;
    gnv_evaluate_options_init(&evaluate);
    const char * const path = tiny;
    return {
        gnv_device_count(engine, &count),
        gnv_device_get_info(engine, 0, &device),
        gnv_plan_create(engine, tiny, nullptr, &new_plan),
        gnv_plan_add_calibration(plan, &quantize),
        gnv_calibration_load(engine, &path, 1, &calibration),
        gnv_quantize(plan, "/nonexistent/out", nullptr, nullptr),
        gnv_verify(engine, tiny, nullptr, nullptr, &report),
        gnv_verify_self_test(engine, tiny, nullptr, nullptr, GNV_TEXT_PLAIN, &text, nullptr),
        gnv_evaluate(engine, tiny, tiny, &evaluate, &evaluation),
        gnv_canary(engine, tiny, tiny, nullptr, &canary),
        gnv_checkpoint_measure(checkpoint, module_name.c_str(), nullptr, GNV_TEXT_PLAIN, nullptr),
        gnv_checkpoint_compare(checkpoint, checkpoint, nullptr, &comparison),
        gnv_nvfp4_absolute_maximum(engine, GNV_DTYPE_F32, &number, 1, &number),
        gnv_nvfp4_global_scale(engine, GNV_DTYPE_F32, 1, &number),
        gnv_nvfp4_quantize_rows(engine, GNV_DTYPE_BF16, nullptr, 0, 16, 1, bytes, bytes),
        gnv_nvfp4_dequantize_rows(engine, bytes, bytes, 0, 16, 1, &number),
        gnv_dataset_open(engine, tokenizer, nullptr, &dataset),
        gnv_model_open(engine, tiny, nullptr, &model),
    };
}

// A callback that does something once.
struct Once {
    std::function<void()> act;
    int calls = 0;
    int run() {
        if (calls++ == 0) act();
        return 0;
    }
    static int progress(void * user, const gnv_progress *) { return static_cast<Once *>(user)->run(); }
    static int tap(void * user, const gnv_activation *) { return static_cast<Once *>(user)->run(); }
    static int token(void * user, const gnv_token *) { return static_cast<Once *>(user)->run(); }
    static void log(void * user, gnv_log_level, const char *) { static_cast<Once *>(user)->run(); }
};

std::vector<float> logits_of(gnv_model_t * model, const std::vector<int32_t> & ids, Once * tap) {
    std::vector<float> logits(4096);
    gnv_forward_options options;
    gnv_forward_options_init(&options);
    if (tap) options.tap = Once::tap, options.user = tap;
    REQUIRE(gnv_model_forward(model, ids.data(), ids.size(), &options, logits.data(), logits.size(), nullptr) ==
            GNV_OK);
    return logits;
}

} // namespace

TEST_CASE("a callback that uses its engine again is refused, and the call that it interrupts goes on") {
    const ScratchFolder scratch;
    const std::string quantized = scratch / "quantized";
    {
        const auto engine = make_engine();
        REQUIRE(gnv_quantize(make_plan(engine.get()).get(), quantized.c_str(), nullptr, nullptr) == GNV_OK);
    }
    for (const int threads : {1, 3}) {
        const auto engine = make_engine(threads);
        const auto plan = make_plan(engine.get());
        const auto checkpoint = open_checkpoint(engine.get(), tiny_folder);
        const auto tokenizer = load_tokenizer(engine.get());
        const Model model = open_tiny(engine.get());
        const std::vector<int32_t> ids = {1, 2, 3};
        Once again;
        again.act = [&] {
            for (const gnv_status status : use_engine(engine.get(), plan.get(), checkpoint.get(), tokenizer.get()))
                CHECK(status == GNV_INVALID_ARGUMENT);
            CHECK(gnv_model_reset(model.get()) == GNV_INVALID_ARGUMENT);
            CHECK(gnv_model_forward(model.get(), ids.data(), 3, nullptr, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
            CHECK(gnv_model_generate(model.get(), ids.data(), 3, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
            CHECK(error_has(engine.get(), "another call on this engine has not returned yet"));
            // What only looks at something may be used.
            auto info = make_info<gnv_model_info>();
            CHECK(gnv_model_get_info(model.get(), &info) == GNV_OK);
            size_t count = 0;
            CHECK(gnv_tokenizer_encode(tokenizer.get(), "a b", 3, 0, nullptr, 0, &count) == GNV_OK);
            gnv_text_t * text = nullptr;
            CHECK(gnv_plan_text(plan.get(), GNV_TEXT_PLAIN, &text) == GNV_OK);
            gnv_text_destroy(text);
        };
        gnv_verify_options verify;
        gnv_verify_options_init(&verify);
        verify.progress = Once::progress;
        verify.user = &again;
        gnv_report_t * report = nullptr;
        CHECK(gnv_verify(engine.get(), quantized.c_str(), tiny_folder.c_str(), &verify, &report) == GNV_OK);
        gnv_report_destroy(report);
        CHECK(again.calls > 0);

        gnv_compare_options compare;
        gnv_compare_options_init(&compare);
        compare.progress = Once::progress;
        compare.user = &again;
        again.calls = 0;
        gnv_comparison_t * comparison = nullptr;
        CHECK(gnv_checkpoint_compare(checkpoint.get(), checkpoint.get(), &compare, &comparison) == GNV_OK);
        gnv_comparison_destroy(comparison);
        CHECK(again.calls > 0);

        const std::vector<float> expected = logits_of(model.get(), ids, nullptr);
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        again.calls = 0;
        CHECK(logits_of(model.get(), ids, &again) == expected); // the text did not go on from another state
        CHECK(again.calls > 1);

        gnv_generate_options generate;
        gnv_generate_options_init(&generate);
        generate.max_tokens = 3;
        generate.callback = Once::token;
        generate.user = &again;
        again.calls = 0;
        CHECK(gnv_model_generate(model.get(), ids.data(), 1, &generate, nullptr) == GNV_OK);
        CHECK(again.calls == 3);
        // And afterwards everything works.
        CHECK(gnv_model_reset(model.get()) == GNV_OK);
    }
}

TEST_CASE("quantize, with data and without, and the log: callbacks from any thread") {
    const ScratchFolder scratch;
    Once again, logged;
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    engine_options.threads = 2;
    engine_options.log = Once::log;
    engine_options.user = &logged;
    gnv_engine_t * handle = nullptr;
    REQUIRE(gnv_engine_create(&engine_options, &handle) == GNV_OK);
    const Handle<gnv_engine_t> engine(handle);
    const auto plan = make_plan(engine.get());
    again.act = [&] {
        gnv_report_t * report = nullptr;
        CHECK(gnv_verify(engine.get(), tiny_folder.c_str(), nullptr, nullptr, &report) == GNV_INVALID_ARGUMENT);
        CHECK(report == nullptr);
    };
    logged.act = again.act;
    gnv_quantize_options options;
    gnv_quantize_options_init(&options);
    options.progress = Once::progress;
    options.user = &again;
    CHECK(gnv_quantize(plan.get(), (scratch / "out").c_str(), &options, nullptr) == GNV_OK);
    CHECK(again.calls > 0);
    // The log speaks in the middle of a call: of fewer rows than wanted.
    const auto tokenizer = load_tokenizer(engine.get());
    const std::string rows = scratch.save("rows.jsonl", "{\"text\": \"one row\"}\n");
    const char * const source = rows.c_str();
    gnv_dataset_options dataset_options;
    gnv_dataset_options_init(&dataset_options);
    dataset_options.sources = &source;
    dataset_options.source_count = 1;
    gnv_dataset_t * dataset = nullptr;
    CHECK(gnv_dataset_open(engine.get(), tokenizer.get(), &dataset_options, &dataset) == GNV_OK);
    CHECK(logged.calls > 0);
    gnv_dataset_destroy(dataset);
}

TEST_CASE("encoding with a callback is a call like the others: nothing that it does waits for itself") {
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    const auto checkpoint = open_checkpoint(engine.get(), tiny_folder);
    const auto tokenizer = load_tokenizer(engine.get());
    gnv_tokenizer_t * const gone = load_tokenizer(engine.get()).release();
    std::string text;
    while (text.size() < 20'000'000) text += "some words "; // enough to be asked
    const int32_t id = 1;
    size_t count = 0;
    Once again;
    again.act = [&] {
        for (const gnv_status status : use_engine(engine.get(), plan.get(), checkpoint.get(), tokenizer.get()))
            CHECK(status == GNV_INVALID_ARGUMENT);
        size_t inner = 0;
        CHECK(gnv_tokenizer_encode(tokenizer.get(), "a", 1, 0, nullptr, 0, &inner) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_tokenizer_set_progress(tokenizer.get(), nullptr, nullptr) == GNV_INVALID_ARGUMENT);
        gnv_text_t * decoded = nullptr;
        CHECK(gnv_tokenizer_decode(tokenizer.get(), &id, 1, 0, &decoded) == GNV_OK);
        gnv_text_destroy(decoded);
    };
    REQUIRE(gnv_tokenizer_set_progress(tokenizer.get(), Once::progress, &again) == GNV_OK);
    CHECK(gnv_tokenizer_encode(tokenizer.get(), text.data(), text.size(), 0, nullptr, 0, &count) == GNV_OK);
    CHECK(again.calls > 0);
    CHECK(count > 2'000'000);
    // The tokenizer that encodes is destroyed by its own callback.
    Once destroys;
    destroys.act = [&] { gnv_tokenizer_destroy(gone); };
    REQUIRE(gnv_tokenizer_set_progress(gone, Once::progress, &destroys) == GNV_OK);
    CHECK(gnv_tokenizer_encode(gone, text.data(), text.size(), 0, nullptr, 0, &count) == GNV_OK);
    CHECK(destroys.calls > 0);
}

TEST_CASE("what a callback destroys lives until the call is over") {
    const std::vector<int32_t> ids = {1, 2, 3};
    for (const bool engine_too : {false, true}) {
        gnv_engine_t * const engine = make_engine().release();
        gnv_model_t * const model = open_tiny(engine).release();
        gnv_tokenizer_t * const tokenizer = load_tokenizer(engine).release();
        Once destroys;
        destroys.act = [&] {
            gnv_tokenizer_destroy(tokenizer);
            gnv_model_close(model);
            if (engine_too) gnv_engine_destroy(engine);
        };
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.max_tokens = 3;
        options.tokenizer = tokenizer;
        options.callback = Once::token;
        options.user = &destroys;
        CHECK(gnv_model_generate(model, ids.data(), ids.size(), &options, nullptr) == GNV_OK);
        CHECK(destroys.calls == 3);
        if (!engine_too) gnv_engine_destroy(engine);
    }
}

TEST_CASE("one engine in several threads: each call runs or is refused, and every thread reads whole messages") {
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    const auto checkpoint = open_checkpoint(engine.get(), tiny_folder);
    std::atomic<int> wrong{0}, done{0};
    const auto work = [&](int number) {
        for (int round = 0; round < 40; round++) {
            const gnv_status status =
                gnv_checkpoint_measure(checkpoint.get(), module_name.c_str(), nullptr, GNV_TEXT_PLAIN, nullptr);
            done += status == GNV_OK;
            wrong += status != GNV_OK && status != GNV_INVALID_ARGUMENT;
            uint64_t position = 0;
            const std::string name = "no such tensor " + std::to_string(number);
            wrong += gnv_checkpoint_find_tensor(checkpoint.get(), name.c_str(), &position) != GNV_NOT_FOUND;
            wrong += strlen(gnv_last_error(engine.get())) == 0;
            gnv_text_t * text = nullptr;
            wrong += gnv_plan_text(plan.get(), GNV_TEXT_JSON, &text) != GNV_OK;
            gnv_text_destroy(text);
            auto info = make_info<gnv_tensor_info>();
            wrong += gnv_checkpoint_tensor_info(checkpoint.get(), uint64_t(number), &info) != GNV_OK;
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) threads.emplace_back(work, i);
    for (std::thread & thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(done > 0);
    // The message of a call in another thread is there, too.
    std::thread([&] { gnv_plan_create(engine.get(), "/nonexistent", nullptr, nullptr); }).join();
    CHECK(error_has(engine.get(), "gnv_plan_create: an argument is NULL"));
}

TEST_CASE("numbers that an enumeration does not have are refused everywhere") {
    const auto engine = make_engine();
    const auto plan = make_plan(engine.get());
    const auto checkpoint = open_checkpoint(engine.get(), tiny_folder);
    const auto tokenizer = load_tokenizer(engine.get());
    const auto dataset = open_reference(engine.get(), tokenizer.get());
    gnv_report_t * report_handle = nullptr;
    REQUIRE(gnv_verify(engine.get(), tiny_folder.c_str(), nullptr, nullptr, &report_handle) == GNV_OK);
    const Handle<gnv_report_t> report(report_handle);
    gnv_comparison_t * comparison_handle = nullptr;
    REQUIRE(gnv_checkpoint_compare(checkpoint.get(), checkpoint.get(), nullptr, &comparison_handle) == GNV_OK);
    const Handle<gnv_comparison_t> comparison(comparison_handle);
    gnv_text_t * text = nullptr;
    const auto refused = [&](gnv_status status, const char * what) {
        CHECK_MESSAGE(status == GNV_INVALID_ARGUMENT, what);
        CHECK_MESSAGE(error_has(engine.get(), what), gnv_last_error(engine.get()));
        CHECK(text == nullptr);
    };
    for (const int number : {-1, 2, 3, 77, INT32_MIN, INT32_MAX}) {
        const auto format = gnv_text_format(number);
        refused(gnv_plan_text(plan.get(), format, &text), "gnv_plan_text: format");
        refused(gnv_report_text(report.get(), format, &text), "gnv_report_text: format");
        refused(gnv_checkpoint_text(checkpoint.get(), nullptr, format, &text), "gnv_checkpoint_text: format");
        refused(gnv_checkpoint_measure(checkpoint.get(), module_name.c_str(), nullptr, format, &text),
                "gnv_checkpoint_measure: format");
        refused(gnv_comparison_text(comparison.get(), format, &text), "gnv_comparison_text: format");
        refused(gnv_dataset_text(dataset.get(), format, &text), "gnv_dataset_text: format");
        refused(gnv_verify_self_test(engine.get(), tiny_folder.c_str(), nullptr, nullptr, format, &text, nullptr),
                "gnv_verify_self_test: format");
        gnv_plan_options plan_options;
        gnv_plan_options_init(&plan_options);
        gnv_plan_t * none = nullptr;
        plan_options.scheme = gnv_scheme(number);
        refused(gnv_plan_create(engine.get(), tiny_folder.c_str(), &plan_options, &none), "gnv_plan_options.scheme");
        gnv_plan_options_init(&plan_options);
        plan_options.preset = gnv_preset(number);
        refused(gnv_plan_create(engine.get(), tiny_folder.c_str(), &plan_options, &none), "gnv_plan_options.preset");
        gnv_quantize_options quantize;
        gnv_quantize_options_init(&quantize);
        quantize.precision = gnv_precision(number);
        refused(gnv_quantize(plan.get(), "/nonexistent/out", &quantize, nullptr), "gnv_quantize_options.precision");
        gnv_quantize_options_init(&quantize);
        quantize.experts = gnv_expert_tokens(number);
        refused(gnv_quantize(plan.get(), "/nonexistent/out", &quantize, nullptr), "gnv_quantize_options.experts");
        gnv_evaluate_options evaluate;
        gnv_evaluate_options_init(&evaluate);
        evaluate.dataset = dataset.get();
        evaluate.precision = gnv_precision(number);
        gnv_evaluation_t * evaluation = nullptr;
        refused(gnv_evaluate(engine.get(), tiny_folder.c_str(), tiny_folder.c_str(), &evaluate, &evaluation),
                "gnv_evaluate_options.precision");
        gnv_model_options model_options;
        gnv_model_options_init(&model_options);
        model_options.precision = gnv_precision(number);
        gnv_model_t * model = nullptr;
        refused(gnv_model_open(engine.get(), tiny_folder.c_str(), &model_options, &model),
                "gnv_model_options.precision");
        gnv_model_options_init(&model_options);
        model_options.cache_dtype = gnv_cache_dtype(number);
        refused(gnv_model_open(engine.get(), tiny_folder.c_str(), &model_options, &model),
                "gnv_model_options.cache_dtype");
        gnv_engine_options engine_options;
        gnv_engine_options_init(&engine_options);
        engine_options.instructions = gnv_instructions(number);
        gnv_engine_t * new_engine = nullptr;
        if (number < 0 || number > 3) CHECK(gnv_engine_create(&engine_options, &new_engine) == GNV_INVALID_ARGUMENT);
        gnv_evaluate_options_init(&evaluate);
        evaluate.dataset = dataset.get();
        evaluate.precision = gnv_precision(number);
        refused(gnv_evaluate_check(engine.get(), &evaluate), "gnv_evaluate_options.precision");
        float amax = 0;
        if (number != 2)
            refused(gnv_nvfp4_absolute_maximum(engine.get(), gnv_dtype(number), nullptr, 0, &amax), "gnv_dtype");
        size_t count = 0;
        refused(gnv_tokenizer_encode(tokenizer.get(), "a", 1, uint32_t(number) | 8, nullptr, 0, &count),
                "gnv_tokenizer_encode: flags");
        refused(gnv_tokenizer_decode(tokenizer.get(), nullptr, 0, uint32_t(number) | 8, &text),
                "gnv_tokenizer_decode: flags");
        CHECK(strlen(gnv_status_string(gnv_status(number))) > 0);
    }
    gnv_evaluate_options evaluate;
    gnv_evaluate_options_init(&evaluate);
    evaluate.dataset = dataset.get();
    gnv_evaluation_t * evaluation = nullptr;
    const auto with_gate = [&](double gnv_evaluate_options::*gate) {
        gnv_evaluate_options changed = evaluate;
        changed.*gate = NAN;
        return gnv_evaluate(engine.get(), tiny_folder.c_str(), tiny_folder.c_str(), &changed, &evaluation);
    };
    for (const auto gate : {&gnv_evaluate_options::max_kl, &gnv_evaluate_options::min_top1,
                            &gnv_evaluate_options::max_perplexity_ratio, &gnv_evaluate_options::max_room})
        refused(with_gate(gate), "is NaN");
    evaluate.lines = 1u << 31;
    refused(gnv_evaluate(engine.get(), tiny_folder.c_str(), tiny_folder.c_str(), &evaluate, &evaluation), "lines");
}

TEST_CASE("handles of another engine are refused") {
    const auto engine = make_engine(), other = make_engine();
    const auto tokenizer = load_tokenizer(other.get());
    const auto dataset = open_reference(other.get(), tokenizer.get());
    const auto here = open_checkpoint(engine.get(), tiny_folder), there = open_checkpoint(other.get(), tiny_folder);
    const auto plan = make_plan(engine.get());
    const Model model = open_tiny(engine.get());
    const auto refused = [&](gnv_status status) {
        CHECK(status == GNV_INVALID_ARGUMENT);
        CHECK_MESSAGE(error_has(engine.get(), "is of another engine"), gnv_last_error(engine.get()));
    };
    gnv_dataset_t * new_dataset = nullptr;
    refused(gnv_dataset_open(engine.get(), tokenizer.get(), nullptr, &new_dataset));
    gnv_comparison_t * comparison = nullptr;
    refused(gnv_checkpoint_compare(here.get(), there.get(), nullptr, &comparison));
    gnv_quantize_options quantize;
    gnv_quantize_options_init(&quantize);
    quantize.dataset = dataset.get();
    refused(gnv_plan_add_calibration(plan.get(), &quantize));
    refused(gnv_quantize(plan.get(), "/nonexistent/out", &quantize, nullptr));
    gnv_evaluate_options evaluate;
    gnv_evaluate_options_init(&evaluate);
    evaluate.dataset = dataset.get();
    gnv_evaluation_t * evaluation = nullptr;
    refused(gnv_evaluate(engine.get(), tiny_folder.c_str(), tiny_folder.c_str(), &evaluate, &evaluation));
    gnv_generate_options generate;
    gnv_generate_options_init(&generate);
    generate.tokenizer = tokenizer.get();
    const int32_t id = 1;
    refused(gnv_model_generate(model.get(), &id, 1, &generate, nullptr));
}

TEST_CASE("sizes are looked at before what they count") {
    const auto engine = make_engine();
    const auto tokenizer = load_tokenizer(engine.get());
    const auto checkpoint = open_checkpoint(engine.get(), tiny_folder);
    const Model model = open_tiny(engine.get());
    // Arrays of one entry, with counts that no array has: a look beyond the first is an error of the sanitizers.
    const auto text = std::make_unique<const char *>("a");
    const auto id = std::make_unique<int32_t>(1);
    const auto number = std::make_unique<float>(1.0f);
    for (const uint64_t huge : {uint64_t(1) << 40, uint64_t(1) << 62, UINT64_MAX}) {
        gnv_plan_options plan_options;
        gnv_plan_t * plan = nullptr;
        const std::vector<std::pair<const char * const * gnv_plan_options::*, size_t gnv_plan_options::*>> lists = {
            {&gnv_plan_options::ignore, &gnv_plan_options::ignore_count},
            {&gnv_plan_options::include, &gnv_plan_options::include_count},
            {&gnv_plan_options::keep, &gnv_plan_options::keep_count}};
        for (const auto & [list, count] : lists) {
            gnv_plan_options_init(&plan_options);
            plan_options.*list = text.get();
            plan_options.*count = huge;
            CHECK(gnv_plan_create(engine.get(), tiny_folder.c_str(), &plan_options, &plan) == GNV_INVALID_ARGUMENT);
        }
        gnv_calibration_t * calibration = nullptr;
        CHECK(gnv_calibration_load(engine.get(), text.get(), huge, &calibration) == GNV_INVALID_ARGUMENT);
        gnv_dataset_options dataset_options;
        gnv_dataset_options_init(&dataset_options);
        dataset_options.sources = text.get();
        dataset_options.source_count = huge;
        gnv_dataset_t * dataset = nullptr;
        CHECK(gnv_dataset_open(engine.get(), tokenizer.get(), &dataset_options, &dataset) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_model_forward(model.get(), id.get(), huge, nullptr, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
        CHECK(error_has(engine.get(), "the model was opened for"));
        gnv_forward_options forward_options;
        gnv_forward_options_init(&forward_options);
        forward_options.tap_names = text.get();
        forward_options.tap_count = huge;
        CHECK(gnv_model_forward(model.get(), id.get(), 1, &forward_options, nullptr, 0, nullptr) ==
              GNV_INVALID_ARGUMENT);
        CHECK(gnv_model_generate(model.get(), id.get(), huge, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
        gnv_generate_options generate_options;
        gnv_generate_options_init(&generate_options);
        generate_options.stop_ids = id.get();
        generate_options.stop_count = huge;
        CHECK(gnv_model_generate(model.get(), id.get(), 1, &generate_options, nullptr) == GNV_INVALID_ARGUMENT);
        auto activation = make_info<gnv_activation>();
        CHECK(gnv_model_tap_info(model.get(), 0, huge, &activation) == GNV_INVALID_ARGUMENT);
        double value = 0;
        CHECK(gnv_checkpoint_read(checkpoint.get(), 0, 0, number.get(), huge) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_checkpoint_values(checkpoint.get(), module_name.c_str(), 1, huge, &value) == GNV_INVALID_ARGUMENT);
        gnv_text_t * out = nullptr;
        gnv_dump_t * dump = nullptr;
        if (huge > uint64_t(1) << 47) {
            size_t count = 0;
            CHECK(gnv_tokenizer_encode(tokenizer.get(), *text, huge, 0, nullptr, 0, &count) == GNV_INVALID_ARGUMENT);
            CHECK(gnv_tokenizer_decode(tokenizer.get(), id.get(), huge, 0, &out) == GNV_INVALID_ARGUMENT);
            CHECK(gnv_nvfp4_absolute_maximum(engine.get(), GNV_DTYPE_F32, number.get(), int64_t(huge / 2),
                                             number.get()) == GNV_INVALID_ARGUMENT);
            CHECK(gnv_nvfp4_code_bytes(int64_t(huge / 32), 16) == 0);
        }
        const auto extent = std::make_unique<int64_t>(1);
        const ScratchFolder scratch;
        const std::string path = scratch / "d.safetensors";
        const gnv_dump_tensor tensor = {"a", "F32", huge, extent.get()}, good = {"a", "F32", 1, extent.get()};
        CHECK(gnv_dump_create(engine.get(), path.c_str(), &tensor, 1, &dump) == GNV_INVALID_ARGUMENT);
        CHECK_MESSAGE(error_has(engine.get(), "more than the 64 allowed"), gnv_last_error(engine.get()));
        CHECK(gnv_dump_create(engine.get(), path.c_str(), &good, huge, &dump) == GNV_INVALID_ARGUMENT);
        REQUIRE(gnv_dump_create(engine.get(), path.c_str(), &good, 1, &dump) == GNV_OK);
        CHECK(gnv_dump_append(dump, 0, number.get(), huge) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_dump_append(dump, huge, number.get(), 4) == GNV_INVALID_ARGUMENT);
        gnv_dump_destroy(dump);
    }
    // Of structures: what cuts a field in two is the size of no version.
    for (uint64_t size = 0; size < 300; size++) {
        gnv_engine_options options = {};
        options.struct_size = size;
        gnv_engine_t * other = nullptr;
        const bool is_size = size >= 8 && size % alignof(gnv_engine_options) == 0;
        if (size <= sizeof options) {
            CHECK(gnv_engine_create(&options, &other) == (is_size ? GNV_OK : GNV_INVALID_ARGUMENT));
            gnv_engine_destroy(other);
        }
    }
}
