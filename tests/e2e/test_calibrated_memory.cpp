// Calibration of a model that is larger than the memory that the run may use.
#include "budget_message.h"
#include "e2e/calibrated_fixture.h"
#include "formats/zstd.h"
#include "run_tool.h"
#include "tools/synthetic_checkpoint.h"

using namespace gnv;
using namespace gnv::test;

TEST_CASE("--dry-run with calibration data plans the forward pass as the run does") {
    const ScratchFolder scratch;
    const std::string data = tiny_folder + " --tokens " + reference_tokens + " --device cpu --threads 2 --json ";
    const auto plan = [&](const std::string & options) {
        const ToolRun tool = run_tool("quantize", data + "- --dry-run --no-estimate " + options);
        REQUIRE(tool.exit_code == 0);
        return JsonDocument::parse(tool.out, "plan").take();
    };
    const auto text = [](const JsonValue & value) { return std::string(value.as_string().take()); };
    const auto number = [](const JsonValue & value, const char * key) { return value.get(key).take().as_int().take(); };
    const JsonDocument wide = plan(""), tight = plan("--ram 20MB --scratch " + scratch.path());
    const JsonValue pass = tight.root().get("calibration").take(), host = pass.get("host").take();
    CHECK(number(pass, "positions") == 32 * 256);
    CHECK(text(pass.get("hidden_states").take()) == "file");
    CHECK(text(wide.root().get("calibration").take().get("hidden_states").take()) == "host");
    CHECK(number(host, "total") <= number(host, "budget"));
    CHECK(number(host, "budget") + number(tight.root().get("memory").take(), "total") <= 20'000'000);
    const ToolRun run = run_tool("quantize", data + (scratch / "report.json") + " --quiet --ram 20MB -o " +
                                                 (scratch / "out") + " --scratch " + scratch.path());
    REQUIRE(run.exit_code == 0);
    const JsonDocument report = JsonDocument::read(scratch / "report.json", 1 << 20).take();
    CHECK(number_of(report, "planned_calibration_bytes") == number(host, "total"));
    const ToolRun table =
        run_tool("quantize", tiny_folder + " --dry-run --no-estimate --device cpu --tokens " + reference_tokens);
    CHECK(table.out.find("forward pass   8,192 positions on CPU") != std::string::npos);
    // What a run would refuse: too small a budget, data that the scheme has no use for.
    const std::string quiet = " 2>&1";
    const ToolRun small = run_tool("quantize", data + "- --dry-run --ram 3MB" + quiet);
    CHECK(small.exit_code == 4);
    CHECK(small.out.find("the smallest sufficient one is") != std::string::npos);
    CHECK(run_tool("quantize", data + "- --dry-run --scheme nvfp4a16" + quiet).exit_code == 2);
    const ToolRun negative = run_tool("quantize", data + "- --dry-run --ram -5" + quiet);
    CHECK(negative.exit_code == 2);
    CHECK(negative.out.find("--ram -5: expected a number of bytes") != std::string::npos);
    // Devices: what is none, also where none is needed. Limits of a run that does not take place.
    const ToolRun device = run_tool("quantize", tiny_folder + " --dry-run --device gpu" + quiet);
    CHECK(device.exit_code == 2);
    CHECK(device.out.find("use auto, cpu, cuda or cuda:N") != std::string::npos);
    const ToolRun limits = run_tool("quantize", data + "- --dry-run --measure-limits" + quiet);
    CHECK(limits.exit_code == 2);
    CHECK(limits.out.find("--measure-limits is about a run") != std::string::npos);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // which have memory of their own
// 500 MB of weights, 100 MB a block. The limit on data is the system's: what asks for more gets none.
TEST_CASE("quantize keeps to the memory that it planned, plus 300 MB") {
    const ScratchFolder scratch;
    const std::string source = scratch / "source";
    const std::string config = read_file(GNV_TEST_DATA "/configs/wide-experts-500mb.json", 1 << 20).take();
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
    const JsonDocument wide = run(concat("--ram ", wide_plan), wide_plan + slack);
    CHECK(planned(wide) <= wide_plan);
    CHECK(planned(wide) > 100'000'000);
    CHECK(uint64_t(number_of(wide, "peak_rss_bytes")) <= planned(wide) + resident_slack);
    CHECK(made.value().bytes > planned(wide) + slack); // all of it together would not have fit
    CHECK(file_hashes(scratch / "out") == expected);
    MESSAGE("planned ", planned(tight), " and ", planned(wide), ", resident ", number_of(tight, "peak_rss_bytes"),
            " and ", number_of(wide, "peak_rss_bytes"));
}

TEST_CASE("quantize, verify and dataset read data within their budget, plus 80 MB") {
    const ScratchFolder scratch;
    std::string lines; // words of nearly a megabyte: merging each takes forty times its size, on sixteen threads
    for (int row = 0; row < 40; row++) lines += "{\"text\": \"" + std::string(900'000, char('a' + row % 26)) + "\"}\n";
    const std::string data = scratch.save("data.jsonl.zst", zstd_compress(lines, 1, "data").take());
    const uint64_t budget = 100'000'000, slack = 80'000'000; // programs, and 16 stacks of a megabyte
    const std::string options = " --threads 16 --ram 100MB --device cpu --quiet >/dev/null 2>&1";
    const std::string calib = tiny_folder + " --calib " + data + " --samples 24 --seq-len 64";
    const auto check = [&](const std::string & name, const std::string & arguments) {
        CAPTURE(name);
        CHECK(
            run_tool(name, arguments, concat("ulimit -s 1024; ulimit -d ", (budget + slack) / 1024, "; ")).exit_code ==
            0);
    };
    check("dataset", calib + " --threads 16 --ram 100MB >/dev/null 2>&1");
    check("quantize", calib + " -o " + (scratch / "out") + options);
    check("verify", (scratch / "out") + " --source " + tiny_folder + " --data " + data +
                        " --documents 24 --tokens-per-document 64" + options);
    // What is planned, for all that reads data; and too little, with what would do.
    const ToolRun plan = run_tool("quantize", calib + " --dry-run --no-estimate --device cpu --ram 100MB --json -");
    REQUIRE(plan.exit_code == 0);
    const JsonDocument document = JsonDocument::parse(plan.out, "plan").take();
    const int64_t reading = document.root().get("calibration").take().get("reading_bytes").take().as_int().take();
    CHECK(reading > 10'000'000);
    CHECK(reading <= int64_t(budget));
    for (const std::string & refused : {run_tool("quantize", calib + " --dry-run --ram 40MB --device cpu 2>&1").out,
                                        run_tool("dataset", calib + " --ram 40MB 2>&1").out}) {
        CHECK(refused.find(data + ":1: a record of 900 kB: a memory budget of 40.0 MB") != std::string::npos);
        CHECK(smallest_budget(refused) < 110'000'000);
    }
}
#endif
