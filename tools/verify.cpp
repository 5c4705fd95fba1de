// verify DST [--source SRC [--data FILE]]: checks that loaders can load DST, that it matches SRC, and how its
// predictions differ.
#include "common/args.h"
#include "common/canary.h"
#include "common/hub_fetch.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace {

struct Args {
    std::string checkpoint, source, json, page, markdown, events;
    tools::TextOutput report, table; // to `json` and `markdown`
    tools::DeviceArgs device;
    tools::EngineArgs engine;
    bool structure = false, self_test = false, no_hashes = false, strict = false, quiet = false, streams = false;
    uint64_t stream_bytes = 0;
    // The comparison of predictions.
    std::vector<std::string> data;
    std::string tokens, text_template, scratch, save_logits, logits, baseline;
    std::vector<gnv_line> lines;
    uint64_t documents = 0, window = 512;
    bool noise_floor = false, skip_bad = false, sensitivity = false, card = false;
    bool no_resume = false, save_each_layer = false;
    uint64_t sensitivity_ranges = 4;
    tools::CanaryArgs canary;
    gnv_evaluate_options evaluate = defaults();

    static gnv_evaluate_options defaults() {
        gnv_evaluate_options options;
        gnv_evaluate_options_init(&options);
        return options;
    }
    bool has_data() const { return !data.empty() || !tokens.empty(); }
    bool runs_models() const { return has_data() || canary.wanted; }
};

void declare_evaluation(CLI::App & app, Args & args) {
    const char * const group = "Data and predictions, with --source";
    const auto add = [&](const char * name, auto & value, const char * help, const char * type) {
        return app.add_option(name, value, help)->type_name(type)->group(group);
    };
    tools::add_list(app, "--data", args.data,
                    "text to compare predictions on, [ALIAS@]PATH[:FIELD][=WEIGHT] (repeatable): .jsonl, .json, .csv, "
                    ".txt, .parquet, .arrow or a folder")
        ->type_name("PATH")
        ->group(group);
    add("--tokens", args.tokens, "exact ids and masks instead: {\"input_ids\": [[..]], \"attention_mask\": [[..]]}",
        "FILE");
    tools::add_template(app, args.text_template)->group(group);
    tools::add_count(app, "--documents", args.documents, 0, tools::most_positions,
                     "the first N documents (default, 0: all)")
        ->group(group);
    tools::add_count_with_default(app, "--tokens-per-document", args.window, 1, tools::most_positions,
                                  "largest number of tokens of a document")
        ->group(group);
    tools::add_skip_bad(app, args.skip_bad)->group(group);
    app.add_flag("--card", args.card,
                 "put the figures of predictions and answers into the checkpoint's README.md, which quantize wrote")
        ->group(group);
    const tools::Choices<gnv_line> lines = {
        {"w4a4", GNV_LINE_W4A4}, {"w4a16", GNV_LINE_W4A16}, {"activations", GNV_LINE_ACTIVATIONS}};
    tools::add_choices(app, "--lines", args.lines, lines,
                       "variants to compare: w4a4 (as Blackwell computes), w4a16 (weights alone), activations (inputs "
                       "alone); default: all",
                       {{"nvfp4", "w4a4"}, {"nvfp4a16", "w4a16"}})
        ->group(group);
    app.add_flag("--noise-floor", args.noise_floor,
                 "also compare the source in BF16 arithmetic: the effect of rounding alone")
        ->group(group);
    app.add_flag("--shared-expert-scale", args.evaluate.shared_expert_scale,
                 "the smallest input scale for all experts of a layer, as some kernels do")
        ->group(group);
    app.add_flag(
           "--sensitivity", args.sensitivity,
           "also the KL with one group of modules (a kind in a range of layers) at a time as in SRC: what leaving "
           "it there costs in bytes and saves")
        ->group(group);
    tools::add_count_with_default(app, "--sensitivity-ranges", args.sensitivity_ranges, 1, 1024,
                                  "ranges of layers for --sensitivity")
        ->group(group);
    tools::add_vram(app, args.device)->group(group);
    tools::add_precision(app, args.device)->group(group);
    tools::add_bytes(app, "--ram", args.evaluate.ram_bytes, "memory budget (default: most of the free memory)")
        ->group(group);
    add("--scratch", args.scratch, "folder for hidden states that do not fit into memory, and for the saved state",
        "FOLDER");
    app.add_flag(
           "--no-resume", args.no_resume,
           "save no state. Else a stopped run goes on where it was when it is repeated; the state is in --scratch, or "
           "beside the file of --save-logits, --json or --markdown")
        ->group(group);
    app.add_flag("--save-each-layer", args.save_each_layer,
                 "save the state after each layer (default: as often as takes at most 3 % of the time)")
        ->group(group);
    add("--save-logits", args.save_logits, "write the source's predictions to a new file", "FILE");
    add("--logits", args.logits, "read the source's predictions from FILE instead of running the source", "FILE");
    constexpr double no_limit = std::numeric_limits<double>::infinity();
    const auto add_limit = [&](const char * name, double & value, double most, const char * help) {
        tools::add_real(app, name, value, 0, tools::Least::included, most, help)->group(group);
    };
    add_limit("--max-kl", args.evaluate.max_kl, no_limit, "fail above this mean KL divergence (nats)");
    add_limit("--min-top1", args.evaluate.min_top1, 1, "fail below this share of positions with the same top token");
    add_limit("--max-ppl-ratio", args.evaluate.max_perplexity_ratio, no_limit, "fail above this ratio of perplexities");
    add_limit("--max-room", args.evaluate.max_room, no_limit,
              "fail if an input scale leaves room for more than X times the largest input: it was not calibrated, or "
              "is damaged");
    add("--baseline", args.baseline, "fail if worse than this report (--json) of another checkpoint", "FILE");
    add("--markdown", args.markdown, "write a table for a model card; - is standard output, instead of the table",
        "FILE");
    tools::add_canary_options(app, args.canary);
}

