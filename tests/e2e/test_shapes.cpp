// The members of the family, dense and giant, by their config alone: calibration is planned within small budgets, without a
// weight being there.
#include "formats/json.h"
#include "quantize/calibrate.h"
#include "scratch.h"
#include "tools/synthetic_checkpoint.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Member {
    std::string config;
    uint64_t memory; // that calibration is planned in
    int64_t hidden;
    bool nested;
};

// The smallest budgets are those of the embedding, or of a mixer: not of a block, whose experts come one by one.
const Member shapes[] = {
    {"qwen36-27b", 4'000'000'000, 5120, true},
    {"qwen35-122b-a10b", 2'400'000'000, 3072, true},
    {"qwen35-397b-a17b", 3'200'000'000, 4096, true},
    {"qwen38-2.4t-a95b", 6'400'000'000, 8192, false},
};

std::string config_of(const Member & shape) {
    return read_file(concat(GNV_TEST_DATA "/configs/", shape.config, ".json"), 1 << 20).take();
}

// Two layers, one of each kind of mixer, with few experts and tokens, and the widths of the whole.
std::string slice_of(const Member & shape) {
    nlohmann::json config = nlohmann::json::parse(config_of(shape));
    nlohmann::json & text = shape.nested ? config["text_config"] : config;
    text["num_hidden_layers"] = 2;
    text["layer_types"] = {"linear_attention", "full_attention"};
    text["full_attention_interval"] = 2;
    text["vocab_size"] = 2000;
    if (text.contains("num_experts")) text["num_experts"] = 8;
    if (text.contains("num_experts_per_tok")) text["num_experts_per_tok"] = 2;
    return config.dump();
}

CalibrationData some_data() {
    CalibrationData data;
    for (int s = 0; s < 4; s++) {
        TextSequence & sequence = data.sequences.emplace_back();
        for (int t = 0; t < 256; t++) sequence.ids.push_back((s * 256 + t) * 7 % 1000);
    }
    data.positions = data.tokens = 4 * 256;
    data.json = "{}";
    return data;
}

} // namespace

TEST_CASE("every shape of the family is planned within a small budget, the state of the run included") {
    const auto threads = ThreadPool::create(2).take();
    const CalibrationData data = some_data();
    for (const Member & shape : shapes) {
        CAPTURE(shape.config);
        const ScratchFolder scratch;
        SyntheticOptions synthetic;
        synthetic.headers_only = true;
        synthetic.shards = 100;
        synthetic.layout.nested_prefix = shape.nested;
        const std::string config = config_of(shape);
        REQUIRE(write_synthetic_checkpoint(config, scratch / "source", synthetic).ok());
        QuantizeOptions options;
        options.resume = Resume::on;
        options.scratch_folder = scratch.path();
        PlanOptions plan_options;
        plan_options.recipe.scheme = &formats::nvfp4;
        plan_options.threads = 2;
        plan_options.buffer_share = calibrating_buffer_share;
        plan_options.ram_bytes = shape.memory;
        Plan plan = make_plan(scratch / "source", plan_options).take();
        const Status planned = Calibration::describe(plan, *threads, data, options);
        REQUIRE_MESSAGE(planned.ok(), planned.message());
        const JsonDocument json = JsonDocument::parse(plan.calibration_json, "plan").take();
        const auto number = [&](const JsonValue & of, const char * key) {
            return of.get(key).value().as_int().value();
        };
        const JsonValue host = json.root().get("host").value();
        CHECK(number(host, "total") <= number(host, "budget"));
        CHECK(uint64_t(number(host, "budget")) <= shape.memory);
        CHECK(number(json.root(), "positions") == 4 * 256);
        const int64_t rows = 4 * 256 * shape.hidden * 4, state = number(json.root(), "state_bytes");
        CHECK(state >= 2 * rows);
        CHECK(state < 2 * rows + (8 << 20)); // statistics
    }
}

// Gigabytes of weights: with --no-skip.
TEST_CASE("a slice of every shape is calibrated, and goes on after a stop" * doctest::skip()) {
    const auto threads = ThreadPool::create(2).take();
    CalibrationData data = some_data();
    data.sequences.resize(1);
    data.sequences[0].ids.resize(32);
    data.positions = data.tokens = 32;
    for (const Member & shape : shapes) {
        CAPTURE(shape.config);
        const ScratchFolder scratch;
        SyntheticOptions synthetic;
        synthetic.layout.nested_prefix = shape.nested;
        synthetic.layout.with_mtp = synthetic.layout.with_vision = false;
        synthetic.threads = 2;
        REQUIRE(write_synthetic_checkpoint(slice_of(shape), scratch / "source", synthetic).ok());
        PlanOptions plan_options;
        plan_options.recipe.scheme = &formats::nvfp4;
        plan_options.threads = 2;
        const Plan plan = make_plan(scratch / "source", plan_options).take();
        QuantizeOptions options;
        options.calibration = &data;
        options.resume = Resume::each_layer;
        options.destination = scratch / "out";
        options.progress = [](const QuantizeProgress & now) {
            return now.positions_total == 0 || now.positions <= now.positions_total * 2 / 3; // in the second layer
        };
        const Status stopped = quantize(plan, *threads, options).take_status();
        CHECK_MESSAGE(stopped.code() == Code::cancelled, stopped.message());
        options.progress = {};
        const Result<QuantizeReport> done = quantize(plan, *threads, options);
        REQUIRE_MESSAGE(done.ok(), done.status().message());
        CHECK(done.value().resumed_layers == 1);
        MESSAGE(shape.config, ": ", done.value().bytes_written, " bytes in ", done.value().total_wall, " s");
    }
}
