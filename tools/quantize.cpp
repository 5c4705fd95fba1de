// quantize SRC -o DST: a BF16 checkpoint to NVFP4.
#include "common/args.h"
#include "common/card.h"
#include "common/hub_fetch.h"
#include "self_text.h"

namespace {

struct Args {
    std::string source, destination, recipe, json, page, scratch, save_statistics, trace, part, upload, create, events;
    uint32_t part_number = 0, parts = 0; // of `part`
    tools::DataArgs data;
    tools::SelfTextArgs self;
    tools::CardArgs card;
    tools::DeviceArgs device;
    int32_t device_number = 0;
    uint64_t source_bytes = 0;
    std::string assume;
    double price = 0;
    bool no_estimate = false, estimates = false; // of a run, unless --dry-run
    std::vector<std::string> statistics, taken;
    std::string layers; // A..B
    int32_t first_layer = 0, last_layer = -1;
    gnv_scheme scheme = GNV_SCHEME_NVFP4;
    gnv_expert_tokens experts = GNV_EXPERTS_ALL;
    gnv_screening screening = GNV_SCREENING_ON;
    gnv_preset preset = GNV_PRESET_RECIPE;
    gnv_method method = GNV_METHOD_RTN;
    gnv_draft_head draft_head = GNV_DRAFT_HEAD_KEEP;
    float headroom = 0;
    std::vector<std::string> ignore, include, keep;
    uint64_t shard_bytes = 5'000'000'000, ram_bytes = 0;
    tools::EngineArgs engine;
    tools::TextOutput report; // to `json`
    bool dry_run = false, downloads = false, overwrite = false, quiet = false, show_statistics = false,
         measure_limits = false;
    bool no_resume = false, save_each_layer = false, profile = false;
    bool streams = false;
    uint64_t stream_bytes = 0;
    uint64_t min_expert_tokens = 0; // 0: any

