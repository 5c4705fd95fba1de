// The same report however it is computed; saved logits; checkpoints that cannot give every line; what is refused.
#include "evaluate/evaluate_fixture.h"
#include "evaluate/logits_file.h"
#include "forward/deferred_device.h"

using namespace gnv;
using namespace gnv::test;
using namespace gnv::evaluate;

namespace {

std::string all_reports(const Evaluation & evaluation) {
    return evaluation_text(evaluation) + evaluation_json(evaluation) + evaluation_markdown(evaluation);
}

EvaluateOptions every_line() {
    EvaluateOptions options;
    options.lines[size_t(Line::bf16)] = true;
    return options;
}

} // namespace

TEST_CASE("the same bytes for any threads, batches, memory and place of hidden states") {
    const EvaluationData data = read_data(3, 100);
    const std::string expected = all_reports(evaluate_reference(data, every_line()));
    const auto one = ThreadPool::create(1).take(), three = ThreadPool::create(3).take();
    EvaluateOptions options = every_line();
    options.batch_positions = 1; // a document each
    CHECK(all_reports(evaluate_reference(data, options, *three)) == expected);
    const ScratchFolder scratch;
    options = every_line();
    options.scratch_folder = scratch.path();
    // The smallest sufficient budget, as the refusal says it: experts in parts, states on disk.
    options.ram_bytes = 6'000'000;
    Result<Evaluation> refused = evaluate::evaluate(open_folder(untripped_pair().quantized).take(),
                                                    open_folder(tiny).take(), data, *one, options);
    REQUIRE(refused.status().code() == Code::out_of_memory);
    options.ram_bytes = 13'000'000;
    CHECK(all_reports(evaluate_reference(data, options, *one)) == expected);
}

TEST_CASE("several devices: the report of one, sensitivity included") {
    const EvaluationData data = read_data(3, 64);
    EvaluateOptions options = every_line();
    options.sensitivity_ranges = 1;
    const std::string cpu = all_reports(evaluate_reference(data, options));
    options.open_device = open_deferred(0);
    const std::string one = all_reports(evaluate_reference(data, options));
    options.more_devices = {open_deferred(1), open_deferred(2)};
    CHECK(all_reports(evaluate_reference(data, options)) == one);
    CHECK(one.find("deferred device") != std::string::npos);
    CHECK(one != cpu); // by the device's name
    options.more_devices = {open_deferred(0)};
    const Result<Evaluation> twice =
        gnv::evaluate::evaluate(open_folder(tiny).take(), open_folder(tiny).take(), data, two_threads(), options);
    CHECK(twice.status().message() == "deferred device (cuda:0) is named twice");
}

TEST_CASE("the noise floor: BF16 arithmetic is nearer than anything quantized") {
    const Evaluation found = evaluate_reference(read_data(2, 128), every_line());
    REQUIRE(found.lines.size() == 4);
    CHECK(found.find(Line::bf16)->all.divergence.mean > 0);
    CHECK(found.find(Line::bf16)->all.divergence.mean < 0.05 * found.find(Line::w4a16)->all.divergence.mean);
    CHECK(found.find(Line::bf16)->layers[7].sqnr_db() > 25);
}

TEST_CASE("one input scale for a layer's experts is another result") {
    const EvaluationData data = read_data(2, 128);
    EvaluateOptions options;
    const Evaluation apart = evaluate_reference(data, options);
    options.share_expert_scale = true;
    const Evaluation shared = evaluate_reference(data, options);
    CHECK(shared.find(Line::w4a16)->all.divergence.mean == apart.find(Line::w4a16)->all.divergence.mean);
    CHECK(shared.find(Line::w4a4)->all.divergence.mean != apart.find(Line::w4a4)->all.divergence.mean);
    for (const InputFigures & figures : shared.inputs.roles) CHECK(figures.spread == 1);
    // The least scale of all experts is the one that clips least.
    for (size_t i = 0; i < shared.inputs.roles.size(); i++)
        CHECK(shared.inputs.roles[i].clipped <= apart.inputs.roles[i].clipped);
}

