// The comparison through the C API, and as the program verify shows it.
#include "evaluate/evaluate_fixture.h"
#include "ggml-nvfp4.h"
#include "run_tool.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct Engine {
    gnv_engine_t * engine = nullptr;
    gnv_tokenizer_t * tokenizer = nullptr;
    gnv_dataset_t * dataset = nullptr;

    Engine() {
        REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
        REQUIRE(gnv_tokenizer_load(engine, tiny.c_str(), &tokenizer) == GNV_OK);
        gnv_dataset_options options;
        gnv_dataset_options_init(&options);
        const char * const source = GNV_TEST_DATA "/eval.jsonl.zst";
        options.sources = &source;
        options.source_count = 1;
        options.samples = 2;
        options.sequence_length = 64;
        options.no_shuffle = 1;
        REQUIRE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK);
    }
    ~Engine() {
        gnv_dataset_destroy(dataset);
        gnv_tokenizer_destroy(tokenizer);
        gnv_engine_destroy(engine);
    }
    Engine(const Engine &) = delete;
    Engine & operator=(const Engine &) = delete;
};

std::string text_of(gnv_text_t * text) {
    std::string out(gnv_text_data(text), gnv_text_size(text));
    gnv_text_destroy(text);
    return out;
}

} // namespace

TEST_CASE("C API: a comparison, its figures, and a report that holds it") {
    const Engine e;
    gnv_evaluate_options options;
    gnv_evaluate_options_init(&options);
    options.dataset = e.dataset;
    options.max_kl = 0;
    options.min_top1 = 0;
    int calls = 0;
    options.user = &calls;
    options.progress = [](void * user, const gnv_progress * progress) {
        CHECK(progress->positions <= progress->positions_total);
        ++*static_cast<int *>(user);
        return 0;
    };
    gnv_evaluation_t * evaluation = nullptr;
    const std::string & quantized = untripped_pair().quantized;
    REQUIRE(gnv_evaluate(e.engine, quantized.c_str(), tiny.c_str(), &options, &evaluation) == GNV_OK);
    CHECK(calls >= 2); // the first and the last, whatever the time between them
    gnv_evaluation_info info = {};
    CHECK(gnv_evaluation_get_info(evaluation, &info) == GNV_INVALID_ARGUMENT); // no struct_size
    info.struct_size = sizeof info;
    REQUIRE(gnv_evaluation_get_info(evaluation, &info) == GNV_OK);
    CHECK(info.lines == (GNV_LINE_W4A4 | GNV_LINE_W4A16 | GNV_LINE_ACTIVATIONS));
    CHECK(info.windows == 2);
    CHECK(info.positions == 128);
    CHECK(info.predictions == 126);
    CHECK(info.gates == 2);
    CHECK(info.failed_gates == 1);
    gnv_evaluation_line line = {};
    line.struct_size = sizeof line;
    CHECK(gnv_evaluation_get_line(evaluation, GNV_LINE_BF16, &line) == GNV_NOT_FOUND);
    REQUIRE(gnv_evaluation_get_line(evaluation, GNV_LINE_W4A4, &line) == GNV_OK);
    gnv_text_t * text = nullptr;
    REQUIRE(gnv_evaluation_text(evaluation, GNV_TEXT_JSON, &text) == GNV_OK);
    const Json json = Json::parse(text_of(text));
    CHECK(json["schema"] == "ggml-nvfp4.evaluation.1");
    CHECK(json["lines"]["w4a4"]["all"]["kl"]["mean"] == line.kl);
    CHECK(json["lines"]["w4a4"]["worst_layer"] == line.worst_layer);
    REQUIRE(gnv_evaluation_text(evaluation, GNV_TEXT_MARKDOWN, &text) == GNV_OK);
    CHECK(starts_with(text_of(text), "|  | W4A4 | W4A16 | activations only |\n|---|---:|---:|---:|\n| Mean KL"));

    gnv_report_t * report = nullptr;
    REQUIRE(gnv_verify(e.engine, quantized.c_str(), tiny.c_str(), nullptr, &report) == GNV_OK);
    REQUIRE(gnv_report_add_evaluation(report, evaluation) == GNV_OK);
    gnv_evaluation_destroy(evaluation);
    gnv_report_info summary = {};
    summary.struct_size = sizeof summary;
    REQUIRE(gnv_report_get_info(report, &summary) == GNV_OK);
    CHECK(summary.failed_gates == 1);
    REQUIRE(gnv_report_text(report, GNV_TEXT_JSON, &text) == GNV_OK);
    const Json whole = Json::parse(text_of(text));
    CHECK(whole["output"] == json);
    CHECK(whole["not_checked"].empty());
    REQUIRE(gnv_report_text(report, GNV_TEXT_PLAIN, &text) == GNV_OK);
    CHECK(text_of(text).find("Mean    KLD") != std::string::npos);
    gnv_report_destroy(report);
}

