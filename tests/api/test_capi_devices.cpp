#include "capi_fixture.h"
#include "exec/nvidia_driver.h"
#include "scratch.h"

#include <cstddef>
#include <cstring>

using namespace gnv::test;

TEST_CASE("device 0 is the CPU, others are CUDA devices, and beyond them is none") {
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    int32_t count = 0;
    REQUIRE(gnv_device_count(engine, &count) == GNV_OK);
    REQUIRE(count >= 1);
    for (int32_t index = 0; index < count; index++) {
        gnv_device_info info = {};
        info.struct_size = sizeof info;
        REQUIRE(gnv_device_get_info(engine, index, &info) == GNV_OK);
        CHECK(info.struct_size == sizeof info);
        CHECK(info.kind == (index == 0 ? GNV_DEVICE_CPU : GNV_DEVICE_CUDA));
        CHECK(info.memory_bytes > 0);
        CHECK(strlen(info.name) > 0);
        if (index == 0) CHECK(std::string(info.name) == std::string("CPU (") + gnv_cpu_kernels() + ")");
    }
    gnv_device_info info = {};
    info.struct_size = sizeof info;
    CHECK(gnv_device_get_info(engine, count, &info) == GNV_NOT_FOUND);
    CHECK(std::string(gnv_last_error(engine)) ==
          "device " + std::to_string(count) + " does not exist: this machine has " + std::to_string(count));
    CHECK(gnv_device_get_info(engine, -1, &info) == GNV_NOT_FOUND);

    info.struct_size = 0;
    CHECK(gnv_device_get_info(engine, 0, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_get_info(engine, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_count(engine, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_count(nullptr, &count) == GNV_INVALID_ARGUMENT);

    info.struct_size = offsetof(gnv_device_info, name); // a program that knows of no names
    memset(info.name, '?', sizeof info.name);
    CHECK(gnv_device_get_info(engine, 0, &info) == GNV_OK);
    CHECK(info.name[0] == '?');
    gnv_engine_destroy(engine);
}

TEST_CASE("names of several devices: how they are spelled, and how many there are") {
    const auto engine = make_engine();
    uint64_t count = 0;
    int32_t found[2] = {-1, -1};
    gnv_precision precision = GNV_PRECISION_BF16;
    REQUIRE(gnv_device_find_all(engine.get(), "cpu", nullptr, nullptr, 0, &count, nullptr) == GNV_OK);
    CHECK(count == 1);
    REQUIRE(gnv_device_find_all(engine.get(), "cpu", nullptr, found, 2, &count, &precision) == GNV_OK);
    CHECK(count == 1);
    CHECK(found[0] == 0);
    CHECK(found[1] == -1);
    CHECK(precision == GNV_PRECISION_FP32);
    for (const char * const name : {"cuda:", "cuda:1,", "cuda:,1", "cuda:0,,1", "cuda:0, 1", "cuda:-1", "cuda:0-1",
                                    "cuda:All", "cuda:0,all", "cpu,cuda", "cuda,cuda:1", "auto,cpu", ""}) {
        CAPTURE(name);
        CHECK(gnv_device_find_all(engine.get(), name, nullptr, found, 2, &count, nullptr) == GNV_INVALID_ARGUMENT);
        CHECK(error_has(engine.get(), "use auto, cpu, cuda or cuda:N, for several cuda:N,M or cuda:all"));
    }
    CHECK(gnv_device_find_all(engine.get(), "cuda:0,1000", nullptr, nullptr, 0, &count, nullptr) == GNV_NOT_FOUND);
    CHECK(gnv_device_find_all(engine.get(), "cuda:99999999999999999999", nullptr, nullptr, 0, &count, nullptr) ==
          GNV_NOT_FOUND);
    CHECK(gnv_device_find_all(engine.get(), "cpu", nullptr, nullptr, 1, &count, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_find_all(engine.get(), "cpu", nullptr, nullptr, 0, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_find_all(engine.get(), nullptr, nullptr, nullptr, 0, &count, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_find_all(nullptr, "cpu", nullptr, nullptr, 0, &count, nullptr) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("an engine takes the instruction sets that the processor has") {
    const char * const names[] = {"", "portable", "avx2", "avx512"};
    int best = 0;
    for (int set = 1; set <= 3; set++)
        if (std::string(names[set]) == gnv_cpu_kernels()) best = set;
    REQUIRE(best > 0);
    for (int set = -1; set <= 4; set++) {
        gnv_engine_options options;
        gnv_engine_options_init(&options);
        options.instructions = gnv_instructions(set);
        gnv_engine_t * engine = nullptr;
        const gnv_status status = gnv_engine_create(&options, &engine);
        CHECK(status == (set < 0 || set > 3 ? GNV_INVALID_ARGUMENT : set > best ? GNV_UNSUPPORTED : GNV_OK));
        if (status != GNV_OK) continue;
        gnv_device_info info = {};
        info.struct_size = sizeof info;
        REQUIRE(gnv_device_get_info(engine, 0, &info) == GNV_OK);
        CHECK(std::string(info.name) == std::string("CPU (") + names[set == 0 ? best : set] + ")");
        gnv_engine_destroy(engine);
    }
}

TEST_CASE("a device that is not there is refused by every call that takes one") {
    const auto engine = make_engine();
    int32_t count = 0;
    REQUIRE(gnv_device_count(engine.get(), &count) == GNV_OK);
    gnv_plan_options plan_options;
    gnv_plan_options_init(&plan_options);
    gnv_plan_t * plan_handle = nullptr;
    REQUIRE(gnv_plan_create(engine.get(), tiny_folder.c_str(), &plan_options, &plan_handle) == GNV_OK);
    const Handle<gnv_plan_t> plan(plan_handle);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine.get(), tiny_folder.c_str(), &tokenizer) == GNV_OK);
    const std::string tokens = golden_folder + "/reference-tokens.json";
    gnv_dataset_options dataset_options;
    gnv_dataset_options_init(&dataset_options);
    dataset_options.tokens_file = tokens.c_str();
    gnv_dataset_t * dataset = nullptr;
    REQUIRE(gnv_dataset_open(engine.get(), tokenizer, &dataset_options, &dataset) == GNV_OK);

    gnv_quantize_options quantize;
    gnv_quantize_options_init(&quantize);
    CHECK(gnv_plan_add_calibration(plan.get(), &quantize) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "the data set is missing"));
    CHECK(gnv_plan_add_calibration(nullptr, &quantize) == GNV_INVALID_ARGUMENT);
    quantize.dataset = dataset;
    quantize.precision = GNV_PRECISION_BF16;
    gnv_verify_options verify;
    gnv_verify_options_init(&verify);
    gnv_model_options open;
    gnv_model_options_init(&open);
    open.precision = GNV_PRECISION_BF16;

    const ScratchFolder scratch;
    const std::string destination = scratch / "out";
    const auto refused = [&](gnv_status status, int32_t device) {
        CAPTURE(gnv_last_error(engine.get()));
        CHECK(error_has(engine.get(), device < 0 ? "device -1 does not exist" : "CUDA device"));
        return device < 0 ? status == GNV_INVALID_ARGUMENT : status == GNV_NOT_FOUND || status == GNV_UNSUPPORTED;
    };
    for (const int32_t device : {-1, count}) {
        CAPTURE(device);
        quantize.device = verify.device = open.device = device;
        CHECK(refused(gnv_plan_add_calibration(plan.get(), &quantize), device));
        CHECK(refused(gnv_quantize(plan.get(), destination.c_str(), &quantize, nullptr), device));
        CHECK_FALSE(gnv::path_exists(destination + ".partial"));
        gnv_report_t * report = reinterpret_cast<gnv_report_t *>(1);
        CHECK(refused(gnv_verify(engine.get(), tiny_folder.c_str(), tiny_folder.c_str(), &verify, &report), device));
        CHECK(report == nullptr);
        gnv_model_t * model = reinterpret_cast<gnv_model_t *>(1);
        CHECK(refused(gnv_model_open(engine.get(), tiny_folder.c_str(), &open, &model), device));
        CHECK(model == nullptr);
    }
    // Lists: a device that is not there, the CPU beside itself, no list.
    quantize.device = 0;
    const int32_t absent[] = {count, 0}, twice[] = {0, 0};
    quantize.device_count = 2;
    quantize.devices = absent;
    CHECK(refused(gnv_plan_add_calibration(plan.get(), &quantize), count));
    quantize.devices = twice;
    CHECK(gnv_plan_add_calibration(plan.get(), &quantize) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "the CPU computes alone"));
    quantize.devices = nullptr;
    CHECK(gnv_quantize(plan.get(), destination.c_str(), &quantize, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "gnv_quantize_options.devices is NULL, with 2 entries"));
    gnv_text_t * text = nullptr; // nothing of what was refused is in the plan
    REQUIRE(gnv_plan_text(plan.get(), GNV_TEXT_PLAIN, &text) == GNV_OK);
    CHECK(std::string(gnv_text_data(text)).find("forward pass") == std::string::npos);
    gnv_text_destroy(text);
    gnv_dataset_destroy(dataset);
    gnv_tokenizer_destroy(tokenizer);
}

TEST_CASE("a machine with NVIDIA's driver is told by its files") {
    const ScratchFolder machine;
    CHECK(gnv::find_nvidia_driver(machine.path()) == "");
    REQUIRE(gnv::make_directory(machine / "dev").ok());
    machine.save("dev/nvidiactl", "");
    CHECK(gnv::find_nvidia_driver(machine.path()) == "/dev/nvidiactl");
}
