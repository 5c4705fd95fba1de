// W4A4 with calibration against what llm-compressor wrote for the same ids.
#include "e2e/reference_fixture.h"

#include <cmath>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

// One run over the reference's 32 samples of 256 tokens, for all tests.
struct Reference {
    ScratchFolder scratch;
    std::string result = scratch / "out", statistics = scratch / "statistics.json";
    RunResult run;
    std::vector<MemoryTensor> tensors;

    Reference() {
        CalibratedRun options;
        options.destination = result;
        options.tokens = reference_tokens;
        options.save_statistics = statistics;
        run = quantize(options);
        require_good(run);
        tensors = load_tensors(result);
    }
};

const Reference & reference() {
    static const Reference it;
    return it;
}

std::string replaced(std::string text, const std::string & what, const std::string & by) {
    const size_t at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), by);
}

// Recorded maxima name modules of the reference implementation; which statistic of ours is that.
const char * observed_of(const std::string & module) {
    if (module == "experts") return "mlp_input"; // gate and up of all of them
    if (module.find("experts.") == 0) return "expert_down_input";
    if (module == "shared_expert.down_proj") return "shared_down_input";
    if (module == "gate" || module == "shared_expert_gate" || module.find("shared_expert.") == 0) return "mlp_input";
    if (module == "linear_attn.out_proj") return "linear_attention_out_input";
    if (module == "self_attn.o_proj") return "attention_out_input";
    if (module.find("linear_attn.in_proj_") == 0) return "mixer_input";
    if (module == "self_attn.q_proj" || module == "self_attn.k_proj" || module == "self_attn.v_proj")
        return "mixer_input";
    return nullptr;
}

} // namespace

TEST_CASE("names, dtypes and shapes of all tensors are the reference's, and the bytes of all it did not measure") {
    check_reference_tensors(reference().tensors);
}

TEST_CASE("config.json is the reference's, but for the pattern that names the draft head; recipe.yaml byte for byte") {
    const std::string & folder = reference().result;
    const JsonDocument ours = JsonDocument::read(folder + "/config.json", 1 << 20).take();
    const JsonDocument theirs = JsonDocument::read(golden_folder + "/config.json", 1 << 20).take();
    const JsonValue a = ours.root().get("quantization_config").take(),
                    b = theirs.root().get("quantization_config").take();
    size_t compared = 0;
    REQUIRE(b.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
                 CAPTURE(key);
                 JsonValue found;
                 REQUIRE(a.find(std::string(key).c_str(), found));
                 const std::string expected = key == "ignore"
                                                  ? replaced(std::string(value.text()), "re:^mtp.*", "re:.*mtp.*")
                                                  : std::string(value.text());
                 CHECK(std::string(found.text()) == expected);
                 compared++;
                 return {};
             }).ok());
    CHECK(compared >= 8);
    CHECK(read_file(folder + "/recipe.yaml", 1 << 20).value() ==
          read_file(golden_folder + "/recipe.yaml", 1 << 20).value());
}

TEST_CASE("input scales: at least 740 of 800 within two BF16 steps of the reference, none beyond 12 %") {
    const std::map<std::string, float> expected = reference_input_scales();
    const ScaleComparison compared = compare_scales(input_scales_of(reference().result), expected);
    MESSAGE(compared.near, " of ", compared.compared, " within two steps, worst ", compared.worst);
    CHECK(compared.compared == 800);
    CHECK(compared.near >= 740);
    CHECK(compared.worst <= 0.12);

    // With the arithmetic of a BF16 run the same shares hold.
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "out";
    run.tokens = reference_tokens;
    run.precision = GNV_PRECISION_BF16;
    require_good(quantize(run));
    const ScaleComparison bf16 = compare_scales(input_scales_of(scratch / "out"), expected);
    MESSAGE("bf16: ", bf16.near, " of ", bf16.compared, " within two steps, worst ", bf16.worst);
    CHECK(bf16.near >= 740);
    CHECK(bf16.worst <= 0.12);
}