TEST_CASE("saved logits stand for the source") {
    const ScratchFolder scratch;
    const EvaluationData data = read_data(3, 200);
    EvaluateOptions options;
    options.save_logits = scratch / "source.logits";
    const Evaluation with_source = evaluate_reference(data, options);
    CHECK(evaluate::evaluate(open_folder(untripped_pair().quantized).take(), open_folder(tiny).take(), data,
                             two_threads(), options)
              .status()
              .code() == Code::already_exists);
    options.logits = options.save_logits;
    options.save_logits.clear();
    const Evaluation with_file = evaluate_reference(data, options);
    REQUIRE(with_file.lines.size() == 3);
    for (const LineReport & line : with_file.lines) {
        const Figures &a = with_source.find(line.line)->all, &b = line.all;
        CHECK(std::abs(a.divergence.mean - b.divergence.mean) < 1e-5);
        CHECK(a.same_top.mean == b.same_top.mean);
        CHECK(a.nll.mean == b.nll.mean);
        CHECK(a.source_nll.mean == b.source_nll.mean);
        CHECK(line.layers.empty());
    }
    CHECK(with_file.source_fingerprint == with_source.source_fingerprint);

    // Without the source's folder: what takes its weights is left out.
    Result<Evaluation> alone =
        evaluate::evaluate(open_folder(untripped_pair().quantized).take(), nullptr, data, two_threads(), options);
    REQUIRE(alone.ok());
    CHECK(alone.value().lines.size() == 2);
    CHECK(alone.value().find(Line::w4a4)->all.divergence.mean == with_file.find(Line::w4a4)->all.divergence.mean);
    REQUIRE(alone.value().notes.size() == 1);
    CHECK(starts_with(alone.value().notes[0], "activations only is left out"));

    const auto refusal = [&](const EvaluationData & other) -> std::string {
        return evaluate::evaluate(open_folder(untripped_pair().quantized).take(), nullptr, other, two_threads(),
                                  options)
            .status()
            .message();
    };
    CHECK(refusal(read_data(3, 100)).find("another text") != std::string::npos);
    const std::string content = read_file(options.logits, 1 << 30).take();
    const auto damage = [&](std::string changed, const char * expected) {
        options.logits = scratch / "damaged.logits";
        REQUIRE(write_file_synced(options.logits, changed).ok());
        const std::string message = refusal(data);
        CAPTURE(message);
        CHECK(message.find(expected) != std::string::npos);
        REQUIRE(remove_file(options.logits).ok());
    };
    damage(std::string(8, '\0') + content.substr(8), "is no complete file of logits");
    damage(content.substr(0, content.size() - 1), "it is not as long as its header says");
    std::string changed = content;
    changed[content.size() / 2] ^= 1;
    damage(changed, "is not as written");
}

TEST_CASE("weights only: the line that there is") {
    const Evaluation found =
        evaluate_folder(open_folder(fused_pair().quantized).take(), read_data(2, 64), EvaluateOptions());
    REQUIRE(found.lines.size() == 1);
    CHECK(found.lines[0].line == Line::w4a16);
    CHECK(found.notes.size() == 2);
    CHECK(found.inputs.roles.empty());
    EvaluateOptions options;
    options.lines[size_t(Line::w4a16)] = false;
    const EvaluationData data = read_data(2, 64);
    Result<Evaluation> none = evaluate::evaluate(open_folder(fused_pair().quantized).take(), open_folder(tiny).take(),
                                                 data, two_threads(), options);
    CHECK(none.status().message() == "no line is left to compare");
}

TEST_CASE("another model is refused") {
    const EvaluationData data = read_data(1, 16);
    const Result<Evaluation> result = evaluate::evaluate(
        open_folder(odd_pair().quantized).take(), open_folder(tiny).take(), data, two_threads(), EvaluateOptions());
    CHECK(result.status().code() == Code::model);
    CHECK(result.status().message().find("different models") != std::string::npos);
}

TEST_CASE("the source against itself: no distance") {
    const Evaluation found = evaluate_folder(open_folder(tiny).take(), read_data(2, 64), EvaluateOptions());
    REQUIRE(found.lines.size() == 1);
    const LineReport & line = found.lines[0];
    CHECK(line.all.divergence_at[percentile_count - 1] < 1e-14);
    CHECK(line.all.same_top.mean == 1);
    CHECK(line.all.log_ratio.mean == 0);
    CHECK(line.layers[7].noise == 0);
    CHECK(worst_layer(line.layers) == -1);
}

// The oracle of a mixture is a checkpoint whose recipe kept the modules.
TEST_CASE("sensitivity: each group's row is the distance of a checkpoint that keeps it") {
    const ScratchFolder scratch;
    const EvaluationData data = read_data(3, 48);
    const auto make = [&](const char * name, const std::vector<std::string> & keep) {
        PlanOptions planned;
        planned.recipe.scheme = &formats::nvfp4a16;
        planned.recipe.keep = keep;
        Result<Plan> made = make_plan(tiny, planned);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        const Plan plan = made.take();
        QuantizeOptions run;
        run.destination = scratch / name;
        REQUIRE(quantize(plan, two_threads(), run).ok());
        return plan.output.tensor_bytes();
    };
    EvaluateOptions options;
    const uint64_t bytes = make("all", {});
    options.sensitivity_ranges = 1;
    const Evaluation found = evaluate_folder(open_folder(scratch / "all").take(), data, options);
    const Sensitivity & sensitivity = found.sensitivity;
    CHECK(sensitivity.line == Line::w4a16);
    CHECK(sensitivity.bytes == bytes);
    CHECK(sensitivity.divergence.mean == found.lines[0].all.divergence.mean);
    REQUIRE(sensitivity.rows.size() == 3);
    uint64_t modules = 0;
    for (const SensitivityRow & row : sensitivity.rows) {
        modules += row.modules;
        CHECK(row.saved.mean == doctest::Approx(sensitivity.divergence.mean - row.divergence.mean));
    }
    CHECK(modules == 800);
    options.sensitivity_ranges = 0;
    const std::pair<const char *, const char *> kept[] = {{"attention", ".*self_attn.*"},
                                                          {"routed experts", ".*mlp[.]experts.*"},
                                                          {"shared expert", ".*shared_expert[.].*"}};
    for (size_t i = 0; i < 3; i++) {
        const SensitivityRow & row = sensitivity.rows[i];
        CAPTURE(row.kind);
        CHECK(row.kind == kept[i].first);
        CHECK(row.first_layer >= 0);
        const std::string name = concat("kept", i);
        const uint64_t more = make(name.c_str(), {kept[i].second});
        const Evaluation expected = evaluate_folder(open_folder(scratch / name).take(), data, options);
        CHECK(row.divergence.mean == expected.lines[0].all.divergence.mean);
        CHECK(row.bytes_added == more - bytes);
    }
}

