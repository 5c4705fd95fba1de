// Calibration of a model that is larger than the memory that the run may use.
#include "e2e/calibrated_fixture.h"
#include "run_tool.h"
#include "tools/synthetic_checkpoint.h"

using namespace gnv;
using namespace gnv::test;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // which have memory of their own
// 500 MB of weights, 100 MB a block. The limit on data is the system's: what asks for more gets none.
TEST_CASE("quantize keeps to the memory that it planned, plus 300 MB") {
    const ScratchFolder scratch;
    const std::string source = scratch / "source";
    const std::string config =
        read_file(std::string(GNV_TEST_DATA) + "/configs/wide-experts-500mb.json", 1 << 20).take();
    SyntheticOptions layout;
    layout.threads = 2;
    layout.shards = 2;
    const auto made = write_synthetic_checkpoint(config, source, layout);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    CHECK(made.value().bytes > 500'000'000);
    for (const char * file : {"tokenizer.json", "tokenizer_config.json"})
        REQUIRE(copy_file_synced(join_path(tiny_folder, file), join_path(source, file)).ok());
    const std::string tokens = scratch.save("tokens.json", tokens_text(random_ids(2, 60, 4096)));
    const auto run = [&](const std::string & options, uint64_t limit) {
        const ToolRun tool =
            run_tool("quantize",
                     source + " -o " + (scratch / "out") + " --tokens " + tokens + " --json " +
                         (scratch / "report.json") + " --quiet --threads 2 --overwrite " + options + " 2>&1",
                     limit ? concat("ulimit -d ", limit / 1024, "; ") : "");
        REQUIRE_MESSAGE(tool.exit_code == 0, tool.out);
        return JsonDocument::read(scratch / "report.json", 1 << 20).take();
    };
    constexpr uint64_t slack = 300'000'000, resident_slack = 100'000'000; // the program itself, tokenizer, file headers
    const auto planned = [](const JsonDocument & report) {
        return uint64_t(number_of(report, "planned_calibration_bytes") + number_of(report, "planned_buffer_bytes"));
    };
    const uint64_t small = 40'000'000; // less than half a block
    const JsonDocument tight = run(concat("--ram ", small), small + slack);
    CHECK(planned(tight) <= small);
    CHECK(uint64_t(number_of(tight, "peak_rss_bytes")) <= planned(tight) + resident_slack);
    const auto expected = file_hashes(scratch / "out");

    const uint64_t wide_plan = 160'000'000; // a whole block
    const JsonDocument wide = run("", wide_plan + slack);
    CHECK(planned(wide) <= wide_plan);
    CHECK(planned(wide) > 100'000'000);
    CHECK(uint64_t(number_of(wide, "peak_rss_bytes")) <= planned(wide) + resident_slack);
    CHECK(made.value().bytes > planned(wide) + slack); // all of it together would not have fit
    CHECK(file_hashes(scratch / "out") == expected);
    MESSAGE("planned ", planned(tight), " and ", planned(wide), ", resident ", number_of(tight, "peak_rss_bytes"),
            " and ", number_of(wide, "peak_rss_bytes"));
}
#endif
