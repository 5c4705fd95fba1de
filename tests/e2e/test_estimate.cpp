// What a run will take: its operations against those that it did, the arithmetic of an estimate, and who asks for one.
#include "e2e/calibrated_fixture.h"
#include "quantize/calibrate.h"
#include "quantize/estimate_run.h"
#include "scratch.h"
#include "tools/synthetic_checkpoint.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Planned {
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    Plan plan;
    CalibrationData data;
    QuantizeOptions options;
    ScratchFolder scratch;

    // Sequences of several lengths, so that batches have several shapes.
    explicit Planned(const std::vector<int64_t> & lengths, const std::string & folder = tiny_folder)
        : plan(make_plan(folder, {}).take()) {
        for (const int64_t length : lengths) {
            TextSequence text;
            for (int64_t i = 0; i < length; i++) text.ids.push_back(int32_t(5 + (i * 7 + length) % 900));
            data.positions += uint64_t(length);
            data.sequences.push_back(std::move(text));
        }
        data.tokens = data.positions;
        data.json = "{}";
        options.calibration = &data;
        options.destination = scratch / "out";
        options.estimate = EstimateOptions();
    }
};

} // namespace

TEST_CASE("the operations of a plan are those of its run, op by op") {
    for (const ExpertTokens tokens : {ExpertTokens::all, ExpertTokens::routed}) {
        Planned it({2048, 1500, 700, 33, 2000});
        it.options.expert_tokens = tokens;
        const FolderFiles shards = it.plan.checkpoint.open_shards().take();
        const auto calibration = Calibration::create(it.plan, shards, *it.threads, it.data, it.options).take();
        const WorkByOp planned = calibration->pass().operations().take();
        it.options.estimate.reset();
        const QuantizeReport report = quantize(it.plan, *it.threads, it.options).take();
        size_t compared = 0;
        for (const Phase & phase : report.phases) {
            if (phase.lane != "compute" || phase.name == "idle" || phase.name == "upload" || phase.name == "download")
                continue;
            CAPTURE(phase.name);
            REQUIRE(planned.count(phase.name) == 1);
            CHECK(planned.at(phase.name).flops == doctest::Approx(phase.work.flops).epsilon(1e-12));
            CHECK(planned.at(phase.name).bytes == doctest::Approx(phase.work.bytes).epsilon(1e-12));
            compared++;
        }
        CHECK(compared == planned.size());
        CHECK(compared >= 15);
    }
}

