// Calibration of other shapes of models: dense, other ratios of heads, experts one by one.
#include "e2e/calibrated_fixture.h"
#include "faults/small_model.h"

#include <cmath>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

// Six query heads on two key heads, three value heads to a key head, an odd number of experts, text only.
const char * const other_heads = R"({
  "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "hidden_size": 96, "vocab_size": 3000,
  "num_hidden_layers": 3, "layer_types": ["full_attention", "linear_attention", "linear_attention"],
  "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32,
  "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 32, "linear_value_head_dim": 16,
  "linear_conv_kernel_dim": 4, "num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 48,
  "shared_expert_intermediate_size": 80, "max_position_embeddings": 4096,
  "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25,
                      "mrope_section": [2, 1, 1]}
}
)";
const char * const dense = R"({
  "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "tie_word_embeddings": true,
  "text_config": {
    "model_type": "qwen3_5_text", "hidden_size": 128, "vocab_size": 4096, "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"], "intermediate_size": 224,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "tie_word_embeddings": true,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4, "max_position_embeddings": 4096, "mtp_num_hidden_layers": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25,
                        "mrope_section": [2, 1, 1]}
  }
}
)";

struct ModelShape {
    const char * name;
    const char * config;
    LayoutChoice layout;
    int32_t vocabulary;
    size_t modules;     // quantized
    size_t substituted; // input scales
};

void check_verified(const std::string & checkpoint, const std::string & source) {
    const Handle<gnv_engine_t> engine = make_engine();
    gnv_verify_options options;
    gnv_verify_options_init(&options);
    gnv_report_t * report = nullptr;
    REQUIRE(gnv_verify(engine.get(), checkpoint.c_str(), source.c_str(), &options, &report) == GNV_OK);
    const Handle<gnv_report_t> owner(report);
    auto info = make_info<gnv_report_info>();
    REQUIRE(gnv_report_get_info(report, &info) == GNV_OK);
    gnv_text_t * text = nullptr;
    REQUIRE(gnv_report_text(report, GNV_TEXT_PLAIN, &text) == GNV_OK);
    const Handle<gnv_text_t> text_owner(text);
    CHECK_MESSAGE(info.errors == 0, gnv_text_data(text));
    CHECK(info.checks_skipped == 1); // hashes, which were not asked for
}

} // namespace

TEST_CASE("dense, other ratios of heads, fused and per-expert tensors: calibrated and verified") {
    LayoutChoice fused, split, text_only;
    split.fused_experts = split.fused_mtp_experts = false;
    text_only.nested_prefix = text_only.with_vision = text_only.with_mtp = false;
    const ScratchFolder scratch;
    for (const ModelShape & shape : {ModelShape{"dense", dense, fused, 4000, 3 * 3 + 4, 0},
                                     ModelShape{"heads", other_heads, text_only, 3000, 3 * (3 * 5 + 3) + 4, 0},
                                     ModelShape{"fused", small_config, fused, 4000, 2 * (3 * 4 + 3) + 4, 0},
                                     ModelShape{"split", small_config, split, 4000, 2 * (3 * 4 + 3) + 4, 0}}) {
        const std::string name = shape.name;
        CAPTURE(name);
        SyntheticOptions options;
        options.layout = shape.layout;
        options.shards = 2;
        CalibratedRun run;
        run.source = scratch / shape.name;
        const auto made = write_synthetic_checkpoint(shape.config, run.source, options);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        for (const char * file : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                  "generation_config.json", "preprocessor_config.json"})
            REQUIRE(copy_file_synced(join_path(tiny_folder, file), join_path(run.source, file)).ok());
        run.tokens = scratch.save("tokens.json", tokens_text(random_ids(5, 100, shape.vocabulary)));
        run.destination = scratch / (std::string(shape.name) + "-out");
        const RunResult result = quantize(run);
        require_good(result);
        const JsonDocument report = JsonDocument::parse(result.report, "report").take();
        CHECK(number_of(report, "quantized_modules") == int64_t(shape.modules));
        CHECK(number_of(report, "substituted_input_scales") == int64_t(shape.substituted));
        const auto scales = input_scales_of(run.destination);
        CHECK(scales.size() == shape.modules);
        std::set<float> different;
        for (const auto & [tensor, scale] : scales) {
            CAPTURE(tensor);
            CHECK(std::isfinite(scale));
            CHECK(scale > 0);
            CHECK(scale != 1);
            different.insert(scale);
        }
        CHECK(different.size() > 5);
        check_verified(run.destination, run.source);
    }
    // Experts hold the same values in both layouts.
    CHECK(input_scales_of(scratch / "fused-out") == input_scales_of(scratch / "split-out"));
}
