// The same source, plan and data give the same bytes, whatever the threads, the budget and the way that statistics took.
#include "budget_message.h"
#include "e2e/calibrated_fixture.h"

#include <algorithm>
#include <cmath>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

// Six samples of six lengths, the last with pads.
struct Data {
    ScratchFolder scratch;
    Ids ids = short_samples(6), masks;
    std::string tokens;

    Data() {
        for (const std::vector<int32_t> & row : ids) masks.emplace_back(row.size(), 1);
        std::fill(masks.back().end() - 21, masks.back().end(), 0);
        tokens = scratch.save("tokens.json", tokens_text(ids, masks));
    }
    CalibratedRun run(const std::string & name) const {
        CalibratedRun run;
        run.destination = scratch / name;
        run.tokens = tokens;
        return run;
    }
};

const Data & data() {
    static const Data it;
    return it;
}

JsonDocument read_json(const std::string & path) { return JsonDocument::read(path, 1 << 24).take(); }

std::string layers_of(const std::string & statistics_path) {
    const JsonDocument document = read_json(statistics_path);
    return std::string(document.root().get("layers").value().text());
}

// By layer: a list of numbers.
std::vector<std::vector<double>> layer_numbers(const std::string & path, const char * key, const char * maximum) {
    const JsonDocument document = read_json(path);
    std::vector<std::vector<double>> out;
    REQUIRE(document.root()
                .get("layers")
                .value()
                .for_each_element([&](size_t, const JsonValue & layer) -> Status {
                    out.emplace_back();
                    JsonValue list = layer.get(key).take();
                    if (maximum && !JsonValue(list).find(maximum, list)) return {};
                    return list.for_each_element([&](size_t, const JsonValue & item) -> Status {
                        out.back().push_back(item.as_double().take());
                        return {};
                    });
                })
                .ok());
    return out;
}

} // namespace

