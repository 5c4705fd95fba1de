// inspect DIR: the contents of a checkpoint or of one file of tensors, the statistics of one tensor, the differences of two
// checkpoints.
#include "common/args.h"

#include <algorithm>
#include <cinttypes>

namespace {

using Checkpoint = tools::Handle<gnv_checkpoint_t, gnv_checkpoint_close>;
using Comparison = tools::Handle<gnv_comparison_t, gnv_comparison_destroy>;

struct Args {
    std::string folder, filter, tensor, values, other, json;
    bool tensors = false, quiet = false;
    tools::EngineArgs engine;
    tools::TextOutput output; // to `json`
};

void declare(CLI::App & app, Args & args) {
    app.add_option("DIR", args.folder, "folder with safetensors files, of any model, or one such file")->required();
    app.add_flag("--tensors", args.tensors, "a line per tensor after the summary");
    app.add_option("--filter", args.filter, "only tensors and quantized modules whose name matches from the start")
        ->type_name("REGEX");
    CLI::Option * const tensor =
        app.add_option("--tensor", args.tensor, "statistics of one tensor or quantized module (then dequantized)")
            ->type_name("NAME");
    app.add_option("--values", args.values, "with --tensor: the first N values (default 16), or the rows A to B - 1")
        ->type_name("[N|A:B]")
        ->expected(0, 1)
        ->default_str("16")
        ->needs(tensor);
    app.add_option("--compare", args.other,
                   "differences from OTHER; exit code 1 for missing or different tensors, except for quantization")
        ->type_name("OTHER")
        ->excludes(tensor);
    app.add_option("--json", args.json, "write the result to FILE instead; - is standard output")->type_name("FILE");
    tools::add_threads(app, args.engine);
    app.add_flag("--quiet", args.quiet, "no progress");
}

gnv_text_format format_of(const Args & args) { return args.json.empty() ? GNV_TEXT_PLAIN : GNV_TEXT_JSON; }

int print_text(Args & args, gnv_text_t * text) {
    const tools::Text owner(text);
    const bool good = args.output.is_wanted() ? args.output.write(text) : tools::show_text(text);
    return good ? tools::exit_ok : tools::exit_failure;
}

Checkpoint open(gnv_engine_t * engine, const std::string & folder) {
    gnv_checkpoint_t * checkpoint = nullptr;
    if (gnv_checkpoint_open(engine, folder.c_str(), &checkpoint) != GNV_OK) tools::report(engine);
    return Checkpoint(checkpoint);
}

// --- List -------------------------------------------------------------------------------------------------------------

int list(Args & args, const gnv_engine_t * engine, gnv_checkpoint_t * checkpoint) {
    gnv_contents_options options;
    gnv_contents_options_init(&options);
    options.filter = args.filter.empty() ? nullptr : args.filter.c_str();
    options.list_tensors = args.tensors || !args.filter.empty();
    gnv_text_t * text = nullptr;
    if (gnv_checkpoint_text(checkpoint, &options, format_of(args), &text) != GNV_OK) return tools::report(engine);
    return print_text(args, text);
}

// --- One tensor -------------------------------------------------------------------------------------------------------

std::vector<uint64_t> shape_of(gnv_checkpoint_t * checkpoint, const std::string & name) {
    uint64_t position = 0;
    if (gnv_checkpoint_find_tensor(checkpoint, name.c_str(), &position) == GNV_OK) {
        gnv_tensor_info info = {};
        info.struct_size = sizeof info;
        if (gnv_checkpoint_tensor_info(checkpoint, position, &info) == GNV_OK)
            return {info.shape, info.shape + info.dimensions};
    } else if (gnv_checkpoint_find_module(checkpoint, name.c_str(), &position) == GNV_OK) {
        gnv_module_info info = {};
        info.struct_size = sizeof info;
        if (gnv_checkpoint_module_info(checkpoint, position, &info) == GNV_OK)
            return {uint64_t(info.rows), uint64_t(info.columns)};
    }
    return {};
}

// "16": the first values; "2:5": rows 2, 3 and 4. False for other text.
bool parse_range(const std::string & text, uint64_t row, uint64_t all, uint64_t & first, uint64_t & count) {
    const size_t colon = text.find(':');
    uint64_t begin = 0, stop = 0;
    if (!tools::parse_count(text.substr(0, colon), begin)) return false;
    if (colon == std::string::npos) {
        first = 0, count = std::min(begin, all);
        return true;
    }
    if (!tools::parse_count(text.substr(colon + 1), stop) || stop < begin) return false;
    const uint64_t rows = row ? all / row : 0;
    first = std::min(begin, rows) * row, count = std::min(stop, rows) * row - first;
    return true;
}

// False after printing the problem.
bool check_range(const std::string & text) {
    uint64_t first = 0, count = 0;
    if (text.empty() || parse_range(text, 1, 0, first, count)) return true;
    tools::say_error("--values %s: expected a number of values, or rows as 0:4\n", text.c_str());
    return false;
}

// Sixteen to a line, a new line for every row of the last dimension.
int print_values(const Args & args, const gnv_engine_t * engine, gnv_checkpoint_t * checkpoint) {
    constexpr uint64_t per_line = 16, per_read = per_line << 12;
    const std::vector<uint64_t> shape = shape_of(checkpoint, args.tensor);
    uint64_t all = 1, first = 0, count = 0;
    for (const uint64_t extent : shape) all *= extent;
    const uint64_t row = shape.empty() ? 1 : shape.back();
    (void)parse_range(args.values, row, all, first, count); // it was checked
    std::vector<double> values;
    for (uint64_t done = 0; done < count; done += values.size()) {
        values.resize(std::min(per_read, count - done));
        if (gnv_checkpoint_values(checkpoint, args.tensor.c_str(), first + done, values.size(), values.data()) !=
            GNV_OK)
            return tools::report(engine);
        for (uint64_t i = 0; i < values.size(); i++) {
            const uint64_t at = first + done + i, column = at % row;
            if (column % per_line == 0 || done + i == 0)
                printf("%s[%" PRIu64 ", %" PRIu64 "]", at > first ? "\n" : "", at / row, column);
            printf(" %.9g", values[i]);
        }
        if (ferror(stdout)) break;
    }
    printf("\n");
    if (fflush(stdout) == 0 && !ferror(stdout)) return tools::exit_ok;
    tools::say_cannot_write("-");
    return tools::exit_failure;
}

int measure(Args & args, const gnv_engine_t * engine, gnv_checkpoint_t * checkpoint) {
    gnv_text_t * text = nullptr;
    if (gnv_checkpoint_measure(checkpoint, args.tensor.c_str(), nullptr, format_of(args), &text) != GNV_OK)
        return tools::report(engine);
    const int code = print_text(args, text);
    return code != tools::exit_ok || args.values.empty() ? code : print_values(args, engine, checkpoint);
}

// --- Two checkpoints --------------------------------------------------------------------------------------------------

int compare(Args & args, gnv_engine_t * engine, gnv_checkpoint_t * here) {
    const Checkpoint there = open(engine, args.other);
    if (!there) return tools::exit_failure;
    tools::ProgressLine progress(args.quiet || isatty(STDERR_FILENO) == 0);
    gnv_compare_options options;
    gnv_compare_options_init(&options);
    options.filter = args.filter.empty() ? nullptr : args.filter.c_str();
    options.progress = tools::ProgressLine::callback;
    options.user = &progress;
    gnv_comparison_t * comparison = nullptr;
    {
        const tools::StoppableCall stoppable;
        if (gnv_checkpoint_compare(here, there.get(), &options, &comparison) != GNV_OK) return tools::report(engine);
    }
    const Comparison owner(comparison);
    gnv_comparison_info info = {};
    info.struct_size = sizeof info;
    if (gnv_comparison_get_info(comparison, &info) != GNV_OK) return tools::report(engine);
    if (!args.filter.empty() &&
        info.equal + info.values + info.form + info.quantized + info.only_here + info.only_there == 0) {
        tools::say_error("--filter %s matches no tensor of either checkpoint: nothing was compared\n",
                         args.filter.c_str());
        return tools::exit_failure;
    }
    gnv_text_t * text = nullptr;
    if (gnv_comparison_text(comparison, format_of(args), &text) != GNV_OK) return tools::report(engine);
    if (print_text(args, text) != tools::exit_ok) return tools::exit_failure;
    const uint64_t findings = info.values + info.form + info.only_here + info.only_there;
    return findings > 0 ? tools::exit_findings : tools::exit_ok;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    tools::Program app("inspect",
                       "Show the contents of a checkpoint: tensors, roles, quantization, statistics, differences.",
                       "DIR [options]",
                       {{"what is in it, by role", "inspect DIR"},
                        {"one tensor", "inspect DIR --tensor lm_head.weight --values"},
                        {"the differences of two", "inspect DIR --compare OTHER"}});
    tools::set_up(app);
    declare(app, args);
    app.group_help("What to show", {"--tensors", "--filter", "--tensor", "--values", "--compare"});
    app.group_help("Machine", {"--threads"});
    app.group_help("Output", {"--json", "--quiet"});
    if (const auto code = tools::parse(app, argc, argv)) return *code;
    if (!args.values.empty() && args.json == "-") {
        tools::say_error("--values and --json - both write to standard output\n");
        return tools::exit_failure;
    }
    if (!args.tensor.empty() &&
        !tools::refuse(app, {"--tensors", "--filter"}, "has no effect with --tensor: leave it out"))
        return tools::exit_failure;
    if (!args.other.empty() && !tools::refuse(app, {"--tensors"}, "has no effect with --compare: leave it out"))
        return tools::exit_failure;
    if (!check_range(args.values)) return tools::exit_failure;
    const auto find = [](std::string & path) { return tools::is_tensor_file(path) || tools::find_model(path); };
    if (!find(args.folder) || !find(args.other) || !args.output.prepare(args.json)) return tools::exit_failure;
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine) return tools::exit_failure;
    const Checkpoint checkpoint = open(engine.get(), args.folder);
    if (!checkpoint) return tools::exit_failure;
    if (!args.other.empty()) return compare(args, engine.get(), checkpoint.get());
    return args.tensor.empty() ? list(args, engine.get(), checkpoint.get())
                               : measure(args, engine.get(), checkpoint.get());
}

int tools::run_inspect(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