    bool uploads_alone() const { return source.empty() && !upload.empty(); }
    bool has_data() const { return self.records > 0 || !data.sources.empty() || !data.tokens.empty(); }
    // To --json FILE, or printed.
    gnv_resume resume() const {
        return no_resume ? GNV_RESUME_OFF : save_each_layer ? GNV_RESUME_EACH_LAYER : GNV_RESUME_ON;
    }
    bool give(const gnv_text_t * text) { return report.is_wanted() ? report.write(text) : tools::show_text(text); }
};

void declare(CLI::App & app, Args & args) {
    const tools::Choices<gnv_scheme> schemes = {{"nvfp4", GNV_SCHEME_NVFP4}, {"nvfp4a16", GNV_SCHEME_NVFP4A16}};
    const tools::Choices<gnv_preset> presets = {{"recipe", GNV_PRESET_RECIPE},
                                                {"experts-only", GNV_PRESET_EXPERTS_ONLY}};
    app.add_option(
        "SRC", args.source,
        "folder of the BF16 checkpoint (config.json, *.safetensors), or ORG/NAME[@REVISION] of the hub, which is "
        "downloaded if its cache lacks it");
    app.add_option("-o,--output", args.destination, "folder to write; must not exist")->type_name("DST");
    app.add_flag("--stream", args.streams,
                 "of a model of the hub that the disk has no room for: fetch each file of weights shortly before it is "
                 "read, and remove it after its last use");
    tools::add_bytes(app, "--stream-disk", args.stream_bytes,
                     "--stream, with at most so much of the weights on the disk (default: the four largest files)");
    app.add_option("--upload", args.upload,
                   "send the finished DST to the hub's model repository (HF_TOKEN); without SRC, send the DST of an "
                   "earlier run")
        ->type_name("ORG/NAME");
    tools::add_choice(app, "--create", args.create, {"public", "private"},
                      "with --upload: make the repository first, public or private")
        ->type_name("KIND");
    tools::add_card(app, args.card);
    app.add_option(
           "--recipe", args.recipe,
           "recipe.yaml of llm-compressor, or of another run: decides scheme, method and modules; what cannot be met "
           "is refused by line")
        ->type_name("FILE");
    tools::add_choice(app, "--scheme", args.scheme, schemes,
                      "nvfp4a16 (weights only) or nvfp4 (W4A4, needs calibration)",
                      {{"w4a16", "nvfp4a16"},
                       {"w4a4", "nvfp4"},
                       {"fp4", "nvfp4"},
                       {"nvfp4_w4a16", "nvfp4a16"},
                       {"nvfp4-w4a16", "nvfp4a16"},
                       {"w4a16_nvfp4", "nvfp4a16"},
                       {"nvfp4_default_cfg", "nvfp4"}});
    tools::add_choice(app, "--preset", args.preset, presets, "recipe (default) or experts-only");
    const tools::Choices<gnv_method> methods = {
        {"rtn", GNV_METHOD_RTN}, {"mse", GNV_METHOD_MSE}, {"hessian", GNV_METHOD_HESSIAN}, {"gptq", GNV_METHOD_GPTQ}};
    tools::add_choice(app, "--method", args.method, methods,
                      "rtn (default; the reference recipe's bytes), mse (searches scales), hessian or gptq (both need "
                      "calibration data)");
    tools::add_real(app, "--headroom", args.headroom, 1, tools::Least::included, 1024,
                    "room of input scales, in largest inputs: 1 to 1024 (default: 4; with rtn the recipe's scales)")
        ->type_name("K");
    const tools::Choices<gnv_draft_head> draft_heads = {{"keep", GNV_DRAFT_HEAD_KEEP},
                                                        {"nvfp4a16", GNV_DRAFT_HEAD_NVFP4A16}};
    tools::add_choice(app, "--draft-head", args.draft_head, draft_heads,
                      "the draft head (MTP): keep (default), or nvfp4a16: its attention and experts become W4A16",
                      {{"w4a16", "nvfp4a16"}, {"bf16", "keep"}})
        ->type_name("HOW");
    const auto add_patterns = [&](const char * name, std::vector<std::string> & patterns, const char * help) {
        tools::add_list(app, name, patterns, help)->type_name("REGEX");
    };
    add_patterns("--ignore", args.ignore,
                 "modules to keep, in addition to the default list; matches from the start of the name (repeatable)");
    add_patterns("--include", args.include, "modules to quantize although the default list names them (repeatable)");
    add_patterns("--keep", args.keep, "modules to keep in any case, '.*self_attn.*' (repeatable)");
    tools::add_bytes(app, "--shard-size", args.shard_bytes, "tensor data per output file (default 5GB)");
    tools::add_bytes(app, "--ram", args.ram_bytes,
                     "memory budget (default: 256MiB of buffers; to calibrate, most of the free memory)");
    tools::add_threads(app, args.engine);
    app.add_flag("--dry-run", args.dry_run,
                 "print the plan, with calibration data also of the forward pass, and stop; reads no weights but "
                 "samples for its estimate");
    app.add_flag("--download", args.downloads,
                 "with --dry-run: first download what the cache lacks of a model of the hub, in place of listing it");
    app.add_flag(
        "--estimate", args.estimates,
        "before a run: measure for two seconds how long it will take; the report has the error (--dry-run: always)");
    app.add_flag("--no-estimate", args.no_estimate, "with --dry-run: measure nothing, estimate no time");
    tools::add_choice(app, "--assume", args.assume, {"h100", "h200"},
                      "estimate the time of another machine, by its recorded rates: h100 or h200")
        ->type_name("MACHINE");
    tools::add_real(app, "--price", args.price, 0, tools::Least::excluded, 1e6,
                    "estimate the cost, at so many dollars an hour");
    app.add_flag("--overwrite", args.overwrite, "replace DST once the new checkpoint is complete");
    app.add_flag(
        "--no-resume", args.no_resume,
        "save nothing to go on with after a stop, and go on with no stopped run (with --overwrite: remove its files)");
    app.add_option(
           "--layers", args.layers,
           "without data: only layers A to B, from 0 on, into DST.partial; a run without --layers makes the rest")
        ->type_name("A..B");
    tools::add_list(app, "--take", args.taken,
                    "DST.partial of a run with --layers, on another machine as well: copy what it made (repeatable)")
        ->type_name("FOLDER");
    app.add_option("--json", args.json,
                   "write the plan (with --dry-run) or the run's times to FILE; - is standard output")
        ->type_name("FILE");
    app.add_option("--report", args.page,
                   "write what the run did and found to a new FILE: a page for a browser (.html), or JSON (.json)")
        ->type_name("FILE");
    tools::add_events(app, args.events);
    app.add_option("--trace", args.trace, "write a timeline of the run to FILE (Chrome's trace format)")
        ->type_name("FILE");
    app.add_flag("--profile", args.profile, "a table of times by kind of work at the end; its parts add up to the run");
    app.add_flag("--quiet", args.quiet, "only warnings and errors");
}

void declare_calibration(CLI::App & app, Args & args) {
    const tools::Choices<gnv_expert_tokens> experts = {{"all", GNV_EXPERTS_ALL}, {"routed", GNV_EXPERTS_ROUTED}};
    tools::add_data_options(app, args.data,
                            "; self[:N]: N sequences (256, of 512 tokens) that the model writes, before other data");
    app.add_option("--writer", args.self.writer,
                   "folder of the checkpoint that writes the sequences of --calib self: a copy of SRC in NVFP4 writes "
                   "faster (default: SRC)")
        ->type_name("MODEL");
    tools::add_choice(app, "--experts", args.experts, experts,
                      "tokens that experts see in calibration: all (default) or routed")
        ->type_name("WHICH");
    const tools::Choices<gnv_screening> screening = {
        {"on", GNV_SCREENING_ON}, {"off", GNV_SCREENING_OFF}, {"check", GNV_SCREENING_CHECK}};
    tools::add_choice(
        app, "--screen", args.screening, screening,
        "with all experts on CUDA 9.0: sort out tokens in 8 bits first (on, default), compute all in full (off), "
        "or compare both (check); the result has the same bytes")
        ->type_name("HOW");
    tools::add_count(app, "--min-expert-tokens", args.min_expert_tokens, 1, tools::any_count,
                     "fail if the router sends an expert fewer than N tokens of the data");
    tools::add_device(app, args.device, "to calibrate on", true);
    tools::add_vram(app, args.device);
    tools::add_precision(app, args.device);
    app.add_option("--scratch", args.scratch,
                   "folder for hidden states that do not fit into --ram (default: beside DST)")
        ->type_name("FOLDER");
    app.add_flag("--save-each-layer", args.save_each_layer,
                 "save the state after each layer of calibration (default: as often as takes at most 3 % of the time)");
    app.add_flag(
        "--measure-limits", args.measure_limits,
        "first measure limits for the rates of the run: the disks of SRC and DST alone, for two seconds, and on "
        "CUDA the experts' products alone, for 10 seconds");
    app.add_option("--save-stats", args.save_statistics, "write the statistics of calibration to FILE")
        ->type_name("FILE");
    app.add_option("--part", args.part,
                   "measure part K of N of the data alone, for --save-stats; --stats takes the files of all parts")
        ->type_name("K/N");
    tools::add_list(app, "--stats", args.statistics,
                    "use saved statistics instead of data; several files are merged (repeatable)")
        ->type_name("FILE");
    app.add_flag("--show-stats", args.show_statistics, "print the statistics of --stats and stop");
}

using Calibration = tools::Handle<gnv_calibration_t, gnv_calibration_destroy>;

// Null with the message in the engine.
Calibration load_statistics(gnv_engine_t * engine, const Args & args) {
    const auto paths = tools::pointers(args.statistics);
    gnv_calibration_t * calibration = nullptr;
    (void)gnv_calibration_load(engine, paths.data(), paths.size(), &calibration);
    return Calibration(calibration);
}

int show_statistics(Args & args, gnv_engine_t * engine) {
    const Calibration calibration = load_statistics(engine, args);
    gnv_text_t * text = nullptr;
    const gnv_text_format format = args.json.empty() ? GNV_TEXT_PLAIN : GNV_TEXT_JSON;
    if (!calibration || gnv_calibration_text(calibration.get(), format, &text) != GNV_OK) return tools::report(engine);
    const tools::Text owner(text);
    return args.give(text) ? tools::exit_ok : tools::exit_failure;
}

// The folder that DST is made in.
std::string parent_folder(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// The inputs of a run and of its plan.
struct Inputs {
    tools::Tokenizer tokenizer;
    tools::Dataset dataset;
    Calibration calibration;
    std::string scratch;
};

// The model's own text, and the other data behind it, as a tokens file. False after printing the reason.
bool write_self_text(const Args & args, gnv_engine_t * engine, Inputs & inputs) {
    if (!args.self.writer.empty() && !tools::have_same_tokenizer(args.self.writer, args.source)) {
        tools::say_error("--writer %s: its tokenizer.json is not that of %s; a copy of the source is wanted, whose ids "
                         "mean the same\n",
                         args.self.writer.c_str(), args.source.c_str());
        return false;
    }
    if (!args.data.sources.empty()) {
        tools::DataArgs data = args.data;
        data.options.ram_bytes = args.ram_bytes;
        if (!tools::open_data(engine, args.source, data, inputs.tokenizer, inputs.dataset)) {
            tools::report(engine);
            return false;
        }
    }
    tools::SelfTextArgs self = args.self;
    if (self.writer.empty()) self.writer = args.source;
    tools::SelfTextWriter writer(args.engine, args.device_number, args.device, args.source_bytes, self);
    if (!writer.run(args.quiet) || !writer.save(engine, inputs.dataset.get())) return false;
    inputs.dataset.reset();
    if (!args.quiet) fprintf(stderr, "wrote %s; --tokens repeats this run with it\n", args.self.path.c_str());
    return true;
}

// False after printing the reason.
bool make_options(const Args & args, gnv_engine_t * engine, Inputs & inputs, gnv_quantize_options & options) {
    const auto failed = [&] {
        tools::report(engine);
        return false;
    };
    gnv_quantize_options_init(&options);
    options.devices = args.device.numbers.data();
    options.device_count = args.device.numbers.size();
    options.precision = args.device.precision;
    tools::DataArgs data = args.data;
    data.options.ram_bytes = args.ram_bytes;
    if (args.self.records > 0) {
        if (!write_self_text(args, engine, inputs)) return false;
        data = tools::DataArgs();
        data.options.ram_bytes = args.ram_bytes;
        data.tokens = args.self.path;
    }
    if (args.has_data() && !tools::open_data(engine, args.source, data, inputs.tokenizer, inputs.dataset))
        return failed();
    if (!args.statistics.empty() && !(inputs.calibration = load_statistics(engine, args))) return failed();
    const std::string & made = args.destination.empty() ? args.save_statistics : args.destination;
    inputs.scratch = args.scratch.empty() ? parent_folder(made) : args.scratch;
    options.dataset = inputs.dataset.get();
    options.calibration = inputs.calibration.get();
    options.device_bytes = args.device.vram_bytes;
    options.experts = args.experts;
    options.screening = args.screening;
    options.scratch_folder = inputs.scratch.c_str();
    options.resume = args.resume();
    options.part = args.part_number;
    options.parts = args.parts;
    return true;
}

gnv_estimate_options estimate_options(const Args & args, const std::string & folder) {
    gnv_estimate_options options;
    gnv_estimate_options_init(&options);
    options.assume = args.assume.empty() ? nullptr : args.assume.c_str();
    options.price = args.price;
    options.folder = folder.c_str();
    return options;
}

int dry_run(Args & args, gnv_engine_t * engine, gnv_plan_t * plan) {
    Inputs inputs;
    gnv_quantize_options options;
    if (!make_options(args, engine, inputs, options)) return tools::exit_failure;
    if (inputs.dataset && gnv_plan_add_calibration(plan, &options) != GNV_OK) return tools::report(engine);
    const std::string folder = parent_folder(args.destination);
    const gnv_estimate_options how = estimate_options(args, folder);
    const gnv_card_options card = tools::card_options(args.card, args.source, args.upload);
    if (!args.card.left_out) options.card = &card;
    const bool leaves_out = args.no_estimate || (args.streams && args.assume.empty());
    const gnv_status estimated = leaves_out ? GNV_OK : gnv_plan_add_estimate(plan, &options, &how, nullptr);
    // A plan is of use without an estimate; one that an option asks for is not left out.
    if (estimated != GNV_OK && (args.estimates || estimated == GNV_CANCELLED)) return tools::report(engine);
    if (estimated != GNV_OK)
        tools::print_log(nullptr, GNV_LOG_WARNING,
                         ("no estimate of the time: " + std::string(gnv_last_error(engine))).c_str());
    gnv_text_t * text = nullptr;
    if (gnv_plan_text(plan, args.json.empty() ? GNV_TEXT_PLAIN : GNV_TEXT_JSON, &text) != GNV_OK)
        return tools::report(engine);
    const tools::Text owner(text);
    if (args.recipe.empty() && args.scheme == GNV_SCHEME_NVFP4 && !args.has_data() && args.statistics.empty())
        tools::print_log(
            nullptr, GNV_LOG_WARNING,
            "a run with scheme nvfp4 also needs calibration data (--calib, --tokens) or statistics (--stats)");
    return args.give(text) ? tools::exit_ok : tools::exit_failure;
}

// The last block: what was made, and the next command.
void say_end(const Args & args, const std::string & made, const char * summary) {
    fputs(summary, stderr);
    if (!args.layers.empty()) {
        fprintf(
            stderr,
            "layers %d to %d are in %s.partial; without --layers the run goes on with them, elsewhere with --take\n",
            args.first_layer, args.last_layer, made.c_str());
        return;
    }
    fprintf(stderr, "%swrote%s %s\n", tools::begin_colour(stderr, tools::Tone::good), tools::end_colour(stderr),
            made.c_str());
    if (args.destination.empty()) {
        const std::string command = tools::program_beside("quantize") + " " + args.source + " -o DST --stats " + made;
        if (args.parts > 1) {
            fprintf(stderr, "next: measure the other parts, then %s --stats OTHER ...\n", command.c_str());
        } else {
            fprintf(stderr, "next: %s\n", command.c_str());
        }
    } else {
        fprintf(stderr, "next: %s %s --source %s\n", tools::program_beside("verify").c_str(), made.c_str(),
                args.source.c_str());
    }
}

int run(Args & args, gnv_engine_t * engine, const gnv_plan_t * plan) {
    gnv_plan_info info = {};
    info.struct_size = sizeof info;
    if (gnv_plan_get_info(plan, &info) != GNV_OK) return tools::report(engine);
    args.source_bytes = info.source_bytes;

    Inputs inputs;
    gnv_quantize_options options;
    if (!make_options(args, engine, inputs, options)) return tools::exit_failure;
    tools::ProgressLine progress(args.quiet);
    options.overwrite = args.overwrite;
    options.progress = tools::ProgressLine::callback;
    options.user = &progress;
    options.save_statistics = args.save_statistics.empty() ? nullptr : args.save_statistics.c_str();
    options.trace_file = args.trace.empty() ? nullptr : args.trace.c_str();
    options.report_file = args.page.empty() ? nullptr : args.page.c_str();
    options.first_layer = args.first_layer;
    options.layer_count = args.last_layer - args.first_layer + 1;
    const std::vector<const char *> taken = tools::pointers(args.taken);
    options.take = taken.data(), options.take_count = taken.size();
    options.measure_limits = args.measure_limits;
    const gnv_card_options card = tools::card_options(args.card, args.source, args.upload);
    if (!args.card.left_out) options.card = &card;
    const gnv_estimate_options how = estimate_options(args, inputs.scratch);
    if (args.estimates) options.estimate = &how;
    options.min_expert_tokens = args.min_expert_tokens;
    gnv_text_t *report = nullptr, *phases = nullptr, *summary = nullptr;
    if (args.profile) options.phases = &phases;
    if (!args.quiet) options.summary = &summary;
    {
        const tools::StoppableCall stoppable;
        const char * const destination = args.destination.empty() ? nullptr : args.destination.c_str();
        if (gnv_quantize(plan, destination, &options, &report) != GNV_OK) return tools::report(engine);
    }
    const tools::Text owner(report), phases_owner(phases), summary_owner(summary);
    if (args.report.is_wanted() && !args.report.write(report)) return tools::exit_failure;
    const std::string & made = args.destination.empty() ? args.save_statistics : args.destination;
    if (phases) fprintf(stderr, "%s\n", gnv_text_data(phases));
    if (!args.quiet) say_end(args, made, gnv_text_data(summary));
    return args.upload.empty() || tools::upload(engine, made, args.upload, args.create, args.quiet)
               ? tools::exit_ok
               : tools::exit_failure;
}

// A run that goes on with a stopped one may find the file that this has written.
bool check_statistics_file(const Args & args) {
    std::string partial = args.destination;
    while (partial.size() > 1 && partial.back() == '/') partial.pop_back();
    partial += ".partial";
    const bool may_exist = !args.no_resume && !args.destination.empty() && access(partial.c_str(), F_OK) == 0;
    return may_exist || tools::check_new_file(args.save_statistics);
}

// Every option must have an effect, and every output must be possible. False after printing the problem.
bool check_usage(const tools::Program & app, Args & args) {
    const auto say = [](const char * problem) {
        tools::say_error("%s\n", problem);
        return false;
    };
    if (args.show_statistics) {
        if (args.statistics.empty()) return say("--show-stats needs --stats FILE");
        for (const CLI::Option * option : app.get_options())
            if (option->count() > 0 &&
                std::string("--show-stats --stats --json --threads --instructions --quiet").find(option->get_name()) ==
                    std::string::npos)
                return tools::refuse(app, {option->get_name().c_str()},
                                     "has no effect with --show-stats: leave it out");
        return args.report.prepare(args.json);
    }
    if (!args.recipe.empty() &&
        !tools::refuse(
            app, {"--scheme", "--preset", "--method", "--headroom", "--draft-head", "--ignore", "--include", "--keep"},
            "is for the recipe to decide: leave it out, or change the file of --recipe"))
        return false;
    if (!args.create.empty() && args.upload.empty()) return say("--create needs --upload ORG/NAME");
    if (!args.upload.empty() && args.destination.empty()) return say("--upload sends a folder: -o DST is needed");
    if (!args.upload.empty() && args.dry_run) return say("--dry-run writes nothing to upload: leave --upload out");
    if (!args.upload.empty() && !args.layers.empty())
        return say("a run with --layers makes no result to upload: leave --upload out");
    if (args.uploads_alone()) {
        for (const CLI::Option * option : app.get_options())
            if (option->count() > 0 &&
                std::string("--output --upload --create --threads --instructions --quiet").find(option->get_name()) ==
                    std::string::npos)
                return tools::refuse(app, {option->get_name().c_str()}, "has no effect without SRC: leave it out");
        return true;
    }
    if (args.source.empty()) {
        say("SRC is needed");
        tools::say_usage(app);
        return false;
    }
    args.streams |= tools::is_given(app, "--stream-disk");
    if (args.streams && !tools::may_be_hub_name(args.source))
        return say("--stream is for a model of the hub (ORG/NAME): leave it out, SRC is a folder");
    if (!tools::check_folder(args.source)) return false;
    if (args.destination.empty() && !args.dry_run && args.save_statistics.empty())
        return say("-o DST is needed (or --dry-run, or --save-stats FILE to measure alone)");
    char end = 0;
    if (!args.part.empty() && (sscanf(args.part.c_str(), "%9u/%9u%c", &args.part_number, &args.parts, &end) != 2 ||
                               args.part_number == 0 || args.part_number > args.parts))
        return say("--part: K/N is wanted, part K of N: 2/4");
    if (!args.part.empty() && !args.destination.empty())
        return say("--part: a part of the data gives statistics and no result: leave -o out, and quantize with the "
                   "statistics of all parts (--stats)");
    if (!args.layers.empty() &&
        (sscanf(args.layers.c_str(), "%9d..%9d%c", &args.first_layer, &args.last_layer, &end) != 2 ||
         args.first_layer < 0 || args.last_layer < args.first_layer))
        return say("--layers: A..B is wanted, layers A to B, from 0 on: 0..19");
    if (args.dry_run && !tools::refuse(app, {"--layers", "--take"}, "changes no plan: leave it out with --dry-run"))
        return false;
    if (args.dry_run && !tools::refuse(app, {"--report"}, "is about a run: leave it out with --dry-run")) return false;
    if (args.has_data() &&
        !tools::refuse(app, {"--layers", "--take"}, "is for runs without data: a forward pass needs all layers"))
        return false;
    tools::DataArgs data = args.data;
    if (!tools::take_self_text(args.data.sources, args.self)) return false;
    if (!tools::check_vram(app, args.device) || !tools::check_data_options(app, data)) return false;
    if (args.self.records > 0) {
        if (!args.data.tokens.empty()) return say("--calib self makes a tokens file: leave --tokens out");
        if (args.dry_run) return say("--dry-run writes no text: give data, or the tokens file of another run");
        if (args.streams) return say("--calib self runs the model, whose weights --stream does not keep: give data");
        args.self.path = (args.destination.empty() ? args.save_statistics : args.destination) + ".self-tokens.json";
        if (!tools::check_new_file(args.self.path)) return false;
        if (tools::is_given(app, "--seq-len")) args.self.length = args.data.options.sequence_length;
        if (args.self.length < 16) return say("--calib self needs sequences of 16 tokens or more (--seq-len)");
        args.self.seed = args.data.options.seed;
    } else if (!args.self.writer.empty()) {
        return say("--writer is the checkpoint that writes the sequences of --calib self: add that, or leave it out");
    }
    if (args.downloads && !args.dry_run) return say("--download goes with --dry-run: a run downloads by itself");
    if (args.no_estimate && !args.dry_run)
        return say("--no-estimate goes with --dry-run: a run estimates with --estimate alone");
    if (args.no_estimate &&
        !tools::refuse(app, {"--estimate", "--assume", "--price"}, "is for the estimate that --no-estimate leaves out"))
        return false;
    if (!args.assume.empty() || tools::is_given(app, "--price")) args.estimates = true;
    if (args.streams && args.estimates && args.assume.empty())
        return say("how long a streamed source takes is up to the network: leave --estimate and --price out, or add "
                   "--assume");
    if (!args.has_data() && args.statistics.empty() &&
        !tools::refuse(app, {"--min-expert-tokens"}, "needs calibration data, or statistics (--stats)"))
        return false;
    if (args.dry_run && !tools::refuse(app, {"--min-expert-tokens", "--profile", "--measure-limits", "--events"},
                                       "is about a run: leave it out with --dry-run"))
        return false;
    if (!args.has_data()) {
        const auto of_passes = {"--experts",    "--precision",       "--vram", "--scratch",
                                "--save-stats", "--save-each-layer", "--part", "--screen"};
        const bool names_cuda = args.device.device.rfind("cuda", 0) == 0;
        if (!tools::refuse(app, of_passes, "needs calibration data: --calib PATH or --tokens FILE") ||
            (names_cuda && !tools::refuse(app, {"--device"}, "is for calibration: give --calib PATH or --tokens FILE")))
            return false;
    }
    return tools::check_distinct({{"--json", args.json},
                                  {"--report", args.page},
                                  {"--trace", args.trace},
                                  {"--events", args.events},
                                  {"--save-stats", args.save_statistics}}) &&
           args.report.prepare(args.json) && tools::check_report_file(args.page) && tools::check_new_file(args.trace) &&
           check_statistics_file(args) && tools::check_scratch_folder(args.scratch) && tools::open_events(args.events);
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    tools::Program app(
        "quantize", "Quantize a BF16 checkpoint to NVFP4 for vLLM and SGLang.", "SRC -o DST [options]",
        {{"weights alone (W4A16): no data, minutes", "quantize SRC -o DST --scheme nvfp4a16"},
         {"weights and inputs (W4A4), calibrated",
          "quantize SRC -o DST --calib data.jsonl --samples 256 --seq-len 2048"},
         {"what a run would do, need and take", "quantize SRC -o DST --calib data.jsonl --dry-run"},
         {"from the hub to the hub", "quantize org/model -o DST --calib hub:org/data --upload me/model-NVFP4"}});
    tools::set_up(app);
    declare(app, args);
    declare_calibration(app, args);
    app.group_help("What to make",
                   {"--output", "--stream", "--stream-disk", "--recipe", "--scheme", "--preset", "--method",
                    "--headroom", "--draft-head", "--ignore", "--include", "--keep", "--shard-size", "--overwrite"});
    app.group_help("Data", {"--calib", "--writer", "--tokens", "--template", "--samples", "--seq-len", "--seed",
                            "--no-shuffle", "--pad", "--pack", "--chunk", "--skip-bad", "--experts",
                            "--min-expert-tokens", "--save-stats", "--part", "--stats", "--show-stats"});
    app.group_help("Machine", {"--device", "--threads", "--ram", "--vram", "--precision", "--scratch", "--no-resume",
                               "--save-each-layer", "--layers", "--take", "--measure-limits", "--screen"});
    app.group_help("Plan and output", {"--dry-run", "--download", "--estimate", "--no-estimate", "--assume", "--price",
                                       "--json", "--report", "--events", "--trace", "--profile", "--quiet", "--upload",
                                       "--create", "--base-model", "--no-card"});
    if (const auto code = tools::parse(app, argc, argv, "--show-stats")) return *code;
    if (!check_usage(app, args)) return tools::exit_failure;
    tools::events.write("begin", {{"program", "quantize"},
                                  {"version", gnv_version()},
                                  {"source", args.source},
                                  {"destination", args.destination}});
    args.engine.quiet = args.quiet;
    args.card.command = tools::public_command(argc, argv);
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine) return tools::exit_failure;
    if (args.show_statistics) return show_statistics(args, engine.get());
    if (args.uploads_alone())
        return tools::upload(engine.get(), args.destination, args.upload, args.create, args.quiet)
                   ? tools::exit_ok
                   : tools::exit_failure;
    if (!args.upload.empty() && !tools::check_upload(engine.get(), args.upload, args.create))
        return tools::exit_failure;
    // Without data no device computes, but an unknown name is still refused.
    if ((args.has_data() || args.device.device != "auto") &&
        !tools::find_devices(engine.get(), args.device, args.device_number, &args.device.precision))
        return tools::exit_failure;
    tools::Stream stream; // outlives the plan
    const bool is_source_here =
        args.streams ? tools::open_stream(engine.get(), args.source, args.stream_bytes, args.quiet, stream)
                     : tools::fetch_model(engine.get(), args.source, args.quiet, args.dry_run && !args.downloads);
    if (!is_source_here || !tools::fetch_data(engine.get(), args.data.sources, args.quiet)) return tools::exit_failure;

    gnv_plan_options options;
    gnv_plan_options_init(&options);
    options.scheme = args.scheme;
    options.preset = args.preset;
    options.method = args.method;
    options.headroom = args.headroom;
    options.draft_head = args.draft_head;
    const auto ignore = tools::pointers(args.ignore), include = tools::pointers(args.include),
               keep = tools::pointers(args.keep);
    options.ignore = ignore.data(), options.ignore_count = ignore.size();
    options.include = include.data(), options.include_count = include.size();
    options.keep = keep.data(), options.keep_count = keep.size();
    options.shard_bytes = args.shard_bytes;
    options.ram_bytes = args.ram_bytes;
    options.calibrates = args.has_data();
    options.destination = args.dry_run && !args.destination.empty() ? args.destination.c_str() : nullptr;
    options.overwrite = args.overwrite;
    options.resume = args.resume();
    options.recipe_file = args.recipe.empty() ? nullptr : args.recipe.c_str();
    options.stream = stream.handle.get();
    gnv_plan_t * plan = nullptr;
    if (gnv_plan_create(engine.get(), args.source.c_str(), &options, &plan) != GNV_OK)
        return tools::report(engine.get());
    const tools::Handle<gnv_plan_t, gnv_plan_destroy> owner(plan);
    return args.dry_run ? dry_run(args, engine.get(), plan) : run(args, engine.get(), plan);
}

int tools::run_quantize(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
