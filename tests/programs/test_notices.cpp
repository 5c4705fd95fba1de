// What a run leaves out or doubts is on the screen of a real run, in its report, and with --quiet where it is a warning.
#include "program_fixture.h"

#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

namespace {

bool holds(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("notes and warnings of the plan come before the work, warnings with --quiet too") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string source = scratch / "source";
    copy_folder(small.source, source);
    const std::string config = read_file(source + "/config.json", 1 << 20).take();
    REQUIRE(remove_file(source + "/config.json").ok());
    nlohmann::ordered_json changed = nlohmann::ordered_json::parse(config);
    changed["vision_config"] = nlohmann::ordered_json::parse(R"({"depth": 1, "hidden_size": 16, "num_heads": 2,
        "intermediate_size": 16, "in_channels": 3, "patch_size": 2, "temporal_patch_size": 1, "spatial_merge_size": 1,
        "num_position_embeddings": 16, "out_hidden_size": 64})");
    REQUIRE(write_file_synced(source + "/config.json", changed.dump()).ok());
    REQUIRE(write_file_synced(source + "/.env", "secret").ok());
    const std::string note = "note: .env is not copied: a hidden file";
    const std::string doubt = "warning: config.json announces a vision tower, but no tensor starts with model.visual.";
    const auto run = [&](const char * name, const Words & more) {
        return run_program(Words{"quantize", source, "-o", scratch / name, "--scheme", "nvfp4a16"} + more);
    };
    const Ended loud = run("loud", {});
    CHECK(loud.exit_code == 0);
    CHECK_MESSAGE(holds(loud.errors, note), loud.errors);
    CHECK_MESSAGE(holds(loud.errors, doubt), loud.errors);
    CHECK(loud.errors.find(doubt) < loud.errors.find("wrote "));
    const Ended quiet = run("quiet", {"--quiet"});
    CHECK(quiet.exit_code == 0);
    CHECK_FALSE(holds(quiet.errors, note));
    CHECK_MESSAGE(holds(quiet.errors, doubt), quiet.errors);
    const auto report = nlohmann::json::parse(read_file(scratch / "loud/quantization_report.json", 1 << 20).take());
    CHECK(holds(report["warnings"].dump(), "announces a vision tower"));
    CHECK(holds(report["notes"].dump(), ".env is not copied"));

    const Ended slip = run("slip", {"--keep", ".*self_atn.*"});
    CHECK(slip.exit_code == 2);
    CHECK(holds(slip.errors, "error: keep \".*self_atn.*\" matches no module"));
    CHECK_FALSE(path_exists(scratch / "slip"));
}

TEST_CASE("statistics end with the next command: those of a part are not enough") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string all = scratch / "all.json", part = scratch / "part.json";
    const Words command = {"quantize", small.source, "--tokens", small.tokens, "--device", "cpu", "--save-stats"};
    const std::string next = "quantize " + small.source + " -o DST --stats ";
    const Ended whole = run_program(command + Words{all});
    CHECK(whole.exit_code == 0);
    CHECK_MESSAGE(holds(whole.errors, "\nnext: " + next + all + "\n"), whole.errors);
    const Ended one = run_program(command + Words{part, "--part", "1/2"});
    CHECK(one.exit_code == 0);
    CHECK_MESSAGE(holds(one.errors, "\nnext: measure the other parts, then " + next + part + " --stats OTHER ...\n"),
                  one.errors);
    const Ended alone = run_program({"quantize", small.source, "-o", scratch / "made", "--stats", part});
    CHECK_MESSAGE(alone.exit_code != 0, alone.errors);
}

TEST_CASE("rows that calibration leaves out are counted on the screen and in the report") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    std::string lines;
    for (int i = 0; i < 8; i++) lines += i % 2 ? "{\"text\": \"the function returns\"}\n" : "{\"text\": 7}\n";
    const std::string rows = scratch.save("rows.jsonl", lines);
    const Ended ended = run_program({"quantize", small.source, "-o", scratch / "made", "--calib", rows, "--samples",
                                     "4", "--device", "cpu", "--threads", "2", "--quiet"});
    REQUIRE_MESSAGE(ended.exit_code == 0, ended.errors);
    CHECK_MESSAGE(holds(ended.errors, "rows.jsonl: left out: 4 rows whose field holds no text, first at "),
                  ended.errors);
    const auto report = nlohmann::json::parse(read_file(scratch / "made/quantization_report.json", 1 << 20).take());
    const auto & source = report["calibration"]["data"][0]["sources"][0];
    REQUIRE(source["left_out"].size() == 1);
    CHECK(source["left_out"][0]["reason"] == "rows whose field holds no text");
    CHECK(source["left_out"][0]["rows"] == 4);
}
