// ggml-nvfp4 COMMAND: all programs in one. Links to it are tested where they are installed (tests/install/run.cmake).
#include "programs/program.h"

using namespace gnv::test;

namespace {

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("ggml-nvfp4 lists its commands, and each of them is the program of that name") {
    const Ended help = run_program({"ggml-nvfp4", "--help"});
    CHECK(help.exit_code == 0);
    CHECK(help.errors == "");
    for (const char * command : {"quantize", "verify", "run", "inspect", "dataset", "tokenize"}) {
        CAPTURE(command);
        CHECK(has(help.out, std::string("\n  ") + command + " "));
        const Ended alone = run_program({command, "--help"});
        for (const Words & words : {Words{"ggml-nvfp4", command, "--help"}, Words{"ggml-nvfp4", "help", command}}) {
            Ended inside = run_program(words);
            CHECK(inside.exit_code == 0);
            const std::string prefix = "ggml-nvfp4 ", name = prefix + command + " ";
            CHECK(has(inside.out, "Usage: " + name));
            // The usage and the examples say how it was called.
            for (size_t at; (at = inside.out.find(name)) != std::string::npos;) inside.out.erase(at, prefix.size());
            CHECK(inside.out == alone.out);
        }
    }
}

TEST_CASE("--version says what the build contains, alike for ggml-nvfp4, its commands and the single programs") {
    const Ended version = run_program({"ggml-nvfp4", "--version"});
    CHECK(version.exit_code == 0);
    CHECK(version.out.find("ggml-nvfp4 0.") == 0);
    for (const char * part : {", codec ", "CUDA", "\nlibraries: simdjson 3.", "PCRE2 10.", "libcrypto of OpenSSL 3."})
        CHECK(has(version.out, part));
    const std::string parts = version.out.substr(version.out.find('\n'));
    CHECK(run_program({"ggml-nvfp4", "verify", "--version"}).out.find("ggml-nvfp4 verify 0.") == 0);
    CHECK(has(run_program({"ggml-nvfp4", "verify", "--version"}).out, parts));
    CHECK(has(run_program({"verify", "--version"}).out, parts));
}

TEST_CASE("without a command, or with one that is none, ggml-nvfp4 lists the commands and fails") {
    for (const Words & words : {Words{"ggml-nvfp4"}, Words{"ggml-nvfp4", "quantise"}, Words{"ggml-nvfp4", "--quiet"},
                                Words{"ggml-nvfp4", "help", "quantise"}}) {
        const Ended ended = run_program(words);
        CHECK(ended.exit_code == 2);
        CHECK(ended.out == "");
        CHECK(ended.says("\n  quantize  "));
        CHECK(
            ended.says(words.size() == 1 ? "error: a command is missing" : "error: no such command: " + words.back()));
        CHECK(ended.says("did you mean quantize?") == (words.back() == "quantise"));
    }
}
