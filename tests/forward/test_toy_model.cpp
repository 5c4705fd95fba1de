// A family that the library does not know, run by the pass: nothing of what passes between stages, is tapped or measured is
// the library's to name.
#include "codec/nvfp4.h"
#include "core/memory.h"
#include "forward/toy_model.h"
#include "pass/layer_pass.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::vector<double> times(const std::vector<double> & weights, const std::vector<double> & x) {
    std::vector<double> y(weights.size() / x.size());
    for (size_t i = 0; i < weights.size(); i++) y[i / x.size()] += weights[i] * x[i % x.size()];
    return y;
}

// Logits of a token and the largest magnitudes of both inputs of block 1, in double.
std::vector<double> expected_logits(const ToyCheckpoint & toy, size_t token, double & block_input,
                                    double & wide_input) {
    const std::vector<double> table = toy.values(0);
    std::vector<double> x(table.begin() + ptrdiff_t(token * toy_hidden),
                          table.begin() + ptrdiff_t((token + 1) * toy_hidden));
    const std::vector<double> first = times(toy.values(1), x);
    for (size_t i = 0; i < x.size(); i++) x[i] += first[i], block_input = std::max(block_input, std::abs(x[i]));
    std::vector<double> wide = times(toy.values(2), x);
    for (double & g : wide) g = g / (1 + std::exp(-g)) * g, wide_input = std::max(wide_input, std::abs(g));
    const std::vector<double> second = times(toy.values(3), wide);
    for (size_t i = 0; i < x.size(); i++) x[i] += second[i];
    return times(toy.values(4), x);
}

} // namespace

TEST_CASE("a family of the tests runs through the pass, with blocks of two kinds and no states") {
    const ToyCheckpoint toy;
    const ToyModel model;
    const auto threads = ThreadPool::create(2).take();
    const auto device = open_cpu(*threads);
    TextVariant variant;
    variant.model = &model, variant.weights = &toy.weights, variant.files = &toy.files;
    TextSequence text;
    for (int32_t t = 0; t < 40; t++) text.ids.push_back(t % int32_t(toy_vocabulary));
    PassOptions options;
    options.head = true;
    options.statistics = {{&Statistic::maximum}, {&Statistic::second_moments, Part::text, 1, toy_wide_input}};
    const std::vector<TextSequence> texts = {text};
    Result<std::unique_ptr<LayerPass>> pass = LayerPass::create({variant}, {device.get()}, *threads, texts, options);
    REQUIRE_MESSAGE(pass.ok(), pass.status().message());
    CHECK(pass.value()->plan().statistics.bytes >= uint64_t(toy_wide * toy_wide) * sizeof(float));
    std::vector<float> logits;
    std::vector<std::string> seen;
    size_t moments = 0;
    PassHooks hooks;
    hooks.on_logits = [&](int64_t, const std::vector<Tensor> & rows) -> Status {
        const float * const from = rows.front().as<const float>();
        logits.insert(logits.end(), from, from + rows.front().shape.elements());
        return {};
    };
    hooks.on_tap = [&](size_t, const PassBatch &, const Tap & tap, const Tensor &) -> Status {
        seen.push_back(tap_name(toy_names, tap));
        return {};
    };
    hooks.on_statistics = [&](size_t, const PassGroup &, const StatisticWindow & window) -> Status {
        for (const StatisticWindow::Total & total : window.totals())
            moments += total.key.statistic == &Statistic::second_moments;
        return {};
    };
    const Status status = pass.value()->run(hooks);
    REQUIRE_MESSAGE(status.ok(), status.message());
    REQUIRE(logits.size() == text.ids.size() * toy_vocabulary);
    double block_input = 0, wide_input = 0;
    for (size_t t = 0; t < text.ids.size(); t++) {
        const std::vector<double> expected = expected_logits(toy, size_t(text.ids[t]), block_input, wide_input);
        for (size_t i = 0; i < expected.size(); i++)
            CHECK(std::abs(double(logits[t * toy_vocabulary + i]) - expected[i]) < 1e-5);
    }
    const StatisticSet & set = pass.value()->statistics(0);
    CHECK(set.maxima(1, toy_block_input)[0] == doctest::Approx(block_input).epsilon(1e-5));
    CHECK(set.maxima(1, toy_wide_input)[0] == doctest::Approx(wide_input).epsilon(1e-5));
    CHECK(set.maxima(0, toy_wide_input).empty());
    CHECK(moments == 1);
    CHECK(seen.front() == "embed");
    CHECK(std::count(seen.begin(), seen.end(), "layer.1") > 0);
}

TEST_CASE("a part has layers of its own: weights, taps") {
    const ToyCheckpoint toy;
    WeightRef ref = {Role::attention_o, 0};
    CHECK(toy.weights.spec(ref).value().shape == Shape{toy_hidden, toy_hidden});
    ref.part = Part::mtp;
    CHECK(toy.weights.spec(ref).value().shape == Shape{toy_hidden, 2 * toy_hidden});
    ref.part = Part::vision;
    CHECK(toy.weights.spec(ref).status().code() == Code::model);
    ref.role = Role::vision_qkv; // two in block 0: which one is meant?
    CHECK(toy.weights.spec(ref).status().code() == Code::unsupported);

    const ToyModel model;
    Graph graph(Precision::f32);
    StageBuilder builder(graph, toy.weights, {3, 1});
    builder.fields[hidden_field] = graph.input("x", DType::f32, {3, 2 * toy_hidden});
    Stage stage{StageKind::mixer, 0};
    stage.part = Part::mtp;
    model.build(stage, builder); // x + o(x) does not fit; the weight is the draft head's all the same
    CHECK_FALSE(graph.status().ok());
    REQUIRE(builder.bound_weights.size() == 1);
    CHECK(builder.bound_weights[0].ref.part == Part::mtp);
    REQUIRE(graph.taps().size() >= 1);
    const Tap tap = graph.taps()[0].tap;
    CHECK(tap_name(toy_names, tap) == "draft.layer.0");
    CHECK(parse_tap(toy_names, "draft.layer.0", 2).value() == tap);
    CHECK_FALSE(parse_tap(toy_names, "layer.0", 2).value() == tap);
    CHECK(parse_tap(toy_names, "draft.layer.2", 2).status().code() == Code::invalid_argument);
    CHECK(parse_tap(toy_names, "draft.", 2).status().code() == Code::invalid_argument);
}
