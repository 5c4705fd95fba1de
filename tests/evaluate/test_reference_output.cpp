// llm-compressor's codes and scales for the small checkpoint, with the norms of the source, against an emulation in PyTorch
// and Transformers (scripts/emulate_predictions.py) that measured all 90 documents;
// `test_evaluate --no-skip -tc="all 90*"` repeats that, the test that always runs takes the first 8.
//
// Where inputs are quantized a code near a tie falls either way with the last bit of what came before, and what follows
// drifts apart: with all input scales changed by some parts in a million the emulation gives W4A4 a KL divergence from 0.0851
// to 0.0859 and a perplexity from 16.257 to 16.284, this library 0.0851 to 0.0861 and 16.252 to 16.302. What is compared is
// the mean of the emulation's runs. Weights alone agree to the last digit.
#include "evaluate/evaluate_fixture.h"

using namespace gnv;
using namespace gnv::test;
using namespace gnv::evaluate;

namespace {

void check(const Evaluation & found, double source, const ExpectedFigures & expected, double kl_within, double within) {
    CAPTURE(std::string(line_name(expected.line)));
    const LineReport * const line = found.find(expected.line);
    REQUIRE(line);
    INFO("KL ", line->all.divergence.mean, ", top-1 ", line->all.same_top.mean, ", perplexity ",
         source_perplexity(line->all), " -> ", perplexity(line->all));
    CHECK(line->all.divergence.mean == doctest::Approx(expected.kl).epsilon(kl_within));
    if (expected.same_top > 0) CHECK(line->all.same_top.mean == doctest::Approx(expected.same_top).epsilon(within * 4));
    CHECK(source_perplexity(line->all) == doctest::Approx(source).epsilon(within));
    CHECK(perplexity(line->all) == doctest::Approx(expected.perplexity).epsilon(within));
}

} // namespace

TEST_CASE("all 90 documents agree with the emulation" * doctest::skip()) {
    const Evaluation found = evaluate_reference(read_data(0));
    CHECK(found.positions == 41526);
    CHECK(found.predictions == 41436);
    CHECK(found.windows == 90);
    const double source = emulated_source_perplexity;
    check(found, source, mean_of_emulation(Line::w4a4), 0.01, 0.001);
    check(found, source, mean_of_emulation(Line::w4a16), 1e-4, 1e-5);
    check(found, source, mean_of_emulation(Line::activations), 0.01, 0.001);
}

// Rounding alone moves W4A4 by some tenths of a percent: codes near a tie fall either way.
TEST_CASE("the first 8 documents, as computed when all of them agreed") {
    const Evaluation found = evaluate_reference(read_data(8));
    CHECK(found.positions == 3794);
    check(found, 18.7461, {Line::w4a4, 0.08929, 0.8403, 19.631}, 0.02, 0.003);
    check(found, 18.7461, {Line::w4a16, 0.0474989, 0.886136, 19.1881}, 1e-4, 1e-5);
    check(found, 18.7461, {Line::activations, 0.04674, 0.8851, 19.218}, 0.02, 0.003);
    for (const LineReport & line : found.lines) {
        REQUIRE(line.layers.size() == 8);
        for (const LayerFigures & layer : line.layers) {
            CHECK(layer.sqnr_db() > 10);
            CHECK(layer.sqnr_db() < 35);
            CHECK(layer.experts_in_common > 0.9);
        }
        CHECK(line.layers[0].sqnr_db() > line.layers[7].sqnr_db());
        CHECK(line.last_quarter.positions == 948);
    }
}
