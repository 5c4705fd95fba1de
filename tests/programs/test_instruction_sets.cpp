// Every instruction set that this processor has gives the same bytes and texts.
#include "core/instruction_set.h"
#include "formats/json.h"
#include "programs/program_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

std::vector<std::string> all_instructions() {
    std::vector<std::string> names;
    for (int set = 0; set <= int(best_instruction_set()); set++)
        names.push_back(instruction_set_name(InstructionSet(set)));
    return names;
}

} // namespace

TEST_CASE("quantize, run and verify give the same with each instruction set") {
    const std::string source = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
    const SmallRun & small = small_run();
    std::map<std::string, Files> results;
    std::map<std::string, std::string> texts;
    for (const std::string & name : all_instructions()) {
        CAPTURE(name);
        const Words with = {"--instructions", name, "--threads", "2", "--device", "cpu"};
        const auto same = [&](const std::string & what, const Words & command) {
            const Ended ended = run_program(command + with);
            CAPTURE(ended.errors);
            REQUIRE(ended.exit_code == 0);
            CHECK_FALSE(ended.out.empty());
            const std::string text = without_seconds(ended.out);
            const bool equal = texts.try_emplace(what, text).first->second == text;
            CHECK_MESSAGE(equal, what);
        };
        for (const bool calibrates : {false, true}) {
            const NewPath out(small.scratch / "instructions"), report(small.scratch / "instructions.json");
            const Words data = {"--tokens", small.tokens}, weights = {"--scheme", "nvfp4a16"};
            const Ended ended = run_program(Words{"quantize", source, "-o", out, "--json", report} +
                                            (calibrates ? data : weights) + with);
            CAPTURE(ended.errors);
            REQUIRE(ended.exit_code == 0);
            const Files files = read_folder(out);
            const bool equal = results.try_emplace(calibrates ? "W4A4" : "W4A16", files).first->second == files;
            CHECK(equal);
            const JsonDocument json = JsonDocument::read(report, 1 << 20).take();
            CHECK(json.root().get("codec").take().as_string().take() == name);
            if (!calibrates) continue;
            same("verify", {"verify", out, "--source", source, "--tokens", small.tokens, "--json", "-"});
            same("run", {"run", out, "--prompt", "The function returns", "--n-predict", "8", "--quiet"});
            same("run, source", {"run", source, "--prompt", "The function", "--n-predict", "8", "--greedy", "--json"});
            const Words inspect = {"inspect", out, "--instructions", name, "--tensor"};
            const Ended values =
                run_program(inspect + Words{"model.language_model.layers.3.self_attn.q_proj", "--values", "100"});
            const bool equal_values = texts.try_emplace("inspect", values.out).first->second == values.out;
            CHECK(equal_values);
            CHECK(values.exit_code == 0);
        }
    }
    MESSAGE("instruction sets compared: ", all_instructions().size());
}

TEST_CASE("an instruction set that is not there is refused, and the switch is in no help") {
    for (const char * program : {"quantize", "verify", "run", "inspect", "dataset", "tokenize"})
        CHECK(run_program({program, "--help"}).out.find("--instructions") == std::string::npos);
    CHECK(run_program({"inspect", small_run().made, "--instructions", "neon"}).exit_code == 2);
    if (best_instruction_set() != InstructionSet::avx512)
        CHECK(run_program({"inspect", small_run().made, "--instructions", "avx512"})
                  .says("this processor lacks this instruction set"));
}