TEST_CASE("sensitivity: ranges of layers, inputs in four bits, and what it needs") {
    const EvaluationData data = read_data(2, 32);
    EvaluateOptions options;
    options.sensitivity_ranges = 2;
    const Evaluation found = evaluate_reference(data, options);
    CHECK(found.sensitivity.line == Line::w4a4);
    REQUIRE(found.sensitivity.rows.size() == 6);
    for (size_t i = 0; i < 6; i += 2) {
        CHECK(found.sensitivity.rows[i].kind == found.sensitivity.rows[i + 1].kind);
        CHECK(found.sensitivity.rows[i].last_layer < found.sensitivity.rows[i + 1].first_layer);
    }
    CHECK(evaluation_text(found).find("KL saved") != std::string::npos);
    const Json json = Json::parse(evaluation_json(found));
    CHECK(json["sensitivity"]["groups"].size() == 6);
    CHECK(json["sensitivity"]["line"] == "w4a4");
    const Result<Evaluation> without =
        evaluate::evaluate(open_folder(untripped_pair().quantized).take(), nullptr, data, two_threads(), options);
    CHECK(without.status().code() == Code::invalid_argument);
    CHECK(without.status().message().find("the source") != std::string::npos);
}

TEST_CASE("gates: limits, and a baseline that is about something else") {
    const ScratchFolder scratch;
    const EvaluationData data = read_data(4, 64);
    EvaluateOptions options;
    options.gates = {1.0, 0.5, 1.5, 1e6, ""};
    const Evaluation found = evaluate_reference(data, options);
    CHECK(found.gates.size() == 4);
    CHECK(found.failed_gates() == 0);
    options.gates = {0.001, 0.999, 1.0001, 0.5, ""};
    CHECK(evaluate_reference(data, options).failed_gates() == 4);

    REQUIRE(write_file_synced(scratch / "found.json", evaluation_json(found)).ok());
    options.gates = {};
    options.gates.baseline = scratch / "found.json";
    CHECK(evaluate_reference(data, options).failed_gates() == 0);
    const auto refusal = [&](const EvaluationData & other) -> std::string {
        return evaluate::evaluate(open_folder(untripped_pair().quantized).take(), open_folder(tiny).take(), other,
                                  two_threads(), options)
            .status()
            .message();
    };
    CHECK(refusal(read_data(3, 64)).find("is about other data") != std::string::npos);
    options.precision = Precision::bf16;
    CHECK(refusal(data).find("another precision") != std::string::npos);
    options.precision = Precision::f32;

    // Three times nearer than the baseline, or better than the source: nobody believes it.
    Json report = Json::parse(evaluation_json(found));
    for (Json & window : report["lines"]["w4a4"]["windows"]) window["kl"] = 3 * window["kl"].get<double>();
    REQUIRE(write_file_synced(scratch / "worse.json", report.dump()).ok());
    options.gates.baseline = scratch / "worse.json";
    const Evaluation doubtful = evaluate_reference(data, options);
    REQUIRE(doubtful.gates.size() == 3);
    CHECK(doubtful.gates[2].gate == "plausible");
    CHECK(doubtful.gates[2].flagged);
    CHECK(doubtful.failed_gates() == 0);
    for (Json & window : report["lines"]["w4a4"]["windows"]) window["kl"] = window["kl"].get<double>() / 6;
    REQUIRE(write_file_synced(scratch / "better.json", report.dump()).ok());
    options.gates.baseline = scratch / "better.json";
    CHECK(evaluate_reference(data, options).failed_gates() == 1);
    REQUIRE(write_file_synced(scratch / "other.json", "{\"schema\": \"ggml-nvfp4.plan.1\"}").ok());
    options.gates.baseline = scratch / "other.json";
    CHECK(refusal(data).find("not a report of schema ggml-nvfp4.evaluation.1") != std::string::npos);
}
