// Pages of reports: well-formed, complete in themselves, and with the facts of the JSON document.
#include "core/strings.h"
#include "evaluate/evaluate_fixture.h"
#include "ggml-nvfp4.h"
#include "report/charts.h"
#include "report/figure_text.h"
#include "report/page_checker.h"
#include "report/report_file.h"

using namespace gnv;
using namespace gnv::test;

namespace {

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

std::string page_of(const Json & document) {
    const Result<std::string> page = report_page(document.dump());
    REQUIRE_MESSAGE(page.ok(), page.status().message());
    CHECK(joined(faults_of_page(page.value())) == "");
    return page.value();
}

struct Made {
    std::string json, page;
};

// A check of the small checkpoint with everything that a page can show, by the C API.
const Made & checked() {
    static Made made;
    if (!made.json.empty()) return made;
    const ScratchFolder scratch;
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, tiny.c_str(), &tokenizer) == GNV_OK);
    gnv_dataset_options data;
    gnv_dataset_options_init(&data);
    const char * const source = GNV_TEST_DATA "/eval.jsonl.zst";
    data.sources = &source, data.source_count = 1, data.samples = 3, data.sequence_length = 48, data.no_shuffle = 1;
    gnv_dataset_t * dataset = nullptr;
    REQUIRE(gnv_dataset_open(engine, tokenizer, &data, &dataset) == GNV_OK);
    const std::string checkpoint = untripped_pair().quantized, page = scratch / "report.html",
                      json = scratch / "report.json";
    gnv_verify_options options;
    gnv_verify_options_init(&options);
    options.report_file = page.c_str();
    gnv_report_t * report = nullptr;
    REQUIRE(gnv_verify(engine, checkpoint.c_str(), tiny.c_str(), &options, &report) == GNV_OK);
    gnv_evaluate_options evaluate;
    gnv_evaluate_options_init(&evaluate);
    evaluate.dataset = dataset, evaluate.contexts = 4, evaluate.sensitivity_ranges = 1;
    evaluate.max_kl = 1e9;
    gnv_evaluation_t * evaluation = nullptr;
    REQUIRE(gnv_evaluate(engine, checkpoint.c_str(), tiny.c_str(), &evaluate, &evaluation) == GNV_OK);
    REQUIRE(gnv_report_add_evaluation(report, evaluation) == GNV_OK);
    gnv_canary_options answers;
    gnv_canary_options_init(&answers);
    const char * const prompts[] = {"What is a shard?", "What is a recipe?"};
    answers.prompts = prompts, answers.prompt_count = 2, answers.max_tokens = 16, answers.max_growth = 100;
    gnv_canary_t * canary = nullptr;
    REQUIRE(gnv_canary(engine, checkpoint.c_str(), tiny.c_str(), &answers, &canary) == GNV_OK);
    REQUIRE(gnv_report_add_canary(report, canary) == GNV_OK);
    gnv_canary_destroy(canary);
    REQUIRE(gnv_report_write(report, page.c_str()) == GNV_OK);
    REQUIRE(gnv_report_write(report, json.c_str()) == GNV_OK);
    CHECK(gnv_report_write(report, page.c_str()) == GNV_ALREADY_EXISTS);
    CHECK(gnv_report_write(report, (page + ".txt").c_str()) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_report_write(report, nullptr) == GNV_INVALID_ARGUMENT);
    // The name is refused before the work.
    gnv_report_t * none = nullptr;
    CHECK(gnv_verify(engine, checkpoint.c_str(), nullptr, &options, &none) == GNV_ALREADY_EXISTS);
    CHECK(none == nullptr);
    gnv_evaluation_destroy(evaluation);
    gnv_report_destroy(report);
    gnv_dataset_destroy(dataset);
    gnv_tokenizer_destroy(tokenizer);
    gnv_engine_destroy(engine);
    made = {read_file(json, 1 << 26).value(), read_file(page, 1 << 26).value()};
    return made;
}

// Every value that is not a list or an object, by `change`.
void change_all(Json & value, const std::function<void(Json &)> & change) {
    if (value.is_structured()) {
        for (Json & child : value) change_all(child, change);
    } else {
        change(value);
    }
}

} // namespace