TEST_CASE("an estimate is the plan's work over the rates of a machine") {
    MachineRates rates;
    rates.seconds_per_unit = {{"linear", 1e-9}, {"silu_mul", 1e-8}, {"grouped_linear", 1e-9}};
    rates.flops = 5e8, rates.bytes = 2e8;
    rates.read = 1e8, rates.pack = 2e8, rates.write = 4e8, rates.disk = 1e7, rates.hash = 1e8;
    RunWork work;
    work.ops = {{"linear", {2e9, 1e9}},
                {"silu_mul", {0, 1e8}},
                {"attention", {1e9, 5}},
                {"rope", {0, 2e8}},
                {"grouped_linear", {4e9, 0}}};
    work.slots_in_use = 0.25;
    work.read_bytes = 1'000'000'000, work.weight_bytes = 800'000'000, work.write_bytes = 400'000'000;
    Estimate e = make_estimate(work, rates, 2);
    CHECK(e.pass == doctest::Approx(2 + 1 + 2 + 1 + 1));
    CHECK(e.read == doctest::Approx(10));
    CHECK(e.pack == doctest::Approx(4));
    CHECK(e.write == doctest::Approx(1));
    CHECK(e.disk == doctest::Approx(40 - 22)); // the rest of the run gives the disk time
    CHECK(e.total == doctest::Approx(7 + 10 + 4 + 1 + 18));
    work.reads_beside = true; // hidden by the forward pass, as far as it lasts
    CHECK(make_estimate(work, rates, 2).total == doctest::Approx(7 + 3 + 4 + 1 + (40 - 15)));
    // A device computes while the host reads and writes: the longest counts.
    rates.has_device = true;
    rates.upload = 1e9;
    work.upload_bytes = 2'000'000'000;
    rates.disk = 0;
    CHECK(make_estimate(work, rates, 2).total == doctest::Approx(11));
    // The card's hashes follow the files, which are made one after the other in the 11 seconds; a thread hashes one.
    work.hash_bytes = 400'000'000, work.last_file = 300'000'000;
    CHECK(make_estimate(work, rates, 2).finish == 0);
    rates.hash = 2e7;
    CHECK(make_estimate(work, rates, 2).finish == doctest::Approx(15 - 11 * 0.75));
    CHECK(make_estimate(work, rates, 1).finish == doctest::Approx(20 - 11));
    CHECK(make_estimate(work, rates, 1).total == doctest::Approx(20));
    // A file system in memory makes the room for the result beside the rest, 11 seconds.
    rates.hash = 1e8;
    rates.reserve = 1e9;
    CHECK(make_estimate(work, rates, 2).room == doctest::Approx(double(work.write_bytes) / 1e9));
    CHECK(make_estimate(work, rates, 2).total == doctest::Approx(11));
    rates.reserve = 1e7;
    CHECK(make_estimate(work, rates, 2).total == doctest::Approx(40));
    rates.reserve = 0;
    // A device that was measured for a moment is slower in the long run.
    RunWork twice = work;
    for (auto & [name, done] : twice.ops) done.flops *= 100, done.bytes *= 100;
    rates.is_measured = false;
    const double by_records = make_estimate(twice, rates, 2).pass;
    REQUIRE(by_records > 10);
    rates.is_measured = true;
    CHECK(make_estimate(twice, rates, 2).pass == doctest::Approx(10 + 1.2 * (by_records - 10)));
    work.searches = true;
    CHECK_FALSE(make_estimate(work, rates, 2).knows_pack);

    e.price = 2.5;
    e.total = 7200;
    CHECK(e.cost() == doctest::Approx(5));
    e.actual = 6000;
    CHECK(e.error() == doctest::Approx(0.2));
    CHECK(estimate_error_text(e) == "estimated 2 h 00 min, took 1 h 40 min (+20 %); $4.17 at $2.5 an hour");
    CHECK(estimate_text(e).find("cost: $5.00 at $2.5 an hour") != std::string::npos);
}

TEST_CASE("an estimate is measured here, or by records; a run says its error") {
    Planned it({300, 200});
    it.options.estimate->price = 3;
    const QuantizeReport report = quantize(it.plan, *it.threads, it.options).take();
    REQUIRE(report.estimate);
    CHECK(report.estimate->is_measured);
    CHECK(report.estimate->pass > 0);
    CHECK(report.estimate->read > 0);
    CHECK(report.estimate->pack > 0);
    CHECK(report.estimate->actual > 0);
    CHECK(report.estimate->disk_bytes >= it.plan.disk_bytes());
    CHECK(quantize_summary_text(it.plan, report).find("estimated ") != std::string::npos);
    const JsonDocument json = JsonDocument::parse(quantize_report_json(it.plan, report).take(), "report").take();
    JsonValue error, cost;
    REQUIRE(json.root().get("estimate").value().find("error", error));
    REQUIRE(json.root().get("estimate").value().find("cost", cost));
    CHECK(cost.text() != "null");

    it.options.estimate->assume = "h100";
    const Estimate assumed = estimate_run(it.plan, *it.threads, it.options).take();
    CHECK_FALSE(assumed.is_measured);
    CHECK(assumed.machine == "H100");
    CHECK(assumed.overlaps);
    it.options.estimate->assume = "abacus";
    const Status refused = estimate_run(it.plan, *it.threads, it.options).take_status();
    CHECK(refused.message() == "there are no recorded rates of abacus: give one of h100, h200");
}