void declare(CLI::App & app, Args & args) {
    app.add_option("DST", args.checkpoint, "folder of an NVFP4 checkpoint, of any producer")->required();
    app.add_option("--source", args.source, "folder of its BF16 source: compare every tensor")->type_name("SRC");
    tools::add_device(
        app, args.device,
        "for predictions; a CUDA device (of several the first) also quantizes the source's weights again and compares "
        "the bytes",
        true);
    app.add_flag("--structure", args.structure, "headers and configs only; reads no values");
    app.add_flag("--no-hashes", args.no_hashes,
                 "do not compare files with the SHA-256 that DST's README.md lists, which takes reading all of them");
    app.add_flag("--self-test", args.self_test, "inject faults into a view of DST and print the check that finds each");
    app.add_flag("--strict", args.strict, "warnings and suspicious figures fail, too (exit code 1)");
    tools::add_threads(app, args.engine);
    app.add_option("--json", args.json, "write the whole report to FILE; - is standard output, instead of the table")
        ->type_name("FILE");
    app.add_option(
           "--report", args.page,
           "write the whole report to a new FILE: a page for a browser (.html), or JSON (.json); with data, also the "
           "text before the ten positions with the largest KL")
        ->type_name("FILE");
    app.add_flag("--quiet", args.quiet, "no progress and no table: only warnings and errors");
    tools::add_events(app, args.events);
    app.add_flag(
        "--stream", args.streams,
        "SRC is a model of the hub that the disk has no room for: fetch each file of weights once, and remove it "
        "when it is compared");
    tools::add_bytes(app, "--stream-disk", args.stream_bytes,
                     "--stream, with at most so much of the weights on the disk (default: the four largest files)");
}

// False after printing the reason.
bool add_to_card(const Args & args, gnv_engine_t * engine, const gnv_report_t * report) {
    gnv_text_t * text = nullptr;
    gnv_status status = gnv_report_text(report, GNV_TEXT_JSON, &text);
    const tools::Text owner(text);
    if (status == GNV_OK) status = gnv_card_measure(engine, args.checkpoint.c_str(), gnv_text_data(text));
    if (status != GNV_OK) tools::report(engine);
    return status == GNV_OK;
}