TEST_CASE("a page of verify is well-formed, equal for equal facts, and has all blocks") {
    const Made & made = checked();
    CHECK(joined(faults_of_page(made.page)) == "");
    CHECK(report_page(made.json).value() == made.page);
    for (const char * const title : {"The run", "Engines", "Predictions", "Answers", "Layers", "Experts and inputs",
                                     "Sensitivity", "Weights", "Scales", "Coverage", "Checks", "Not checked"})
        CHECK_MESSAGE(has(made.page, std::string("<h2>") + title + "</h2>"), std::string(title));
    for (const char * const title :
         {"SQNR of weights by role", "SQNR of weights by layer", "Error of each expert&#39;s weights",
          "Tokens of each expert", "Weight scales", "Input scales", "KL of positions, W4A4",
          "KL by position in the text", "KL by document, W4A4", "Router agreement: the same set of experts",
          "KL saved by leaving a group in the source&#39;s precision"})
        CHECK_MESSAGE(has(made.page, std::string("<title>") + title), std::string(title));
    CHECK(has(made.page, "prefers-color-scheme: dark"));
    CHECK(has(made.page, "Content-Security-Policy"));
}

TEST_CASE("the page shows the figures of the JSON document") {
    const Made & made = checked();
    const Json facts = Json::parse(made.json);
    const Json & output = facts["output"];
    size_t shown = 0;
    const auto check_figure = [&](const Json & value, const std::string & text) {
        CAPTURE(value);
        CHECK_MESSAGE(has(made.page, text), text);
        shown++;
    };
    for (const auto & [name, line] : output["lines"].items()) {
        check_figure(line["all"]["kl"],
                     figure_text(line["all"]["kl"]["mean"]) + " \u00b1 " + figure_text(line["all"]["kl"]["error"]));
        check_figure(line["all"]["same_top"], percent_text(line["all"]["same_top"]["mean"]));
    }
    for (const Json & row : facts["by_role"]) {
        check_figure(row, "<td class=\"n\">" + figure_text(row["sqnr_db"]) + "</td>");
        check_figure(row, figure_text(row["relative_error"]["p99"]));
    }
    for (const Json & row : output["sensitivity"]["groups"]) check_figure(row, figure_text(row["kl_saved"]["mean"]));
    for (const auto & [name, line] : facts["canary"]["lines"].items()) {
        check_figure(line, "<td class=\"n\">" + figure_text(line["mean_tokens"]) + "</td>");
        check_figure(line, percent_text(line["capped"]));
    }
    for (const Json & row : facts["canary"]["answers"]) {
        check_figure(row, html_escape(row["prompt"].get<std::string>()));
        check_figure(row, html_escape(row["w4a4"]["text"].get<std::string>()));
    }
    for (const Json & line : facts["not_checked"]) check_figure(line, html_escape(line.get<std::string>()));
    for (const Json & row : facts["engines"]) check_figure(row, html_escape(row["kernel"].get<std::string>()));
    CHECK(shown > 20);
}

TEST_CASE("distributions in the JSON document add up to its means") {
    const Json facts = Json::parse(checked().json);
    const Json & output = facts["output"];
    for (const auto & [name, line] : output["lines"].items()) {
        CAPTURE(name);
        const uint64_t positions = output["positions"];
        uint64_t counted = 0, by_position = 0;
        for (const Json & count : line["kl_histogram"]["counts"]) counted += count.get<uint64_t>();
        CHECK(counted == positions);
        CHECK(line["kl_histogram"]["counts"].size() == line["kl_histogram"]["edges"].size() + 1);
        double sum = 0;
        for (const Json & stretch : line["kl_by_position"]) {
            by_position += stretch["positions"].get<uint64_t>();
            sum += stretch["positions"].get<double>() * stretch["kl"].get<double>();
        }
        CHECK(by_position == positions);
        CHECK(sum / double(positions) == doctest::Approx(line["all"]["kl"]["mean"].get<double>()));
        REQUIRE(line["worst_positions"].size() == 4);
        CHECK(line["worst_positions"][0]["kl"] == line["all"]["kl_percentiles"]["maximum"]);
    }
    const Tokenizer tokenizer = Tokenizer::load(tiny).take();
    const Json & worst = output["lines"]["w4a4"]["worst_positions"][0];
    const std::vector<TokenId> ids = worst["context_ids"];
    CHECK(ids.size() == std::min<size_t>(48, worst["position"].get<size_t>() + 1));
    CHECK(worst["context"] == tokenizer.decode(ids).value());
    CHECK(has(checked().page, html_escape(worst["context"].get<std::string>())));
    for (const Json & layer : output["expert_tokens"]) {
        CHECK(layer["tokens"].size() == 32);
        CHECK(*std::max_element(layer["tokens"].begin(), layer["tokens"].end()) == layer["most"]);
    }
    uint64_t modules = 0;
    for (const Json & row : facts["by_layer_and_role"]) modules += row["modules"].get<uint64_t>();
    CHECK(modules == facts["modules"].size());
    CHECK(facts["expert_errors"].size() == 8);
    CHECK(facts["expert_errors"][0]["relative_error"].size() == 32);
}

