// The program tokenize, as a shell sees it.
#include "fixture.h"
#include "run_tool.h"
#include "scratch.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// With standard output and standard error.
ToolRun tokenize(const std::string & arguments) { return run_tool("tokenize", arguments + " 2>&1"); }

} // namespace

TEST_CASE("records there and back") {
    const ScratchFolder folder;
    std::string texts, ids, decoded;
    for (const json & record : json::parse(read_all(GNV_TEST_DATA "/golden/tokens.json"))) {
        texts += json{{"text", record["text"]}}.dump() + "\n";
        std::string list;
        for (const json & id : record["tiny"]) list += (list.empty() ? "" : ", ") + id.dump();
        ids += "{\"ids\": [" + list + "]}\n";
    }
    REQUIRE(write_file_synced(folder / "texts", texts).ok());
    REQUIRE(write_file_synced(folder / "ids", ids).ok());
    ToolRun run = tokenize(tiny_folder + " --jsonl " + folder / "texts");
    CHECK(run.exit_code == 0);
    CHECK(run.out == ids);
    run = tokenize(tiny_folder + "/tokenizer.json --decode --jsonl - < " + folder / "ids");
    CHECK(run.exit_code == 0);
    // What was decoded is normalized, so that it encodes to the same ids.
    REQUIRE(write_file_synced(folder / "again", run.out).ok());
    CHECK(tokenize(tiny_folder + " --jsonl " + folder / "again").out == ids);
}

TEST_CASE("options, and lines that cannot be used") {
    const auto echo = [](const std::string & line, const std::string & options = "") {
        const ScratchFolder folder;
        REQUIRE(write_file_synced(folder / "in", "{\"text\": \"1\", \"ids\": [16]}\n" + line + "\n").ok());
        ToolRun run = tokenize(tiny_folder + " " + options + " --jsonl - < " + folder / "in");
        run.out.erase(0, run.out.find('\n') + 1); // what the first line gave
        return run;
    };
    CHECK(echo(R"({"text": "2<|im_end|>"})").out == "{\"ids\": [17, 4074]}\n");
    CHECK(echo(R"({"text": "2<|im_end|>"})", "--no-special").out.find("4074") == std::string::npos);
    const auto refused = [&](const std::string & line, const std::string & message, const std::string & options = "") {
        const ToolRun run = echo(line, options);
        CHECK(run.exit_code == 3); // an input file
        CHECK(run.out.find("error: standard input:2: ") == 0);
        CHECK_MESSAGE(run.out.find(message) != std::string::npos, run.out);
    };
    refused("{", "the line is not JSON from byte ");
    refused("", "the line is not JSON from byte ");
    refused("[1]", "not a JSON object");
    refused(R"({"prompt": 1, "other": 2})", "the record has no \"text\", only: \"prompt\", \"other\"");
    refused(R"({"text": 5})", "\"text\" is not a string");
    refused(R"({"text": "\ud800"})", "surrogate");
    refused("{\"text\": \"\xff\"}", "UTF-8");
    refused(R"({"ids": 5})", "\"ids\" is not an array", "--decode");
    refused(R"({"ids": [1, 2.5]})", "not an id: 2.5", "--decode");
    refused(R"({"ids": [1, [2]]})", "not an id: an array", "--decode");
    refused(R"({"ids": {"a": [1]}})", "\"ids\" is not an array", "--decode");
    refused(R"({"a": [1], "b": {"ids": [2]}})", "has no \"ids\", only: \"a\", \"b\"", "--decode");
    refused(R"({"ids": ["1"]})", "not an id: a string", "--decode");
    refused(R"({"ids": [-2147483649]})", "not an id: -2147483649", "--decode");
    refused(R"({"ids": [18446744073709551615]})", "not an id: 18446744073709551615", "--decode");
    CHECK(echo(R"({"a": [5, {"ids": [1]}], "ids": [17], "b": [7]})", "--decode").out == "{\"text\": \"2\"}\n");
    CHECK(echo(R"({"ids": [1], "text": "1", "ids": [17]})", "--decode").out == "{\"text\": \"2\"}\n");
    CHECK(echo(R"({"a": "1", "text": "2"})").out == "{\"ids\": [17]}\n");
    refused(R"({"ids": [99999999999]})", "not an id: 99999999999", "--decode");
    refused(R"({"ids": [4080]})", "the id 4080 at position 0 is not a token", "--decode");
}

TEST_CASE("usage") {
    CHECK(tokenize("--help").exit_code == 0);
    CHECK(tokenize("--version").out.find("tokenize (ggml-nvfp4)") == 0);
    CHECK(tokenize("").exit_code == 2);
    CHECK(tokenize("/no/such/model --jsonl -").exit_code == 2);
    const ToolRun run = tokenize(tiny_folder + " --jsonl /no/such/file");
    CHECK(run.exit_code == 2);
    CHECK(run.out.find("/no/such/file") != std::string::npos);
}