// The findings as events, the text of the report's JSON document given.
void tell_findings(std::string_view document) {
    const auto report = nlohmann::json::parse(document);
    for (const auto & finding : report.at("findings")) {
        const auto text = [&](const char * key) -> std::string_view {
            return finding.at(key).get_ref<const std::string &>();
        };
        tools::events.write("finding", {{"severity", text("severity")},
                                        {"check", text("check")},
                                        {"subject", text("subject")},
                                        {"what", text("what")}});
    }
    tools::events.write("verdict", {{"errors", report.at("errors").get<uint64_t>()},
                                    {"warnings", report.at("warnings").get<uint64_t>()}});
}

// The lines of the plain report that begin with one of these words, without it; --quiet keeps them, on standard error.
void say_warnings(const Args & args, std::string_view report) {
    for (size_t at = 0; at < report.size();) {
        const std::string_view line = report.substr(at, report.find('\n', at) - at);
        at += line.size() + 1;
        for (const std::string_view word : {"warning ", "suspicious "}) {
            if (line.substr(0, word.size()) != word) continue;
            std::string_view text = line.substr(word.size());
            while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
            tools::end_progress_line(); // the finding is an event already
            fprintf(stderr, "%swarning:%s %s: %s\n", tools::begin_colour(stderr, tools::Tone::warning),
                    tools::end_colour(stderr), args.checkpoint.c_str(), std::string(text).c_str());
        }
    }
}

// Prints the requested output and returns the exit code.
int show(Args & args, gnv_engine_t * engine, const gnv_report_t * report) {
    gnv_text_t * text = nullptr;
    gnv_report_info info = {};
    info.struct_size = sizeof info;
    if (gnv_report_get_info(report, &info) != GNV_OK) return tools::report(engine);
    const uint64_t doubts = info.warnings + info.suspicions;
    const bool fails = info.errors + info.failed_gates > 0 || (args.strict && doubts > 0);
    const int code = fails ? tools::exit_findings : tools::exit_ok;
    if (args.report.is_wanted() || tools::events.is_open()) {
        if (gnv_report_text(report, GNV_TEXT_JSON, &text) != GNV_OK) return tools::report(engine);
        const tools::Text owner(text);
        if (tools::events.is_open()) tell_findings(tools::view(text));
        if (args.report.is_wanted() && !args.report.write(text)) return tools::exit_failure;
    }
    const bool is_stdout_taken =
        args.report.is_standard_output() || args.table.is_standard_output() || args.events == "-";
    if (!args.quiet && !is_stdout_taken) {
        if (gnv_report_text(report, GNV_TEXT_PLAIN, &text) != GNV_OK) return tools::report(engine);
        const tools::Text owner(text);
        if (!tools::show_text(text)) return tools::exit_failure;
    }
    if (args.quiet && (doubts > 0 || code == tools::exit_findings)) { // warnings and the verdict stay
        if (gnv_report_text(report, GNV_TEXT_PLAIN, &text) != GNV_OK) return tools::report(engine);
        const tools::Text owner(text);
        const std::string_view all = tools::view(text);
        say_warnings(args, all);
        if (code == tools::exit_findings)
            tools::say_error("%s: %s\n", args.checkpoint.c_str(), std::string(all.substr(0, all.find('\n'))).c_str());
    }
    if (!args.page.empty() && gnv_report_write(report, args.page.c_str()) != GNV_OK) return tools::report(engine);
    if (args.card && !add_to_card(args, engine, report)) return tools::exit_failure;
    return code;
}