TEST_CASE("C API: what is refused") {
    const Engine e;
    gnv_evaluate_options options;
    gnv_evaluate_options_init(&options);
    gnv_evaluation_t * evaluation = nullptr;
    const char * const folder = untripped_pair().quantized.c_str();
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), nullptr, &evaluation) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_INVALID_ARGUMENT); // no data
    options.dataset = e.dataset;
    CHECK(gnv_evaluate(e.engine, folder, nullptr, &options, &evaluation) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_evaluate(e.engine, folder, "no/such/folder", &options, &evaluation) == GNV_NOT_FOUND);
    options.device = -1;
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_INVALID_ARGUMENT);
    int32_t devices = 0;
    REQUIRE(gnv_device_count(e.engine, &devices) == GNV_OK);
    options.device = devices; // one behind the last
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) != GNV_OK);
    if (devices > 1) { // and full precision is the CPU's
        options.device = 1;
        CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_UNSUPPORTED);
    }
    options.device = 0;
    options.lines = 64;
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_INVALID_ARGUMENT);
    options.lines = GNV_LINE_W4A16;
    options.progress = [](void *, const gnv_progress *) { return 1; };
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_CANCELLED);
    options.progress = nullptr;
    CHECK(gnv_evaluate_check(e.engine, &options) == GNV_OK);
    const ScratchFolder scratch;
    const std::string bad = scratch.save("bad.json", "{"), nowhere = scratch / "nowhere/file";
    options.baseline = bad.c_str();
    CHECK(gnv_evaluate_check(e.engine, &options) == GNV_FORMAT);
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_FORMAT);
    options.baseline = nullptr;
    options.save_logits = nowhere.c_str();
    CHECK(gnv_evaluate_check(e.engine, &options) == GNV_NOT_FOUND);
    options.save_logits = nullptr;
    options.dataset = nullptr;
    CHECK(gnv_evaluate_check(e.engine, &options) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_evaluate_check(e.engine, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_evaluate_check(nullptr, &options) == GNV_INVALID_ARGUMENT);
    options.dataset = e.dataset;
    options.ram_bytes = 1000;
    CHECK(gnv_evaluate(e.engine, folder, tiny.c_str(), &options, &evaluation) == GNV_OUT_OF_MEMORY);
    CHECK(evaluation == nullptr);
}

#ifdef GNV_TEST_VERIFY_TOOL
TEST_CASE("verify --data: table, files and exit codes") {
    const ScratchFolder scratch;
    const std::string any = untripped_pair().quantized + " --quiet --source " + tiny +
                            " --data " GNV_TEST_DATA "/eval.jsonl.zst --documents 2 --tokens-per-document 64";
    const std::string base = any + " --precision fp32";
    const ToolRun run = run_tool("verify", base + " --max-kl 1 --json " + (scratch / "a.json") + " --markdown " +
                                               (scratch / "a.md") + " --save-logits " + (scratch / "a.logits"));
    CHECK(run.exit_code == 0);
    const Json json = Json::parse(read_file(scratch / "a.json", 1 << 24).value());
    CHECK(json["output"]["positions"] == 128);
    CHECK(json["output"]["device"] == "CPU");
    CHECK(json["output"]["precision"] == "fp32");
    const std::string markdown = read_file(scratch / "a.md", 1 << 20).value();
    CHECK(markdown.find("| Same top token |") != std::string::npos);
    CHECK(markdown.find("FP32 arithmetic on the CPU") != std::string::npos);
    CHECK(run_tool("verify", base + " --max-kl 0.001").exit_code == 1);
    // Against itself, with the whole report of verify as baseline.
    const ToolRun again = run_tool("verify", base + " --lines w4a4,w4a16 --baseline " + (scratch / "a.json") +
                                                 " --logits " + (scratch / "a.logits") + " --markdown -");
    CHECK(again.exit_code == 0);
    CHECK(starts_with(again.out, "|  | W4A4 | W4A16 |\n"));
    const std::string quiet = " 2>/dev/null";
    CHECK(run_tool("verify", base + " --structure" + quiet).exit_code == 2);
    CHECK(run_tool("verify", tiny + " --data x.jsonl" + quiet).exit_code == 2);
    CHECK(run_tool("verify", base + " --baseline " + (scratch / "none.json") + quiet).exit_code == 2);
    CHECK(run_tool("verify", base + " --lines w8a8" + quiet).exit_code == 2);
    CHECK(run_tool("verify", base + " --device cuda:99" + quiet).exit_code == 2);
    CHECK(run_tool("verify", base + " --device gpu" + quiet).exit_code == 2);
    CHECK(run_tool("verify", tiny + " --structure --device gpu" + quiet).exit_code == 2); // also where none is needed
    // The source's predictions in another arithmetic stand for nothing.
    const ToolRun mixed = run_tool("verify", any + " --device cpu --precision bf16 --logits " + (scratch / "a.logits") +
                                                 " 2>&1 >/dev/null");
    CHECK(mixed.exit_code == 2);
    CHECK(mixed.out.find("computed in fp32, this run computes in bf16") != std::string::npos);
    const ToolRun baseline = run_tool("verify", any + " --device cpu --precision bf16 --baseline " +
                                                    (scratch / "a.json") + " 2>&1 >/dev/null");
    CHECK(baseline.exit_code == 2);
    CHECK(baseline.out.find("another precision, fp32; this run computes in bf16: use the same --precision") !=
          std::string::npos);
}
#endif
