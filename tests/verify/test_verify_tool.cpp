// The program verify, as a shell sees it: exit codes, tables and files.
#include "core/sha256.h"
#include "run_tool.h"
#include "verify_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// With standard output only.
ToolRun run_verify(const std::string & arguments) { return run_tool("verify", arguments + " 2>/dev/null"); }

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("0 for a good checkpoint, with a table or with JSON") {
    const std::string good = fused_pair().quantized + " --source " + fused_pair().source;
    const ToolRun table = run_verify(good);
    CHECK(table.exit_code == 0);
    CHECK(has(table.out, "800 of 800 Linears that config.json declares are quantized"));
    CHECK(has(table.out, "157 preserved tensors"));
    CHECK(table.out.rfind("Passed: no errors, no warnings\n\n", 0) == 0);
    CHECK(run_verify(good + " --quiet").out.empty());
    const ToolRun json = run_verify(good + " --json - --threads 1");
    CHECK(json.exit_code == 0);
    const Json document = Json::parse(json.out);
    CHECK(document["schema"] == "ggml-nvfp4.verify.1");
    CHECK(document["errors"] == 0);
    CHECK(document["modules"].size() == 800);
    CHECK(document["preserved"].size() == 157);
    CHECK(document["checks"].size() == 21);
    CHECK(document["passed"] == true);
    std::map<std::string, std::string> checksums;
    for (const MemoryTensor & tensor : load_tensors(fused_pair().source))
        checksums[tensor.name] = sha256_hex(tensor.data.data(), tensor.data.size());
    size_t as_in_source = 0;
    for (const Json & entry : document["preserved"]) as_in_source += entry["sha256"] == checksums[entry["name"]];
    CHECK(as_in_source == 157);
    const ScratchFolder scratch;
    CHECK(has(run_verify(good + " --structure --json " + scratch / "report.json").out, "Not checked"));
    CHECK(Json::parse(read_file(scratch / "report.json", 1 << 24).value())["checks"][5]["reason"] ==
          "only the structure was asked for");
}

TEST_CASE("1 for findings: errors, and with --strict warnings") {
    const ScratchFolder scratch;
    copy_other_files(fused_pair().quantized, scratch.path());
    save_tensors(scratch.path(), load_tensors(fused_pair().quantized), 2);
    CHECK(remove_file(scratch / "generation_config.json").ok());
    const std::string folder = scratch.path();
    const std::string doubt = "L14  generation_config.json: is missing";
    const ToolRun passed = run_verify(folder + " --structure");
    CHECK(passed.exit_code == 0); // a warning
    CHECK(passed.out.rfind("Passed: no errors, 1 warning; " + doubt, 0) == 0);
    const std::string json = scratch / "report.json", page = scratch / "report.html";
    const ToolRun strict = run_verify(folder + " --structure --strict --report " + page + " --json " + json);
    CHECK(strict.exit_code == 1);
    const std::string verdict = "Failed: no errors, 1 warning, which fails here (--strict); " + doubt;
    CHECK(strict.out.rfind(verdict, 0) == 0);
    CHECK(Json::parse(read_file(json, 1 << 24).value())["passed"] == false);
    CHECK(has(read_file(page, 1 << 24).value(),
              "failed: 0 errors, 1 warning; warnings and suspicious figures fail (--strict)"));
    // --quiet leaves out what is no fault.
    const std::string warning = "warning: " + folder + ": " + doubt + "\n";
    CHECK(run_verify(folder + " --structure --quiet").out == "");
    CHECK(run_tool("verify", folder + " --structure --quiet 2>&1").out == warning);
    CHECK(run_tool("verify", folder + " --structure --quiet --strict 2>&1").out ==
          warning + "error: " + folder + ": " + verdict + "\n");
    CHECK(remove_file(json).ok());
    CHECK(remove_file(page).ok());
    CHECK(remove_file(scratch / "tokenizer.json").ok());
    const ToolRun run = run_verify(folder + " --structure");
    CHECK(run.exit_code == 1);
    // The verdict with the first error, then the findings, then the rest.
    CHECK(run.out.rfind("Failed: 1 error, 1 warning; L14  tokenizer.json: is missing", 0) == 0);
    CHECK(run.out.find("error L14  tokenizer.json: is missing") < run.out.find("Linears"));
    CHECK(run_verify(folder + " --structure --quiet").out == "");
    CHECK(has(run_tool("verify", folder + " --structure --quiet 2>&1").out, "error: " + folder + ": Failed: 1 error"));
    CHECK(has(run.out, "    repair: copy the file from the source"));
    CHECK(remove_file(scratch / "model-00002-of-00002.safetensors").ok());
    CHECK(has(run_verify(folder).out, "not checked: the safetensors headers cannot be used"));
}

TEST_CASE("2 for usage, input and output") {
    const ScratchFolder empty;
    CHECK(run_verify("").exit_code == 2);
    CHECK(run_verify("--no-such-option").exit_code == 2);
    CHECK(run_verify(empty / "absent").exit_code == 2);
    CHECK(run_verify(empty.path()).exit_code == 2);
    CHECK(run_verify(fused_pair().quantized + " --source " + empty.path()).exit_code == 2);
    CHECK(run_verify(fused_pair().quantized + " --structure --json " + empty / "no/such/folder").exit_code == 2);
    CHECK(run_verify("--help").exit_code == 0);
    CHECK(run_verify("--version").exit_code == 0);
}

TEST_CASE("--self-test: 0 when every fault is found") {
    const ToolRun run = run_verify(odd_pair().quantized + " --source " + odd_pair().source + " --self-test");
    CHECK(run.exit_code == 0);
    CHECK(has(run.out, " 0 escaped"));
    const ScratchFolder damaged; // no config.json: nothing to go by
    save_tensors(damaged.path(), load_tensors(odd_pair().quantized), 1);
    CHECK(run_verify(damaged.path() + " --self-test").exit_code == 3);
}