// A block is then measured in part, and makes fields that the plan's groups keep to themselves.
TEST_CASE("experts that one product does not take at once are measured in their own memory") {
    const char * const config = R"({
      "architectures": ["Qwen3_5MoeForConditionalGeneration"],
      "model_type": "qwen3_5_moe",
      "text_config": {
        "model_type": "qwen3_5_moe_text", "hidden_size": 64, "vocab_size": 1024, "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 1024, "shared_expert_intermediate_size": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.5,
                            "mrope_section": [2, 1, 1]}
      }
    })";
    const ScratchFolder scratch;
    REQUIRE(write_synthetic_checkpoint(config, scratch / "wide", {}).ok());
    Planned it({300, 212}, scratch / "wide");
    const FolderFiles shards = it.plan.checkpoint.open_shards().take();
    const auto calibration = Calibration::create(it.plan, shards, *it.threads, it.data, it.options).take();
    REQUIRE(calibration->pass().plan().expert_tile < 4);
    const PassProbe probe = calibration->pass().probe(0.05).take();
    CHECK(probe.ops.at("expert_order").seconds > 0);
    CHECK(probe.ops.at(expert_product_label).work.flops > 0);
}

TEST_CASE("progress counts operations: blocks weigh alike, the embedding nothing") {
    Planned it({600, 400});
    it.options.estimate.reset();
    std::vector<std::pair<int64_t, double>> shares; // positions, share
    it.options.progress = [&](const QuantizeProgress & now) {
        if (now.positions_total > 0 && (shares.empty() || now.positions > shares.back().first))
            shares.emplace_back(now.positions, now.share);
        return true;
    };
    REQUIRE(quantize(it.plan, *it.threads, it.options).ok());
    REQUIRE(shares.size() >= 9);
    CHECK(shares.back().second == 1);
    for (size_t i = 1; i < shares.size(); i++) CHECK(shares[i].second >= shares[i - 1].second);
    for (const auto & [positions, share] : shares) {
        const double blocks = double(positions) / 1000 - 1; // behind the embedding
        if (blocks <= 0) CHECK(share < 0.01);
        if (blocks > 0) CHECK(share == doctest::Approx(blocks / 8).epsilon(0.2));
    }
}

TEST_CASE("C API: gnv_plan_add_estimate") {
    const Handle<gnv_engine_t> engine = make_engine(2);
    gnv_plan_options plan_options;
    gnv_plan_options_init(&plan_options);
    plan_options.scheme = GNV_SCHEME_NVFP4A16;
    gnv_plan_t * handle = nullptr;
    REQUIRE(gnv_plan_create(engine.get(), tiny_folder.c_str(), &plan_options, &handle) == GNV_OK);
    const Handle<gnv_plan_t> plan(handle);
    gnv_estimate_options how;
    gnv_estimate_options_init(&how);
    how.price = 2;
    const ScratchFolder scratch;
    const std::string folder = scratch / ".";
    how.folder = folder.c_str();
    gnv_estimate estimate = {};
    estimate.struct_size = sizeof estimate;
    REQUIRE(gnv_plan_add_estimate(plan.get(), nullptr, &how, &estimate) == GNV_OK);
    CHECK(estimate.forward_pass == 0);
    CHECK(estimate.total > 0);
    CHECK(estimate.cost == doctest::Approx(estimate.total / 1800));
    CHECK(estimate.is_complete == 1);
    gnv_text_t * text = nullptr;
    REQUIRE(gnv_plan_text(plan.get(), GNV_TEXT_PLAIN, &text) == GNV_OK);
    CHECK(std::string(gnv_text_data(text)).find("time on this machine") != std::string::npos);
    gnv_text_destroy(text);
    how.price = -1;
    CHECK(gnv_plan_add_estimate(plan.get(), nullptr, &how, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_plan_add_estimate(nullptr, nullptr, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
}
