// verify reads whatever size a checkpoint has through buffers of its own: neither a file nor a tensor is ever in memory.
#include "faults/small_model.h"
#include "memory_growth.h"

#include <doctest/doctest.h>
#include <ggml-nvfp4.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("verify with values, source and checksums: less memory than one tensor") {
    const ScratchFolder scratch;
    const std::string source = scratch / "source", result = scratch / "result";
    nlohmann::ordered_json config = nlohmann::ordered_json::parse(small_config);
    config["text_config"]["hidden_size"] = 512;
    config["text_config"]["vocab_size"] = 1 << 16; // 67 MB each: embedding and output
    config["text_config"]["moe_intermediate_size"] = 4096;
    SyntheticOptions options;
    options.threads = 2;
    REQUIRE(write_synthetic_checkpoint(config.dump(), source, options).ok());
    REQUIRE(write_file_synced(source + "/tokenizer.json", "{}").ok());
    REQUIRE(write_file_synced(source + "/tokenizer_config.json", "{\"chat_template\": \"\"}").ok());

    gnv_engine_t * engine = nullptr;
    gnv_plan_t * plan = nullptr;
    gnv_plan_options plan_options;
    gnv_plan_options_init(&plan_options);
    plan_options.scheme = GNV_SCHEME_NVFP4A16;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    REQUIRE(gnv_plan_create(engine, source.c_str(), &plan_options, &plan) == GNV_OK);
    REQUIRE(gnv_quantize(plan, result.c_str(), nullptr, nullptr) == GNV_OK);
    gnv_plan_destroy(plan);
    gnv_engine_destroy(engine);

    check_memory_growth(48 << 20, [&] {
        gnv_engine_options engine_options;
        gnv_engine_options_init(&engine_options);
        engine_options.threads = 4;
        gnv_engine_t * own = nullptr;
        if (gnv_engine_create(&engine_options, &own) != GNV_OK) return false;
        bool good = true;
        for (const int32_t no_checksums : {0, 1}) {
            gnv_verify_options verify_options;
            gnv_verify_options_init(&verify_options);
            verify_options.no_checksums = no_checksums;
            gnv_report_t * report = nullptr;
            gnv_text_t * text = nullptr;
            gnv_report_info info = {};
            info.struct_size = sizeof info;
            good = good && gnv_verify(own, result.c_str(), source.c_str(), &verify_options, &report) == GNV_OK &&
                   gnv_report_get_info(report, &info) == GNV_OK && info.errors == 0 && info.checks_skipped == 1 &&
                   gnv_report_text(report, GNV_TEXT_JSON, &text) == GNV_OK;
            gnv_text_destroy(text);
            gnv_report_destroy(report);
        }
        gnv_engine_destroy(own);
        return good;
    });
}
