// verify DST [--source SRC]: would loaders load it, and is it its source, quantized?
#include "args.h"

namespace {

struct Args {
    std::string checkpoint, source, json;
    int threads = 0;
    bool structure = false, self_test = false, strict = false, quiet = false;
};

void declare(CLI::App & app, Args & args) {
    app.add_option("DST", args.checkpoint, "folder of an NVFP4 checkpoint, of any producer")->required();
    app.add_option("--source", args.source, "folder of the BF16 checkpoint it was made from: compare every tensor")
        ->type_name("SRC");
    app.add_flag("--structure", args.structure, "headers and configs only; reads no values");
    app.add_flag("--self-test", args.self_test, "inject faults into a view of DST and show which check finds each");
    app.add_flag("--strict", args.strict, "warnings fail, too");
    app.add_option("--threads", args.threads, "worker threads (default: one per processor)")->type_name("N");
    app.add_option("--json", args.json, "write the whole report to FILE; - is standard output, instead of the table")
        ->type_name("FILE");
    app.add_flag("--quiet", args.quiet, "no progress and no table");
}

// Prints what was asked for and gives the exit code.
int show(const Args & args, const gnv_engine_t * engine, const gnv_report_t * report) {
    gnv_text_t * text = nullptr;
    if (!args.json.empty()) {
        if (gnv_report_text(report, GNV_TEXT_JSON, &text) != GNV_OK) return tools::report(engine);
        const tools::Text owner(text);
        if (!tools::save_text(args.json, text)) return tools::exit_failure;
    }
    if (!args.quiet && args.json != "-") {
        if (gnv_report_text(report, GNV_TEXT_PLAIN, &text) != GNV_OK) return tools::report(engine);
        const tools::Text owner(text);
        if (!tools::save_text("-", text)) return tools::exit_failure;
    }
    gnv_report_info info = {};
    info.struct_size = sizeof info;
    if (gnv_report_get_info(report, &info) != GNV_OK) return tools::report(engine);
    return info.errors > 0 || (args.strict && info.warnings > 0) ? tools::exit_findings : tools::exit_ok;
}

int self_test(const Args & args, gnv_engine_t * engine, const gnv_verify_options & options) {
    const char * source = args.source.empty() ? nullptr : args.source.c_str();
    const gnv_text_format format = args.json.empty() ? GNV_TEXT_PLAIN : GNV_TEXT_JSON;
    gnv_text_t * text = nullptr;
    uint64_t escaped = 0;
    if (gnv_verify_self_test(engine, args.checkpoint.c_str(), source, &options, format, &text, &escaped) != GNV_OK)
        return tools::report(engine);
    const tools::Text owner(text);
    const bool shown = !args.json.empty() || !args.quiet;
    if (shown && !tools::save_text(args.json.empty() ? "-" : args.json, text)) return tools::exit_failure;
    return escaped > 0 ? tools::exit_findings : tools::exit_ok;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    CLI::App app("Checks an NVFP4 checkpoint: would vLLM and SGLang load it, and is it its source, quantized?",
                 "verify");
    tools::set_up(app);
    declare(app, args);
    TOOLS_PARSE(app, argc, argv);
    tools::catch_interrupts();
    const tools::Engine engine = tools::make_engine(args.threads);
    if (!engine) return tools::exit_failure;

    tools::ProgressLine progress(args.quiet);
    gnv_verify_options options;
    gnv_verify_options_init(&options);
    options.structure_only = args.structure;
    options.no_checksums = args.json.empty(); // only there they show
    options.progress = tools::ProgressLine::callback;
    options.user = &progress;
    if (args.self_test) return self_test(args, engine.get(), options);
    const char * source = args.source.empty() ? nullptr : args.source.c_str();
    gnv_report_t * report = nullptr;
    if (gnv_verify(engine.get(), args.checkpoint.c_str(), source, &options, &report) != GNV_OK)
        return tools::report(engine.get());
    const tools::Handle<gnv_report_t, gnv_report_destroy> owner(report);
    return show(args, engine.get(), report);
}

int main(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