TEST_CASE("hostile names and texts stay text") {
    const std::string hostile = "</title><script src=\"http://example.com/x.js\">alert('1')</script><img src=x "
                                "onerror=alert(1)>\" onload=\"x\x01\u202e&amp;";
    Json facts = Json::parse(checked().json);
    change_all(facts, [&](Json & value) {
        if (value.is_string() && value != "ggml-nvfp4.verify.1") value = hostile;
    });
    Json lines = Json::object(); // and keys
    lines[hostile] = facts["output"]["lines"]["w4a4"];
    facts["output"]["lines"] = lines;
    const std::string page = page_of(facts);
    CHECK(has(page, "&lt;script src=&quot;http://example.com/x.js&quot;&gt;"));
    CHECK_FALSE(has(page, "<script"));
    CHECK(html_escape("a\xff<\x01>'\"&") == "a\ufffd&lt;\ufffd&gt;&#39;&quot;&amp;");
}

TEST_CASE("facts that are missing, null, empty or of another kind leave blocks out") {
    page_of(Json{{"schema", "ggml-nvfp4.verify.1"}});
    page_of(Json{{"schema", "ggml-nvfp4.quantize.1"}});
    const auto changed = [&](const std::function<void(Json &)> & change) {
        Json facts = Json::parse(checked().json);
        change_all(facts, change);
        facts["schema"] = "ggml-nvfp4.verify.1";
        page_of(facts);
    };
    changed([](Json & value) {
        if (value.is_number()) value = nullptr; // NaN and Inf
    });
    changed([](Json & value) { value = nullptr; });
    changed([](Json & value) {
        if (value.is_number()) value = 0;
    });
    changed([](Json & value) {
        if (value.is_number()) value = -1e300;
    });
    changed([](Json & value) { value = Json::array(); });
    changed([](Json & value) { value = value.is_string() ? Json(1) : Json("text"); });
    CHECK(report_page("{\"schema\": \"other\"}").status().code() == Code::unsupported);
    CHECK_FALSE(report_page("{").ok());
}

TEST_CASE("a run of quantize writes a page of its report") {
    const ScratchFolder scratch;
    PlanOptions options;
    options.recipe.scheme = &formats::nvfp4;
    options.threads = 2;
    const Plan plan = make_plan(tiny, options).take();
    CalibrationData data;
    const evaluate::EvaluationData read = read_data(4, 32);
    data.sequences = read.sequences, data.sha256 = read.sha256, data.json = read.description;
    for (const TextSequence & sequence : data.sequences) data.positions += sequence.ids.size();
    data.tokens = data.positions;
    QuantizeOptions run;
    run.calibration = &data;
    run.destination = scratch / "made";
    run.report_file = scratch / "page.txt";
    CHECK(quantize(plan, two_threads(), run).status().code() == Code::invalid_argument);
    run.report_file = scratch / "nowhere/page.html";
    CHECK_FALSE(quantize(plan, two_threads(), run).ok());
    CHECK_FALSE(path_exists(run.destination));
    run.report_file = scratch / "page.html";
    run.estimate = EstimateOptions();
    run.estimate->price = 2.5;
    const Result<QuantizeReport> report = quantize(plan, two_threads(), run);
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    const std::string page = read_file(run.report_file, 1 << 24).value(),
                      json = quantize_report_json(plan, report.value()).take();
    CHECK(joined(faults_of_page(page)) == "");
    CHECK(report_page(json).value() == page);
    const Json facts = Json::parse(json);
    CHECK(facts["quantization_report"] ==
          Json::parse(read_file(run.destination + "/quantization_report.json", 1 << 24).value()));
    CHECK(facts["engines"][0]["modules"] == 800);
    for (const Json & row : facts["input_scales"]) CHECK(row["minimum"] <= row["maximum"]);
    for (const char * const title :
         {"The run", "Times beside limits", "Estimate", "Scales of inputs", "Experts", "Engines", "Not checked"})
        CHECK_MESSAGE(has(page, std::string("<h2>") + title + "</h2>"), std::string(title));
    CHECK(has(page, duration_text(facts["seconds"]["total"])));
    CHECK(has(page, duration_text(facts["estimate"]["seconds"]["total"])));
    CHECK(has(page, duration_text(facts["estimate"]["actual_seconds"])));
    CHECK(has(page, percent_text(facts["estimate"]["error"])));
    CHECK(has(page, html_escape(facts["quantization_report"]["calibration"]["data_sha256"].get<std::string>())));
    // The next run finds the file before it does anything.
    run.destination = scratch / "again";
    CHECK(quantize(plan, two_threads(), run).status().code() == Code::already_exists);
    CHECK_FALSE(path_exists(run.destination));
    CHECK_FALSE(path_exists(run.destination + ".partial"));
}

