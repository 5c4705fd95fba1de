// The program inspect, as a shell sees it.
#include "inspect_fixture.h"
#include "run_tool.h"

#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

namespace {

// With standard output and standard error.
ToolRun inspect(const std::string & arguments) { return run_tool("inspect", arguments + " 2>&1"); }

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

nlohmann::json read_json(const std::string & path) {
    return nlohmann::json::parse(read_file(path, 100'000'000).value());
}

} // namespace

TEST_CASE("lists: a summary, every tensor, a filter, JSON") {
    const ScratchFolder scratch;
    ToolRun run = inspect(tiny_folder);
    CHECK(run.exit_code == 0);
    CHECK(has(run.out, "205 tensors"));
    CHECK(has(run.out, "experts gate_up"));
    CHECK_FALSE(has(run.out, "lm_head.weight"));
    CHECK(has(inspect(tiny_folder + " --tensors").out, "lm_head.weight"));
    run = inspect(tiny_folder + " --filter lm_");
    CHECK(has(run.out, "lm_head.weight"));
    CHECK_FALSE(has(run.out, "embed_tokens"));
    run = inspect(golden_folder + " --json " + scratch / "list.json");
    CHECK(run.exit_code == 0);
    CHECK(run.out.empty());
    CHECK(read_json(scratch / "list.json")["kind"] == "contents");
}

TEST_CASE("one tensor: statistics and values, by number and by row") {
    const ScratchFolder scratch;
    const std::string gate = " --tensor model.language_model.layers.0.mlp.gate.weight ";
    ToolRun run = inspect(tiny_folder + gate);
    CHECK(run.exit_code == 0);
    CHECK(has(run.out, "standard deviation"));
    CHECK_FALSE(has(run.out, "[0, 0]"));
    // expert 17's up_proj is dequantized
    run = inspect(golden_folder + " --tensor " + layer3 + "mlp.experts.17.up_proj --values 3");
    CHECK(has(run.out, "\n[0, 0] 0.0535714291 0.00446428591 -0.0267857146\n"));
    run = inspect(golden_folder + " --tensor " + layer3 + "mlp.experts.17.up_proj --values 3:4");
    CHECK(has(run.out, "\n[3, 0] "));
    CHECK(has(run.out, "\n[3, 240] "));
    CHECK_FALSE(has(run.out, "[4, 0]"));
    run = inspect(golden_folder + " --tensor " + layer3 + "self_attn.q_proj.weight_global_scale --values");
    CHECK(run.exit_code == 0);
    CHECK(has(run.out, "\n[0, 0] 7040\n"));
    for (const char * values : {"x", "3:", "4:3", "-1", "1:2:3"})
        CHECK(inspect(tiny_folder + gate + "--values=" + values).exit_code == 2);
    CHECK(inspect(tiny_folder + gate + "--json " + scratch / "one.json").exit_code == 0);
    CHECK(read_json(scratch / "one.json")["elements"] == 8192);
}

TEST_CASE("comparisons: exit codes tell equal from different") {
    const ScratchFolder scratch;
    CHECK(inspect(tiny_folder + " --compare " + tiny_folder).exit_code == 0);
    ToolRun run = inspect(golden_folder + " --compare " + tiny_folder);
    CHECK(run.exit_code == 1);
    CHECK(has(run.out, "16 quantized on one side"));
    CHECK(has(run.out, "SQNR"));
    // Quantization alone is no finding.
    run = inspect(golden_folder +
                  " --filter '.*[.]layers[.]3[.](self_attn[.]q_proj|mlp[.]experts[.]17[.]up_proj)$' --compare " +
                  tiny_folder);
    CHECK(run.exit_code == 0);
    CHECK(has(run.out, "2 quantized on one side"));
    CHECK(inspect(golden_folder + " --compare " + tiny_folder + " --json " + scratch / "c.json").exit_code == 1);
    CHECK(read_json(scratch / "c.json")["quantized"].size() == 16);
}

TEST_CASE("one file of tensors, as run --dump writes it, stands for a folder") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(golden_folder);
    tensors.resize(3);
    const auto save = [&](const std::string & name) {
        REQUIRE(make_directory(scratch / name).ok());
        save_tensors(scratch / name, tensors, 1);
        return scratch / (name + "/model.safetensors");
    };
    const std::string one = save("one");
    tensors[0].data[0] = char(tensors[0].data[0] ^ 1);
    const std::string other = save("other");
    scratch.save("one/config.json", "no JSON"); // of no concern
    ToolRun run = inspect(one);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK(has(run.out, one + ": 3 tensors"));
    CHECK(has(run.out, "roles are not known"));
    run = inspect(one + " --tensor " + tensors[0].name);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    run = inspect(one + " --compare " + other);
    CHECK_MESSAGE(run.exit_code == 1, run.out);
    CHECK(has(run.out, tensors[0].name));
    CHECK(inspect(one + " --compare " + one).exit_code == 0);
    CHECK(inspect(one + " --compare " + (scratch / "one")).exit_code == 0);
    REQUIRE(truncate(one.c_str(), 20) == 0);
    run = inspect(one);
    CHECK_MESSAGE(run.exit_code != 0, run.out);
    CHECK(has(run.out, one));
    run = inspect(scratch / "absent.safetensors");
    CHECK(run.exit_code == 2);
    CHECK_MESSAGE(has(run.out, "absent.safetensors"), run.out);
}

TEST_CASE("usage, missing folders and names end with 2 and a message") {
    for (const auto & [arguments, message] : std::vector<std::pair<std::string, std::string>>{
             {"", "DIR"},
             {"/nonexistent", "/nonexistent is not a folder"},
             {tiny_folder + " --tensor no.such", "neither a tensor nor a quantized module no.such"},
             {tiny_folder + " --compare /nonexistent", "/nonexistent is not a folder"},
             {tiny_folder + " --filter '('", "pattern \"(\""},
             {tiny_folder + " --values 3", "--tensor"},
             {tiny_folder + " --tensor lm_head.weight --compare x", "exclude each other"},
             {tiny_folder + " --tensor lm_head.weight --values 3 --json -", "standard output"},
             {tiny_folder + " --json /nonexistent/x", "cannot write /nonexistent/x"}}) {
        const ToolRun run = inspect(arguments);
        CAPTURE(run.out);
        CHECK(run.exit_code == 2);
        CHECK(has(run.out, message));
    }
}
