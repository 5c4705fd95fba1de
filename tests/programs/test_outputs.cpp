// What a command names is opened, or shown to be possible, before the work: the message comes before one about a checkpoint
// that is not there.
#include "programs/program_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

std::string none() { return small_run().scratch / "none"; } // a checkpoint that is not there

void check_refused_first(const Words & command, const std::string & named, int exit_code = 2) {
    const Ended ended = run_program(command);
    CAPTURE(ended.errors);
    CHECK(ended.exit_code == exit_code);
    CHECK(ended.says(named));
    CHECK_FALSE(ended.says(none()));
    CHECK(ended.out == "");
}

} // namespace

TEST_CASE("files that cannot be made are found before anything is read") {
    const SmallRun & small = small_run();
    const Words data = {"--tokens", small.tokens}, calibrated = Words{"quantize", none(), "-o", small.nowhere} + data;
    const Words verified = {"verify", none(), "--source", small.source};
    const Words commands[] = {
        {"quantize", none(), "-o", none(), "--scheme", "nvfp4a16", "--json"},
        {"quantize", none(), "--scheme", "nvfp4a16", "--dry-run", "--json"},
        {"quantize", none(), "-o", none(), "--scheme", "nvfp4a16", "--trace"},
        {"quantize", none(), "-o", none(), "--scheme", "nvfp4a16", "--report"},
        {"quantize", none(), "--scheme", "nvfp4a16", "--dry-run", "--trace"},
        {"quantize", "--show-stats", "--stats", none(), "--json"},
        calibrated + Words{"--save-stats"},
        calibrated + Words{"--scratch"},
        verified + Words{"--json"},
        verified + Words{"--report"},
        {"verify", none(), "--self-test", "--json"},
        verified + data + Words{"--json"},
        verified + data + Words{"--markdown"},
        verified + data + Words{"--save-logits"},
        verified + data + Words{"--scratch"},
        {"run", none(), "--tokens", small.tokens, "--dump"},
        {"inspect", none(), "--json"},
        {"inspect", none(), "--compare", none(), "--json"},
        {"dataset", none(), "--calib", small.rows, "--tokens-out"},
    };
    for (const Words & command : commands) check_refused_first(command + Words{small.nowhere}, small.nowhere);
}

TEST_CASE("data, baselines and logits that cannot be used are found before a checkpoint is opened") {
    const SmallRun & small = small_run();
    const NewPath report(small.scratch / "report.json"), logits(small.scratch / "logits");
    const Words verified = {"verify", none(), "--source", small.source, "--device", "cpu"};
    const Words data = {"--tokens", small.tokens};
    REQUIRE(run_program(small.verify(small.made) + data + Words{"--json", report, "--save-logits", logits}).exit_code ==
            0);
    const std::string bad = small.scratch.save("bad.json", "{\"schema\": 1"),
                      other = small.scratch.save("other.json", "{}");
    const std::string few = small.scratch.save("few.json", R"({"input_ids":[[5,6,7]]})");
    check_refused_first(verified + Words{"--data", small.nowhere}, small.nowhere);
    check_refused_first(verified + Words{"--tokens", small.nowhere}, small.nowhere);
    for (const char * option : {"--baseline", "--logits"})
        for (const std::string & file : {small.nowhere, bad, other})
            check_refused_first(verified + data + Words{option, file}, file, file == small.nowhere ? 2 : 3);
    check_refused_first(verified + Words{"--tokens", few, "--baseline", report}, "is about other data");
    check_refused_first(verified + Words{"--tokens", few, "--logits", logits}, "of another text");
    check_refused_first(verified + data + Words{"--precision", "bf16", "--baseline", report}, "another precision");
    check_refused_first(verified + data + Words{"--save-logits", logits}, "exists");
    check_refused_first({"tokenize", none(), "--jsonl", small.nowhere}, small.nowhere);
    check_refused_first({"run", none(), "--tokens", small.nowhere}, small.nowhere);
}

TEST_CASE("a run that fails later leaves no file behind, and an old one as it was") {
    const SmallRun & small = small_run();
    const NewPath file(small.scratch / "later.json");
    const Words data = {"--tokens", small.tokens};
    const Words failing[] = {
        {"quantize", none(), "-o", small.scratch / "x", "--scheme", "nvfp4a16", "--json", file},
        {"verify", none(), "--json", file},
        Words{"verify", none(), "--source", small.source} + data + Words{"--markdown", file},
        {"inspect", none(), "--json", file},
        Words{"verify", small.source, "--source", small.source} + data + Words{"--save-logits", file, "--ram", "1KiB"},
        Words{"quantize", none(), "-o", small.scratch / "x", "--trace", file} + data,
        Words{"quantize", none(), "-o", small.scratch / "x", "--save-stats", file} + data,
        {"run", none(), "--tokens", small.tokens, "--dump", file},
        {"dataset", none(), "--calib", small.rows, "--tokens-out", file},
    };
    for (const Words & command : failing) {
        const Ended ended = run_program(command);
        CAPTURE(ended.errors);
        CHECK(ended.exit_code == (command.back() == "1KiB" ? 4 : 2));
        CHECK_FALSE(path_exists(file));
    }
    small.scratch.save("later.json", "old");
    for (size_t i = 0; i < 4; i++) CHECK(run_program(failing[i]).exit_code == 2);
    CHECK(read_file(file, 100).value() == "old");
    CHECK(run_program(small.verify(small.made) + Words{"--json", file}).exit_code == 0); // is written over
    CHECK(read_file(file, 1 << 26).value().find("ggml-nvfp4.verify.1") != std::string::npos);
}

TEST_CASE("two outputs are not one file") {
    const SmallRun & small = small_run();
    const NewPath file(small.scratch / "both");
    const Words run = Words{"quantize", none(), "-o", none(), "--tokens", small.tokens, "--json", file};
    check_refused_first(run + Words{"--trace", file}, "--json and --trace name the same file");
    check_refused_first(run + Words{"--save-stats", file}, "--json and --save-stats name the same file");
    check_refused_first(
        {"verify", none(), "--source", none(), "--tokens", small.tokens, "--json", file, "--markdown", file},
        "--json and --markdown name the same file");
    check_refused_first(
        {"verify", none(), "--source", none(), "--tokens", small.tokens, "--json", "-", "--markdown", "-"},
        "--json and --markdown name the same file, standard output");
    check_refused_first({"verify", none(), "--json", "-", "--events", "-"},
                        "--json and --events name the same file, standard output");
    CHECK_FALSE(path_exists(file));
}

TEST_CASE("an output that cannot take all of a text is said") {
    const SmallRun & small = small_run();
    for (const Words & command : {small.verify(small.made), Words{"inspect", small.made}})
        for (const char * path : {"/dev/full", "/dev/null"})
            CHECK(run_program(command + Words{"--json", path}).exit_code == (std::string(path) == "/dev/full" ? 4 : 0));
}