TEST_CASE("threads and budgets do not change a byte of any file") {
    const auto expected = files_of(data().run("base"));
    CHECK(expected.count("quantization_report.json") == 1);
    CHECK(expected.count("recipe.yaml") == 1);
    for (const int threads : {1, 3, 5}) {
        CAPTURE(threads);
        CalibratedRun run = data().run("threads");
        run.threads = threads;
        CHECK(files_of(run) == expected);
    }
    const std::string scratch = data().scratch / "hidden";
    REQUIRE(make_directory(scratch).ok());
    for (const int threads : {1, 2, 3}) { // each has buffers of its own
        CAPTURE(threads);
        CalibratedRun run = data().run("small");
        run.scratch_folder = scratch;
        run.threads = threads;
        run.ram_bytes = 1'000'000;
        const RunResult refused = quantize(run);
        CHECK(refused.status == GNV_OUT_OF_MEMORY);
        CHECK_MESSAGE(refused.says("a memory budget of 1.00 MB (1000000 bytes) is too small"), refused.message);
        CHECK_FALSE(path_exists(run.destination + ".partial"));
        const uint64_t smallest = smallest_budget(refused.message);
        CHECK(smallest < 9'000'000); // 30 MB of weights
        for (const uint64_t ram : {uint64_t(12'000'000), smallest + 500'000, smallest}) {
            CAPTURE(ram);
            run.ram_bytes = ram;
            CHECK(files_of(run) == expected);
        }
        run.ram_bytes = smallest / 100 * 99; // to the byte it depends on how buffers divide
        CHECK(quantize(run).status == GNV_OUT_OF_MEMORY);
        run.ram_bytes = smallest;
        run.scratch_folder.clear();
        const RunResult without = quantize(run);
        if (without.status == GNV_OK) {
            REQUIRE(remove_tree(run.destination).ok());
        } else {
            CHECK_MESSAGE(without.says("less with a folder for scratch files"), without.message);
        }
    }
    CHECK(list_directory(scratch).value().empty());
}

TEST_CASE("BF16 arithmetic as well") {
    CalibratedRun run = data().run("bf16");
    run.precision = GNV_PRECISION_BF16;
    const auto expected = files_of(run);
    run.threads = 5;
    run.scratch_folder = data().scratch.path();
    run.ram_bytes = 1;
    run.ram_bytes = smallest_budget(quantize(run).message);
    CHECK(files_of(run) == expected);
}

TEST_CASE("a statistics file in place of the data: the same files; of two halves: the same tensors") {
    const ScratchFolder scratch;
    CalibratedRun measuring = data().run("measured");
    measuring.save_statistics = scratch / "whole.json";
    const auto expected = files_of(measuring);

    CalibratedRun reading = data().run("read");
    reading.tokens.clear();
    reading.statistics = {scratch / "whole.json"};
    CHECK(files_of(reading) == expected);

    for (int half = 0; half < 2; half++) {
        const auto part = [&](const Ids & rows) { return Ids(rows.begin() + half * 3, rows.begin() + half * 3 + 3); };
        CalibratedRun run = data().run("half");
        run.tokens = scratch.save(concat("tokens", half, ".json"), tokens_text(part(data().ids), part(data().masks)));
        run.save_statistics = scratch / concat("half", half, ".json");
        files_of(run);
    }
    CHECK(layers_of(scratch / "half0.json") != layers_of(scratch / "half1.json"));
    const Handle<gnv_engine_t> engine = make_engine();
    const std::string paths[] = {scratch / "half0.json", scratch / "half1.json"};
    for (const bool swapped : {false, true}) {
        const char * const list[] = {paths[swapped].c_str(), paths[!swapped].c_str()};
        gnv_calibration_t * merged = nullptr;
        REQUIRE(gnv_calibration_load(engine.get(), list, 2, &merged) == GNV_OK);
        const Handle<gnv_calibration_t> owner(merged);
        gnv_text_t * text = nullptr;
        REQUIRE(gnv_calibration_text(merged, GNV_TEXT_JSON, &text) == GNV_OK);
        scratch.save("merged.json", gnv_text_data(text));
        gnv_text_destroy(text);
        CHECK(layers_of(scratch / "merged.json") == layers_of(scratch / "whole.json"));
        const JsonDocument a = read_json(scratch / "merged.json"), b = read_json(scratch / "whole.json");
        for (const char * key : {"model", "sequences", "positions", "tokens", "precision", "experts"})
            CHECK(a.root().get(key).value().text() == b.root().get(key).value().text());
    }

    reading.statistics = {paths[0], paths[1]};
    auto merged = files_of(reading), whole = expected;
    CHECK(merged.at("quantization_report.json") != whole.at("quantization_report.json")); // names both data sets
    merged.erase("quantization_report.json"), whole.erase("quantization_report.json");
    CHECK(merged == whole);
}

TEST_CASE("quantization_report.json tells what was measured, without time, host or folder") {
    const ScratchFolder scratch;
    CalibratedRun run = data().run("reported");
    const RunResult result = quantize(run);
    require_good(result);
    const std::string text = read_file(run.destination + "/quantization_report.json", 1 << 24).take();
    for (const std::string & part : {data().scratch.path(), tiny_folder, std::string("second"), std::string("thread"),
                                     std::string("rss"), std::string("ram")})
        CHECK_MESSAGE(text.find(part) == std::string::npos, part);
    const JsonDocument report = read_json(run.destination + "/quantization_report.json");
    CHECK(report.root().get("schema").value().as_string().value() == "ggml-nvfp4.quantization_report.1");
    CHECK(report.root().get("quantized_modules").value().as_int().value() == 800);
    const JsonValue calibration = report.root().get("calibration").take();
    CHECK(calibration.get("sequences").value().as_int().value() == 6);
    CHECK(calibration.get("positions").value().as_int().value() - calibration.get("tokens").value().as_int().value() ==
          21);
    CHECK(report.root().get("substituted_input_scales").value().text() == "[]");

    // From a file of the same name elsewhere, to another place.
    CalibratedRun other = run;
    other.tokens = scratch.save("tokens.json", tokens_text(data().ids, data().masks));
    other.destination = scratch / "elsewhere";
    require_good(quantize(other));
    CHECK(file_hashes(other.destination) == file_hashes(run.destination));
    REQUIRE(remove_tree(run.destination).ok());
}

TEST_CASE("--experts routed: shared inputs are the same, experts without tokens get a stand-in that the report lists") {
    const ScratchFolder scratch;
    CalibratedRun all = data().run("all"), routed = data().run("routed");
    all.save_statistics = scratch / "all.json";
    routed.save_statistics = scratch / "routed.json";
    routed.experts = GNV_EXPERTS_ROUTED;
    files_of(all);
    const RunResult result = quantize(routed);
    require_good(result);

    for (const char * observed :
         {"mixer_input", "attention_out_input", "linear_attention_out_input", "mlp_input", "shared_down_input"})
        CHECK(layer_numbers(all.save_statistics, "maxima", observed) ==
              layer_numbers(routed.save_statistics, "maxima", observed));
    const auto chosen = layer_numbers(routed.save_statistics, "tokens_per_expert", nullptr);
    CHECK(chosen == layer_numbers(all.save_statistics, "tokens_per_expert", nullptr));
    const auto few = layer_numbers(routed.save_statistics, "maxima", "expert_down_input"),
               many = layer_numbers(all.save_statistics, "maxima", "expert_down_input");

    std::set<std::string> without_tokens;
    size_t smaller = 0;
    REQUIRE(few.size() == 8);
    for (size_t layer = 0; layer < 8; layer++) {
        REQUIRE(few[layer].size() == 32);
        for (size_t expert = 0; expert < 32; expert++) {
            CHECK(few[layer][expert] <= many[layer][expert]);
            smaller += few[layer][expert] < many[layer][expert];
            // Pads reach experts too, and are no tokens.
            if (chosen[layer][expert] > 0) CHECK(few[layer][expert] > 0);
            if (few[layer][expert] == 0)
                without_tokens.insert(
                    concat("model.language_model.layers.", layer, ".mlp.experts.", expert, ".down_proj"));
        }
    }
    CHECK(smaller > 50);
    REQUIRE(without_tokens.size() > 5);

    std::set<std::string> listed;
    const JsonDocument report = read_json(routed.destination + "/quantization_report.json");
    REQUIRE(report.root()
                .get("substituted_input_scales")
                .value()
                .for_each_element([&](size_t, const JsonValue & item) -> Status {
                    listed.insert(std::string(item.as_string().value()));
                    return {};
                })
                .ok());
    CHECK(listed == without_tokens);
    const JsonDocument times = JsonDocument::parse(result.report, "report").take();
    CHECK(times.root().get("substituted_input_scales").value().as_int().value() == int64_t(without_tokens.size()));
    // The stand-in is the layer's largest maximum: its smallest scale.
    const auto scales = input_scales_of(routed.destination);
    for (const std::string & name : without_tokens) {
        const std::string layer = name.substr(0, name.find(".mlp."));
        float smallest = INFINITY;
        for (const auto & [other, scale] : scales)
            if (starts_with(other, layer + ".mlp.experts.") && other.find("down_proj") != std::string::npos)
                smallest = std::min(smallest, scale);
        CHECK(scales.at(name + ".input_global_scale") == smallest);
    }
}