TEST_CASE("charts without numbers, with one, or with gaps") {
    const double gap = std::nan(""), infinite = INFINITY;
    const ChartText text = {"a < b", "x", "y", ""};
    const auto check = [&](const Html & chart, bool drawn) {
        CHECK(chart.empty() != drawn);
        CHECK(joined(faults_of_page("<!DOCTYPE html>\n<html lang=\"en\">" + chart.markup + "</html>")) == "");
    };
    for (const Scale scale : {Scale::linear, Scale::from_zero, Scale::logarithm}) {
        check(line_chart(text, {}, {}, scale), false);
        check(line_chart(text, {0, 1}, {{"a", {gap, infinite}}}, scale), false);
        check(line_chart(text, {7}, {{"a", {3}}}, scale), true);
        check(line_chart(text, {0, 1, 2}, {{"a", {1, gap, 1}}, {"b", {2}}}, scale), true);
        check(line_chart(text, {0, 1}, {{"a", {1e-30, 1e30}}}, scale), true);
    }
    check(line_chart(text, {0, 1}, {{"a", {0, -1}}}, Scale::logarithm), false);
    // Ticks that three digits would not tell apart.
    const Html close = line_chart(text, {0, 1}, {{"a", {20.42, 20.54}}}, Scale::linear);
    check(close, true);
    for (const char * const tick : {">20.40<", ">20.45<", ">20.50<", ">20.55<"}) CHECK(has(close.markup, tick));
    check(bar_chart(text, {}), false);
    check(bar_chart(text, {{"a", gap, "?"}, {"b", 0, "0"}}), true);
    check(column_chart(text, {}, {}), false);
    check(column_chart(text, {"a"}, {gap}), false);
    check(column_chart(text, {"a", "b", "c"}, {0, 2}), true);
    check(range_chart(text, {0, 1}, {{"a", {1, gap}, {1, 2}, {1, 3}}}), true);
    check(range_chart(text, {0}, {{"a", {gap}, {gap}, {gap}}}), false);
    HeatMap map;
    map.text = text;
    check(heat_map(map), false);
    map.row_numbers = {0, 1}, map.rows = {{gap, 0, 1}, {5}};
    map.zero_is_missing = true;
    const Html drawn = heat_map(map);
    check(drawn, true);
    CHECK(has(drawn.markup, "class=\"h9\" d=\"M0 0h2v1h-2z\""));
    CHECK(has(drawn.markup, "class=\"h0\" d=\"M2 0h1v1h-1z\""));
    CHECK(has(drawn.markup, "class=\"h8\" d=\"M0 1h1v1h-1z\""));
}

TEST_CASE("one form for one kind of quantity") {
    CHECK(figure_text(std::nan("")) == no_figure);
    CHECK(figure_text(-INFINITY) == "\u2212\u221e");
    CHECK(figure_text(0) == "0");
    CHECK(figure_text(0.012345) == "0.0123");
    CHECK(figure_text(999.4) == "999");
    CHECK(figure_text(999.6) == "1,000");
    CHECK(figure_text(-1234567) == "-1,234,567");
    CHECK(figure_text(1.25e-7) == "1.2e-7");
    CHECK(figure_text(3e20) == "3e20");
    CHECK(percent_text(0.1234) == "12.3 %");
    CHECK(duration_text(0.4249) == "0.42 s");
    CHECK(duration_text(59.97) == "1 min 00 s");
    CHECK(duration_text(7500) == "2 h 05 min");
    CHECK(duration_text(-1) == no_figure);
}