bool is_same_folder(const std::string & a, const std::string & b) {
    struct stat of_a, of_b;
    return stat(a.c_str(), &of_a) == 0 && stat(b.c_str(), &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

// The place of the state to go on with: --scratch, or the folder of the first output; "": none. Never a checkpoint.
std::string state_folder(const Args & args) {
    if (args.no_resume) return "";
    std::string output, folder = args.scratch;
    for (const std::string & path : {args.save_logits, args.json, args.markdown})
        if (output.empty() && !path.empty() && path != "-" && !tools::is_special(path)) output = path;
    const size_t slash = output.rfind('/');
    if (folder.empty() && !output.empty()) {
        folder = slash == std::string::npos ? "." : output.substr(0, slash + 1);
        if (access(folder.c_str(), W_OK) != 0) return ""; // an old file there can be written, no more
    }
    if (folder.empty() || is_same_folder(folder, args.checkpoint) || is_same_folder(folder, args.source)) return "";
    std::string name = slash == std::string::npos ? output : output.substr(slash + 1);
    if (name.empty()) {
        name = args.checkpoint;
        while (name.size() > 1 && name.back() == '/') name.pop_back();
        name = name.substr(name.rfind('/') + 1);
    }
    return folder + (folder.back() == '/' ? "" : "/") + name + ".verify-state";
}

// The data and options of gnv_evaluate, which must live as long as the call.
struct Comparison {
    tools::Tokenizer tokenizer;
    tools::Dataset dataset;
    tools::ProgressLine progress;
    gnv_evaluate_options options;
    tools::DeviceArgs device; // its numbers, for the options
    std::string state_folder;
    tools::Handle<gnv_evaluation_t, gnv_evaluation_destroy> result;
};

// Opens all inputs and outputs of the comparison of predictions, except the checkpoints. False after printing the
// reason.
bool prepare(const Args & args, gnv_engine_t * engine, Comparison & comparison) {
    tools::DataArgs data;
    data.sources = args.data;
    data.tokens = args.tokens;
    data.text_template = args.text_template;
    data.options.ram_bytes = args.evaluate.ram_bytes;
    data.options.samples = args.documents;
    data.options.sequence_length = args.window;
    data.no_shuffle = true;
    data.skip_bad = args.skip_bad;
    const auto failed = [&] {
        tools::report(engine);
        return false;
    };
    const std::string & model = args.source.empty() ? args.checkpoint : args.source;
    if (!tools::open_data(engine, model, data, comparison.tokenizer, comparison.dataset)) return failed();
    gnv_evaluate_options & options = comparison.options;
    options = args.evaluate;
    comparison.device = args.device;
    if (!tools::find_devices(engine, comparison.device, options.device, &options.precision)) return false;
    options.devices = comparison.device.numbers.data();
    options.device_count = comparison.device.numbers.size();
    options.device_bytes = args.device.vram_bytes;
    options.dataset = comparison.dataset.get();
    if (!args.lines.empty()) options.lines = 0;
    for (const gnv_line line : args.lines) options.lines |= uint32_t(line);
    if (args.noise_floor) options.lines |= GNV_LINE_BF16;
    if (!args.page.empty()) options.contexts = 10;
    if (args.sensitivity) options.sensitivity_ranges = int32_t(args.sensitivity_ranges);
    const auto text = [](const std::string & content) { return content.empty() ? nullptr : content.c_str(); };
    options.scratch_folder = text(args.scratch);
    options.save_logits = text(args.save_logits);
    options.logits = text(args.logits);
    options.baseline = text(args.baseline);
    comparison.state_folder = state_folder(args);
    options.state_folder = text(comparison.state_folder);
    if (args.save_each_layer) options.resume = GNV_RESUME_EACH_LAYER;
    options.progress = tools::ProgressLine::callback;
    options.user = &comparison.progress;
    return gnv_evaluate_check(engine, &options) == GNV_OK || failed();
}

// A text for --markdown, behind those before. False after printing the reason.
template <class Handle>
bool add_markdown(gnv_engine_t * engine, const Handle * handle,
                  gnv_status (*text_of)(const Handle *, gnv_text_format, gnv_text_t **), std::string & markdown) {
    gnv_text_t * text = nullptr;
    if (text_of(handle, GNV_TEXT_MARKDOWN, &text) != GNV_OK) {
        tools::report(engine);
        return false;
    }
    const tools::Text owner(text);
    markdown += (markdown.empty() ? "" : "\n") + std::string(tools::view(text));
    return true;
}

// Compares predictions and adds them to the report. False after printing the reason.
bool evaluate(Args & args, gnv_engine_t * engine, Comparison & comparison, gnv_report_t * report,
              std::string & markdown) {
    const auto failed = [&] {
        tools::report(engine);
        return false;
    };
    const char * const source = args.source.empty() ? nullptr : args.source.c_str();
    gnv_evaluation_t * evaluation = nullptr;
    {
        const tools::StoppableCall stoppable;
        if (gnv_evaluate(engine, args.checkpoint.c_str(), source, &comparison.options, &evaluation) != GNV_OK)
            return failed();
    }
    comparison.result.reset(evaluation);
    if (gnv_report_add_evaluation(report, evaluation) != GNV_OK) return failed();
    return add_markdown(engine, evaluation, gnv_evaluation_text, markdown);
}

// The options of gnv_canary with all that they point to.
struct Canary {
    std::vector<const char *> prompts;
    tools::DeviceArgs device;
    tools::ProgressLine progress;
    gnv_canary_options options;
};

// False after printing the reason.
bool prepare(const Args & args, gnv_engine_t * engine, Canary & canary) {
    canary.prompts = tools::pointers(args.canary.prompts);
    canary.device = args.device;
    int32_t first = 0;
    gnv_precision precision = canary.device.precision;
    if (!tools::find_devices(engine, canary.device, first, &precision)) return false;
    canary.device.precision = precision;
    canary.options = tools::canary_options(args.canary, canary.prompts, args.lines, canary.device,
                                           args.evaluate.ram_bytes, canary.progress);
    if (gnv_canary_check(engine, args.source.c_str(), &canary.options) == GNV_OK) return true;
    tools::report(engine);
    return false;
}

// Lets both models answer and adds the answers to the report. False after printing the reason.
bool answer(const Args & args, gnv_engine_t * engine, const Canary & canary, gnv_report_t * report,
            std::string & markdown) {
    gnv_canary_t * made = nullptr;
    gnv_status status = GNV_OK;
    {
        const tools::StoppableCall stoppable;
        status = gnv_canary(engine, args.checkpoint.c_str(), args.source.c_str(), &canary.options, &made);
    }
    const tools::Handle<gnv_canary_t, gnv_canary_destroy> owner(made);
    if (status == GNV_OK) status = gnv_report_add_canary(report, made);
    if (status == GNV_OK) return add_markdown(engine, made, gnv_canary_text, markdown);
    tools::report(engine);
    return false;
}

int self_test(Args & args, gnv_engine_t * engine, const gnv_verify_options & options) {
    const char * source = args.source.empty() ? nullptr : args.source.c_str();
    const gnv_text_format format = args.json.empty() ? GNV_TEXT_PLAIN : GNV_TEXT_JSON;
    gnv_text_t * text = nullptr;
    uint64_t escaped = 0;
    {
        const tools::StoppableCall stoppable;
        if (gnv_verify_self_test(engine, args.checkpoint.c_str(), source, &options, format, &text, &escaped) != GNV_OK)
            return tools::report(engine);
    }
    const tools::Text owner(text);
    if (args.report.is_wanted() ? !args.report.write(text) : !args.quiet && !tools::show_text(text))
        return tools::exit_failure;
    return escaped > 0 ? tools::exit_findings : tools::exit_ok;
}

// Every option must have an effect, and every output must be possible. False after printing the problem.
bool check_usage(const CLI::App & app, Args & args) {
    if (!tools::check_folder(args.checkpoint) || !tools::check_folder(args.source)) return false;
    const auto say = [](const char * problem) {
        tools::say_error("%s\n", problem);
        return false;
    };
    args.streams |= tools::is_given(app, "--stream-disk");
    if (args.streams && (args.structure || args.self_test || args.runs_models()))
        return say("--stream reads each file of the source once, to compare weights: leave it out, and the source is "
                   "downloaded");
    if (args.streams && !tools::may_be_hub_name(args.source))
        return say("--stream is for a source on the hub (--source ORG/NAME): leave it out, or name one");
    if (args.has_data() && args.source.empty() && args.logits.empty())
        return say("--data needs --source SRC, or --logits FILE");
    if (args.has_data() && (args.structure || args.self_test))
        return say("--data does not go with --structure or --self-test");
    if (args.canary.wanted && args.source.empty()) return say("--canary needs --source SRC");
    if (args.canary.wanted && (args.structure || args.self_test))
        return say("--canary does not go with --structure or --self-test");
    if (!args.canary.wanted &&
        !tools::refuse(app, {"--canary-prompts", "--canary-thinking", "--max-canary-growth"}, "goes with --canary"))
        return false;
    if (!args.runs_models() &&
        !tools::refuse(app, {"--card", "--lines", "--vram", "--precision", "--ram", "--markdown"},
                       "needs --data PATH, --tokens FILE or --canary"))
        return false;
    const auto of_predictions = {"--template",
                                 "--documents",
                                 "--tokens-per-document",
                                 "--skip-bad",
                                 "--noise-floor",
                                 "--sensitivity",
                                 "--sensitivity-ranges",
                                 "--shared-expert-scale",
                                 "--scratch",
                                 "--no-resume",
                                 "--save-each-layer",
                                 "--logits",
                                 "--save-logits",
                                 "--max-kl",
                                 "--min-top1",
                                 "--max-ppl-ratio",
                                 "--max-room",
                                 "--baseline"};
    if (!args.has_data() && !tools::refuse(app, of_predictions, "needs --data PATH or --tokens FILE")) return false;
    if (!args.sensitivity && !tools::refuse(app, {"--sensitivity-ranges"}, "goes with --sensitivity")) return false;
    if (args.sensitivity && args.source.empty()) return say("--sensitivity needs --source SRC");
    if (args.no_resume && !tools::refuse(app, {"--save-each-layer"}, "saves a state, and --no-resume none"))
        return false;
    if (!args.tokens.empty() && args.data.empty() &&
        !tools::refuse(app, {"--template", "--documents", "--tokens-per-document", "--skip-bad"},
                       "goes with --data: --tokens gives exact sequences"))
        return false;
    if (args.structure && !tools::refuse(app, {"--no-hashes"}, "has no part in --structure: leave it out"))
        return false;
    if (args.self_test && !tools::refuse(app, {"--structure", "--no-hashes", "--strict", "--report"},
                                         "has no part in --self-test: leave it out"))
        return false;
    if (!tools::check_vram(app, args.device)) return false;
    const bool computes = (!args.source.empty() && !args.structure && !args.self_test) || args.runs_models();
    if (!computes && args.device.device.rfind("cuda", 0) == 0)
        return tools::refuse(app, {"--device"}, "computes nothing here: give --source SRC");
    // A run that goes on with a stopped one may find the file that this has written.
    const std::string state = state_folder(args);
    const bool may_exist = !state.empty() && access(state.c_str(), F_OK) == 0;
    return tools::check_distinct({{"--json", args.json},
                                  {"--report", args.page},
                                  {"--markdown", args.markdown},
                                  {"--events", args.events},
                                  {"--save-logits", args.save_logits}}) &&
           tools::check_report_file(args.page) && args.report.prepare(args.json) && args.table.prepare(args.markdown) &&
           (may_exist || tools::check_new_file(args.save_logits)) && tools::check_scratch_folder(args.scratch) &&
           tools::open_events(args.events);
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    tools::Program app(
        "verify",
        "Check that vLLM and SGLang can load an NVFP4 checkpoint, that it matches its BF16 source, and how much its "
        "predictions differ.",
        "DST [--source SRC [--data FILE]] [options]",
        {{"can loaders load it?", "verify DST"},
         {"and does it match its source?", "verify DST --source SRC"},
         {"and how far are its predictions?", "verify DST --source SRC --data wiki.jsonl --documents 64"}});
    tools::set_up(app);
    declare(app, args);
    declare_evaluation(app, args);
    app.group_help("What to check",
                   {"--source", "--stream", "--stream-disk", "--structure", "--no-hashes", "--self-test", "--strict"});
    app.group_help("Data and predictions, with --source", {"--data", "--tokens"});
    app.group_help("Answers, with --source",
                   {"--canary", "--canary-prompts", "--canary-thinking", "--max-canary-growth"});
    app.group_help("Gates", {"--max-kl", "--min-top1", "--max-ppl-ratio", "--max-room", "--baseline"});
    app.group_help("Machine", {"--device", "--threads", "--ram", "--vram", "--precision", "--scratch", "--no-resume",
                               "--save-each-layer"});
    app.group_help("Output", {"--json", "--report", "--markdown", "--card", "--save-logits", "--events", "--quiet"});
    if (const auto code = tools::parse(app, argc, argv)) return *code;
    if (!check_usage(app, args) || !tools::read_prompts(args.canary)) return tools::exit_failure;
    tools::events.write(
        "begin",
        {{"program", "verify"}, {"version", gnv_version()}, {"checkpoint", args.checkpoint}, {"source", args.source}});
    args.engine.quiet = args.quiet;
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine || !tools::fetch_model(engine.get(), args.checkpoint, args.quiet)) return tools::exit_failure;
    tools::Stream stream; // outlives the report
    const bool is_source_here =
        args.streams ? tools::open_stream(engine.get(), args.source, args.stream_bytes, args.quiet, stream)
                     : tools::fetch_model(engine.get(), args.source, args.quiet);
    if (!is_source_here || !tools::fetch_data(engine.get(), args.data, args.quiet)) return tools::exit_failure;

    tools::ProgressLine progress(args.quiet);
    gnv_verify_options options;
    gnv_verify_options_init(&options);
    options.structure_only = args.structure;
    options.strict = args.strict;
    options.hashes = !args.no_hashes;
    options.stream = stream.handle.get();
    options.no_checksums = args.json.empty() && args.page.empty(); // only these have them
    options.report_file = args.page.empty() ? nullptr : args.page.c_str();
    options.progress = tools::ProgressLine::callback;
    options.user = &progress;
    const char * source = args.source.empty() ? nullptr : args.source.c_str();
    const bool compares = source && !args.structure && !args.self_test;
    // An unknown name is refused even if no device compares.
    int32_t device = 0;
    if ((compares || args.device.device != "auto") && !tools::find_devices(engine.get(), args.device, device, nullptr))
        return tools::exit_failure;
    if (args.self_test) return self_test(args, engine.get(), options);
    options.device = compares ? device : 0;
    Comparison comparison = {{}, {}, tools::ProgressLine(args.quiet), {}, {}, {}, {}};
    if (args.has_data() && !prepare(args, engine.get(), comparison)) return tools::exit_failure;
    Canary canary = {{}, {}, tools::ProgressLine(args.quiet, "answers"), {}};
    if (args.canary.wanted && !prepare(args, engine.get(), canary)) return tools::exit_failure;
    gnv_report_t * report = nullptr;
    {
        const tools::StoppableCall stoppable;
        if (gnv_verify(engine.get(), args.checkpoint.c_str(), source, &options, &report) != GNV_OK)
            return tools::report(engine.get());
    }
    const tools::Handle<gnv_report_t, gnv_report_destroy> owner(report);
    std::string markdown;
    if ((args.has_data() && !evaluate(args, engine.get(), comparison, report, markdown)) ||
        (args.canary.wanted && !answer(args, engine.get(), canary, report, markdown))) {
        args.card = false;
        show(args, engine.get(), report); // a finding may explain the failure
        return tools::exit_failure;
    }
    if (args.table.is_wanted() && !args.table.write(markdown)) return tools::exit_failure;
    const int code = show(args, engine.get(), report);
    if (code != tools::exit_failure && comparison.result &&
        gnv_evaluation_remove_state(comparison.result.get()) != GNV_OK)
        return tools::report(engine.get());
    return code;
}

int tools::run_verify(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
