// The length canary through the C API, and as the program verify shows it.
#include "canary/canary_fixture.h"
#include "ggml-nvfp4.h"
#include "run_tool.h"

using namespace gnv;
using namespace gnv::test;

namespace {

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

std::string text_of(gnv_text_t * text) {
    std::string out(gnv_text_data(text), gnv_text_size(text));
    gnv_text_destroy(text);
    return out;
}

} // namespace

TEST_CASE("C API: a canary, its figures, and a report that holds it") {
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    const std::string & quantized = untripped_pair().quantized;
    const char * const prompts[] = {"What is a shard?", "What is in the picture?"};
    gnv_canary_options options;
    gnv_canary_options_init(&options);
    options.prompts = prompts, options.prompt_count = 2, options.max_tokens = 20, options.max_growth = 0;
    int calls = 0;
    options.user = &calls;
    options.progress = [](void * user, const gnv_progress * progress) {
        CHECK(progress->positions <= progress->positions_total);
        CHECK(progress->tokens == progress->positions_total); // programs print tokens a second from it
        ++*static_cast<int *>(user);
        return 0;
    };
    gnv_canary_t * canary = nullptr;
    CHECK(gnv_canary_check(engine, tiny.c_str(), &options) == GNV_OK);
    REQUIRE(gnv_canary(engine, quantized.c_str(), tiny.c_str(), &options, &canary) == GNV_OK);
    CHECK(calls >= 2);
    gnv_canary_info info = {};
    CHECK(gnv_canary_get_info(canary, &info) == GNV_INVALID_ARGUMENT); // no struct_size
    info.struct_size = sizeof info;
    REQUIRE(gnv_canary_get_info(canary, &info) == GNV_OK);
    CHECK(info.prompts == 2);
    CHECK(info.lines == (GNV_LINE_W4A4 | GNV_LINE_W4A16));
    CHECK(info.gates == 1);
    CHECK(info.failed_gates == 1);
    CHECK(info.suspicions == 0);
    gnv_canary_line line = {};
    line.struct_size = sizeof line;
    CHECK(gnv_canary_get_line(canary, GNV_LINE_BF16, &line) == GNV_NOT_FOUND);
    REQUIRE(gnv_canary_get_line(canary, gnv_line(0), &line) == GNV_OK);
    CHECK(line.mean_tokens == 13.5); // 15 and 12
    CHECK(line.equal == 1);
    gnv_text_t * text = nullptr;
    CHECK(gnv_canary_text(canary, gnv_text_format(3), &text) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_canary_text(canary, GNV_TEXT_JSON, &text) == GNV_OK);
    const Json json = Json::parse(text_of(text));
    REQUIRE(gnv_canary_text(canary, GNV_TEXT_MARKDOWN, &text) == GNV_OK);
    CHECK(has(text_of(text), "| source | 13.5 |"));

    gnv_report_t * report = nullptr;
    REQUIRE(gnv_verify(engine, quantized.c_str(), nullptr, nullptr, &report) == GNV_OK);
    CHECK(gnv_report_add_canary(report, nullptr) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_report_add_canary(report, canary) == GNV_OK);
    gnv_canary_destroy(canary);
    REQUIRE(gnv_report_text(report, GNV_TEXT_JSON, &text) == GNV_OK);
    const Json whole = Json::parse(text_of(text));
    CHECK(whole["canary"] == json);
    CHECK_FALSE(has(whole["not_checked"].dump(), "no forward pass"));
    gnv_report_info of_report = {};
    of_report.struct_size = sizeof of_report;
    REQUIRE(gnv_report_get_info(report, &of_report) == GNV_OK);
    CHECK(of_report.failed_gates == 1);
    gnv_report_destroy(report);

    const auto refused = [&](const std::function<void(gnv_canary_options &)> & change, const char * part) {
        gnv_canary_options changed = options;
        change(changed);
        CHECK(gnv_canary(engine, quantized.c_str(), tiny.c_str(), &changed, &canary) == GNV_INVALID_ARGUMENT);
        CHECK_MESSAGE(has(gnv_last_error(engine), part), std::string(gnv_last_error(engine)));
        CHECK(canary == nullptr);
        CHECK(gnv_canary_check(engine, tiny.c_str(), &changed) == GNV_INVALID_ARGUMENT);
    };
    refused([](auto & o) { o.prompts = nullptr; }, "prompts");
    refused([](auto & o) { o.max_growth = std::nan(""); }, "max_growth");
    refused([](auto & o) { o.max_tokens = 1 << 20; }, "max_tokens");
    refused([](auto & o) { o.lines = GNV_LINE_BF16; }, "lines");
    refused([](auto & o) { o.thinking = 2; }, "thinking");
    refused([](auto & o) { o.precision = gnv_precision(9); }, "precision");
    CHECK(gnv_canary(engine, nullptr, tiny.c_str(), &options, &canary) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_canary(engine, quantized.c_str(), nullptr, &options, &canary) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_canary(engine, quantized.c_str(), "/nonexistent", &options, &canary) == GNV_NOT_FOUND);
    CHECK(gnv_canary_get_info(nullptr, &info) == GNV_INVALID_ARGUMENT);
    options.progress = [](void *, const gnv_progress *) { return 1; };
    CHECK(gnv_canary(engine, quantized.c_str(), tiny.c_str(), &options, &canary) == GNV_CANCELLED);
    gnv_engine_destroy(engine);
}

