// Tokens that the router sends to experts: a warning from 1 % of silent experts on, and the gate of min_expert_tokens.
#include "e2e/calibrated_fixture.h"
#include "quant/expert_coverage.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

namespace {

// Tokens of each expert by layer, as the result's report lists them.
std::vector<std::vector<int64_t>> tokens_of(const std::string & destination) {
    const auto report = nlohmann::json::parse(read_file(destination + "/quantization_report.json", 1 << 24).value());
    return report["calibration"]["tokens_per_expert"].get<std::vector<std::vector<int64_t>>>();
}

} // namespace

TEST_CASE("the gate passes at the least number of tokens, and names layers above it; nothing gets the result's name") {
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "free";
    run.tokens = scratch.save("ids.json", tokens_text(short_samples(7)));
    const RunResult free = quantize(run);
    require_good(free);
    int64_t least = INT64_MAX;
    uint64_t silent = 0, experts = 0;
    for (const auto & layer : tokens_of(run.destination))
        for (const int64_t count : layer) least = std::min(least, count), silent += count == 0, experts++;
    REQUIRE(experts == 256);
    CHECK(free.summary.find(std::to_string(silent) + " of 256 saw no token") != std::string::npos);
    const auto report = nlohmann::json::parse(free.report);
    REQUIRE(silent > 2); // of so few tokens
    CHECK(report["warnings"].dump().find(std::to_string(silent) + " of 256 experts") != std::string::npos);

    run.destination = scratch / "gated";
    run.min_expert_tokens = uint64_t(least) + 1;
    run.save_statistics = scratch / "stats.json";
    const RunResult refused = quantize(run);
    CHECK(refused.status == GNV_BAD_VALUE);
    CHECK_MESSAGE(refused.says("of 256 experts"), refused.message);
    CHECK_MESSAGE(refused.says("layer "), refused.message);
    CHECK_MESSAGE(refused.says("what was measured is in " + run.save_statistics), refused.message);
    CHECK_FALSE(path_exists(run.destination));
    CHECK(path_exists(run.destination + ".partial"));

    // From statistics the gate comes before anything is written.
    CalibratedRun later;
    later.destination = scratch / "later";
    later.statistics = {run.save_statistics};
    later.min_expert_tokens = 1;
    CHECK(quantize(later).status == GNV_BAD_VALUE);
    CHECK_FALSE(path_exists(later.destination + ".partial"));
    later.min_expert_tokens = 0;
    require_good(quantize(later));
    CHECK(file_hashes(later.destination) == file_hashes(scratch / "free"));

    // The stopped run goes on without the gate, to the same bytes.
    run.min_expert_tokens = 0;
    require_good(quantize(run));
    CHECK(file_hashes(run.destination) == file_hashes(scratch / "free"));
}

TEST_CASE("a gate without a measurement, or on a part of the data, is refused") {
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "x";
    run.min_expert_tokens = 1;
    run.scheme = GNV_SCHEME_NVFP4A16;
    CHECK(quantize(run).says("tokens of experts are counted in calibration"));
    run.scheme = GNV_SCHEME_NVFP4;
    run.tokens = scratch.save("ids.json", tokens_text(short_samples(7)));
    run.destination.clear();
    run.save_statistics = scratch / "part.json";
    run.part = 1, run.parts = 2;
    CHECK(quantize(run).says("a part of the data does not show"));
    CHECK_FALSE(path_exists(run.save_statistics));
}

TEST_CASE("the words of the gate and of the warning") {
    ExpertCoverage few = {1000, 9, 30, {{0, 10}, {7, 20}}};
    CHECK(coverage_warning(few, ExpertTokens::all) == "");
    few.silent = 10; // 1 %
    CHECK(coverage_warning(few, ExpertTokens::routed).find("10 of 1,000 experts (1 %) saw no token") == 0);
    CHECK(coverage_warning(few, ExpertTokens::routed).find("are the largest of their layer") != std::string::npos);
    CHECK(coverage_warning(few, ExpertTokens::all).find("sent to others") != std::string::npos);
    CHECK(check_coverage(few, 16).message() ==
          "30 of 1,000 experts (3 %) saw fewer than 16 tokens of the calibration data, 10 of them none (layer 7: 20, "
          "layer 0: 10): give more data or longer sequences, or a smaller --min-expert-tokens");
    CHECK(check_coverage({8, 0, 0, {}}, 16).ok());
}
