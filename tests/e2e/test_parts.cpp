// Parts of the data, measured apart: merged they are the statistics of one run, and give its checkpoint, byte for byte.
#include "e2e/calibrated_fixture.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Parts {
    ScratchFolder scratch;
    CalibratedRun whole;

    explicit Parts(gnv_expert_tokens experts = GNV_EXPERTS_ALL) {
        whole.destination = scratch / "whole";
        whole.save_statistics = scratch / "whole.json";
        whole.tokens = scratch.save("ids.json", tokens_text(short_samples(7)));
        whole.experts = experts;
    }
    std::string file(uint32_t part) const { return scratch / ("part" + std::to_string(part) + ".json"); }
    RunResult measure(uint32_t part, uint32_t parts) const {
        CalibratedRun run = whole;
        run.destination.clear();
        run.part = part, run.parts = parts;
        run.save_statistics = file(part);
        run.threads = 1 + int(part) % 3;
        return quantize(run);
    }
    CalibratedRun with(const std::vector<std::string> & statistics) const {
        CalibratedRun run;
        run.destination = scratch / "merged";
        run.statistics = statistics;
        return run;
    }
};

} // namespace

TEST_CASE("the statistics of all parts, in any order, are those of one run, and give its bytes") {
    for (const gnv_expert_tokens experts : {GNV_EXPERTS_ALL, GNV_EXPERTS_ROUTED}) {
        const Parts parts(experts);
        require_good(quantize(parts.whole));
        for (const uint32_t part : {1u, 2u, 3u}) require_good(parts.measure(part, 3));
        CHECK_FALSE(path_exists(parts.scratch / "merged"));
        const std::vector<std::string> files = {parts.file(3), parts.file(1), parts.file(2)};
        require_good(quantize(parts.with(files)));
        const auto found = file_hashes(parts.scratch / "merged");
        CHECK(found == file_hashes(parts.whole.destination)); // quantization_report.json as well

        const Handle<gnv_engine_t> engine = make_engine(1);
        const char * paths[] = {files[0].c_str(), files[1].c_str(), files[2].c_str()};
        gnv_calibration_t * handle = nullptr;
        REQUIRE(gnv_calibration_load(engine.get(), paths, 3, &handle) == GNV_OK);
        const Handle<gnv_calibration_t> calibration(handle);
        gnv_text_t * text = nullptr;
        REQUIRE(gnv_calibration_text(calibration.get(), GNV_TEXT_JSON, &text) == GNV_OK);
        CHECK(std::string(gnv_text_data(text)) == read_file(parts.whole.save_statistics, 1 << 24).value());
        gnv_text_destroy(text);
    }
}

TEST_CASE("a missing part, one given twice, and parts of other data are refused") {
    const Parts parts;
    for (const uint32_t part : {1u, 2u, 3u}) require_good(parts.measure(part, 3));
    const auto refuse = [&](const std::vector<std::string> & files, const std::string & words) {
        const RunResult refused = quantize(parts.with(files));
        CHECK(refused.status == GNV_INVALID_ARGUMENT);
        CHECK_MESSAGE(refused.says(words), refused.message);
        CHECK_FALSE(path_exists(parts.scratch / "merged"));
    };
    refuse({parts.file(1), parts.file(3)}, "of 3 parts 2 is missing");
    refuse({parts.file(2)}, "of 3 parts 1, 3 are missing");
    refuse({parts.file(1), parts.file(2), parts.file(2)}, "part 2 of 3 was given before");
    Parts others;
    others.whole.tokens = others.scratch.save("ids.json", tokens_text(short_samples(5)));
    require_good(others.measure(2, 3));
    refuse({parts.file(1), others.file(2), parts.file(3)}, "is missing");

    CHECK(parts.measure(0, 3).says("no part 0 of 3"));
    CHECK(parts.measure(4, 3).says("no part 4 of 3"));
    CHECK(parts.measure(8, 8).says("7 sequences cannot be divided into 8 parts"));
    CalibratedRun both = parts.whole;
    both.part = 1, both.parts = 2;
    const RunResult refused = quantize(both);
    CHECK_MESSAGE(refused.says("a part of the data gives statistics and no result"), refused.message);
    CalibratedRun neither = parts.whole;
    neither.destination.clear();
    neither.save_statistics.clear();
    CHECK(quantize(neither).status == GNV_INVALID_ARGUMENT);
}

TEST_CASE("without a destination a run measures, and writes the statistics alone") {
    Parts parts;
    require_good(quantize(parts.whole));
    CalibratedRun alone = parts.whole;
    alone.destination.clear();
    alone.save_statistics = parts.scratch / "alone.json";
    require_good(quantize(alone));
    CHECK(read_file(alone.save_statistics, 1 << 24).value() == read_file(parts.whole.save_statistics, 1 << 24).value());
    alone.save_statistics = parts.scratch / "none.json";
    alone.method = GNV_METHOD_GPTQ;
    CHECK_MESSAGE(quantize(alone).says("give a destination"), "");
}