TEST_CASE("the same for samples padded to 1,024") {
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "out";
    run.tokens = padded_tokens;
    run.save_statistics = scratch / "statistics.json";
    require_good(quantize(run));
    const JsonDocument recorded =
        JsonDocument::read(golden_folder + "/reference-padded-input-scales.json", 1 << 20).take();
    std::map<std::string, float> expected;
    REQUIRE(recorded.root()
                .for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
                    expected[std::string(name)] = float(value.as_double().take());
                    return {};
                })
                .ok());
    const ScaleComparison compared = compare_scales(input_scales_of(scratch / "out"), expected);
    MESSAGE(compared.near, " of ", compared.compared, " within two steps, worst ", compared.worst);
    CHECK(compared.compared == 800);
    CHECK(compared.near >= 740);
    CHECK(compared.worst <= 0.12);

    // Pads are positions, but no tokens: the router's choices are counted for tokens only.
    const JsonDocument statistics = JsonDocument::read(scratch / "statistics.json", 1 << 24).take();
    int64_t tokens = 0;
    for (const std::vector<int32_t> & mask : read_ids(padded_tokens, "attention_mask"))
        for (const int32_t real : mask) tokens += real;
    CHECK(statistics.root().get("positions").value().as_int().value() == 16 * 1024);
    CHECK(statistics.root().get("tokens").value().as_int().value() == tokens);
    size_t layers = 0;
    REQUIRE(statistics.root()
                .get("layers")
                .value()
                .for_each_element([&](size_t, const JsonValue & layer) -> Status {
                    int64_t chosen = 0;
                    for (const int32_t count : read_id_list(layer.get("tokens_per_expert").value())) chosen += count;
                    CHECK(chosen == 4 * tokens);
                    layers++;
                    return {};
                })
                .ok());
    CHECK(layers == 8);
}

TEST_CASE("every maximum that was recorded in FP32, within 1e-4") {
    const JsonDocument recorded = JsonDocument::read(golden_folder + "/input_amax_fp32.json", 1 << 20).take();
    const JsonDocument statistics = JsonDocument::read(reference().statistics, 1 << 24).take();
    std::vector<JsonValue> maxima; // by layer
    REQUIRE(statistics.root()
                .get("layers")
                .value()
                .for_each_element([&](size_t, const JsonValue & layer) -> Status {
                    maxima.push_back(layer.get("maxima").value());
                    return {};
                })
                .ok());
    REQUIRE(maxima.size() == 8);
    std::map<std::string, int> compared;
    double worst = 0;
    REQUIRE(recorded.root()
                .for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
                    CAPTURE(key);
                    const std::string name(key);
                    REQUIRE(name.find("layers.") == 0);
                    const size_t layer = std::stoul(name.substr(7));
                    std::string module = name.substr(name.find('.', 7) + 1);
                    if (module.find("mlp.") == 0) module = module.substr(4);
                    const char * const observed = observed_of(module);
                    REQUIRE(observed);
                    const size_t index =
                        std::string(observed) == "expert_down_input" ? std::stoul(module.substr(8)) : 0;
                    double found = NAN;
                    REQUIRE(maxima.at(layer)
                                .get(observed)
                                .value()
                                .for_each_element([&](size_t i, const JsonValue & item) -> Status {
                                    if (i == index) found = item.as_double().take();
                                    return {};
                                })
                                .ok());
                    const double expected = value.as_double().take(), error = std::abs(found / expected - 1);
                    CHECK(error <= 1e-4);
                    worst = std::max(worst, error);
                    compared[observed]++;
                    return {};
                })
                .ok());
    MESSAGE("worst ", worst);
    CHECK(compared["expert_down_input"] == 8 * 32);
    CHECK(compared["linear_attention_out_input"] == 6);
    CHECK(compared["attention_out_input"] == 2);
    CHECK(compared["shared_down_input"] == 8);
    CHECK(compared["mixer_input"] == 6 * 4 + 2 * 3);
    CHECK(compared["mlp_input"] == 8 * 4);
}