#ifdef GNV_TEST_VERIFY_TOOL
TEST_CASE("verify --canary: text, JSON, Markdown, exit codes, and files of prompts") {
    const ScratchFolder scratch;
    const std::string prompts = scratch.save("prompts.txt", "What is a shard?\r\n\nWhat is in the picture?\n");
    const std::string same =
        scratch.save("same.jsonl", "\"What is a shard?\"\n{\"prompt\": \"What is in the picture?\"}\n");
    const std::string base =
        untripped_pair().quantized + " --source " + tiny + " --device cpu --canary=20 --canary-prompts ";
    ToolRun run = run_tool("verify", base + prompts + " --json " + (scratch / "a.json") + " 2>&1");
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    run = run_tool("verify", base + same + " --json - --markdown " + (scratch / "a.md"));
    CHECK(run.exit_code == 0);
    const Json a = Json::parse(read_file(scratch / "a.json", 1 << 26).value()), b = Json::parse(run.out);
    CHECK(a["canary"] == b["canary"]);
    CHECK(a["canary"]["max_tokens"] == 20);
    CHECK(a["canary"]["lines"]["source"]["mean_tokens"] == 13.5);
    CHECK(has(read_file(scratch / "a.md", 1 << 20).value(), "| source | 13.5 |"));
    run = run_tool("verify", base + prompts + " --lines w4a16 --max-canary-growth 0.5 2>/dev/null");
    CHECK(run.exit_code == 1);
    CHECK(has(run.out, "FAILED      canary-growth: answers of W4A16 have"));
    CHECK_FALSE(has(run.out, "W4A4 "));
    const auto refused = [&](const std::string & arguments, const std::string & part, int exit_code = 2) {
        const ToolRun bad = run_tool("verify", arguments + " 2>&1");
        CHECK(bad.exit_code == exit_code);
        CHECK_MESSAGE(has(bad.out, part), bad.out);
    };
    const std::string plain = untripped_pair().quantized;
    refused(plain + " --canary", "--canary needs --source");
    refused(plain + " --source " + tiny + " --canary --structure", "does not go with --structure");
    refused(plain + " --source " + tiny + " --canary=0", "--canary 0: expected a whole number from 1");
    for (const char * const bad : {"65537", "-1", "x", "1e3"})
        refused(plain + " --source " + tiny + " --canary=" + bad,
                std::string("--canary ") + bad + ": expected a whole number from 1");
    refused(base + (scratch / "none"), "--canary-prompts " + (scratch / "none"));
    refused(base + scratch.save("empty.txt", "\n"), "has no prompt", 3);
    refused(base + scratch.save("bad.jsonl", "\"a\"\n[1]\n"), "line 2: neither a JSON string", 3);
    refused(base + scratch.save("long.txt", "a\n" + std::string(2 << 20, 'a')), "line 2: longer than 1 MiB", 3);
    refused(base + scratch.save("bytes.txt", "a\xff\n"), "prompt 1");
}
#endif
