// Shared code of the programs: option parsing, the engine's lifetime, devices and calibration data. Programs use only
// the public header and the headers of this folder.
#pragma once

#include "command_line.h"
#include "hub.h"
#include "numbers.h"
#include "outputs.h"
#include "process.h"
#include "programs.h"
#include "progress.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ggml-nvfp4.h>
#include <initializer_list>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tools {

inline std::vector<const char *> pointers(const std::vector<std::string> & texts) {
    std::vector<const char *> out;
    for (const std::string & text : texts) out.push_back(text.c_str());
    return out;
}

// --- Handles ------------------------------------------------------------------------------------------------------------

// unique_ptr over a C handle: Handle<gnv_plan_t, gnv_plan_destroy>
template <class T, void (*destroy)(T *)>
struct Destroyer {
    void operator()(T * handle) const { destroy(handle); }
};
template <class T, void (*destroy)(T *)>
using Handle = std::unique_ptr<T, Destroyer<T, destroy>>;
using Engine = Handle<gnv_engine_t, gnv_engine_destroy>;
using Text = Handle<gnv_text_t, gnv_text_destroy>;

inline void print_log(void *, gnv_log_level level, const char * message) {
    end_progress_line();
    if (level == GNV_LOG_WARNING)
        fprintf(stderr, "%swarning:%s ", begin_colour(stderr, Tone::warning), end_colour(stderr));
    events.write("message", {{"level", level == GNV_LOG_WARNING ? "warning" : "note"}, {"message", message}});
    fprintf(stderr, "%s\n", message);
}

// For --quiet: what is worth a look is printed all the same.
inline void print_warnings(void * user, gnv_log_level level, const char * message) {
    if (level == GNV_LOG_WARNING) print_log(user, level, message);
}

struct EngineArgs {
    int threads = 0;
    bool quiet = false; // no notes
    gnv_instructions instructions = GNV_INSTRUCTIONS_BEST;
};

// A hidden option for tests: a lower instruction set than the processor's.
inline void add_instructions(CLI::App & app, EngineArgs & args) {
    const Choices<gnv_instructions> sets = {{"best", GNV_INSTRUCTIONS_BEST},
                                            {"portable", GNV_INSTRUCTIONS_PORTABLE},
                                            {"avx2", GNV_INSTRUCTIONS_AVX2},
                                            {"avx512", GNV_INSTRUCTIONS_AVX512}};
    add_choice(app, "--instructions", args.instructions, sets, "")->group("");
}

inline void add_threads(CLI::App & app, EngineArgs & args) {
    add_count(app, "--threads", args.threads, 0, most_threads, "worker threads (default, 0: one per processor)");
    add_instructions(app, args);
}

inline CLI::Option * add_events(CLI::App & app, std::string & path) {
    return app
        .add_option("--events", path,
                    "write what happens to a new FILE, a pipe or /dev/fd/N as JSON lines: progress by phase and layer, "
                    "messages, findings, the end; - is standard output")
        ->type_name("FILE");
}

// Null after printing the reason.
inline Engine make_engine(const EngineArgs & args) {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = args.threads;
    options.instructions = args.instructions;
    options.log = args.quiet ? print_warnings : print_log;
    options.text_columns = text_columns();
    gnv_engine_t * engine = nullptr;
    const gnv_status status = gnv_engine_create(&options, &engine);
    if (status == GNV_UNSUPPORTED) {
        say_error("--instructions: this processor lacks this instruction set\n");
    } else if (status != GNV_OK && args.threads == 0) {
        say_error("cannot start a thread for each processor: %s; give --threads N\n", gnv_status_string(status));
    } else if (status != GNV_OK) {
        say_error("cannot start %d threads: %s; give fewer\n", args.threads, gnv_status_string(status));
    }
    return Engine(engine);
}

// The exit code of a failure: what the groups of gnv_status say.
inline int exit_code_of(gnv_status status) {
    return status < GNV_FORMAT     ? exit_failure
           : status < GNV_IO       ? exit_input
           : status < GNV_INTERNAL ? exit_machine
                                   : exit_internal;
}

// Prints the failure; the program is going to end with its exit code.
inline int report(const gnv_engine_t * engine) {
    failure_kind = exit_code_of(gnv_last_status(engine));
    say_error("%s\n", gnv_last_error(engine));
    return exit_failure;
}

// --- Devices ------------------------------------------------------------------------------------------------------------

// The device and the arithmetic of a program.
struct DeviceArgs {
    std::string device = "auto";
    std::vector<int32_t> numbers; // of the devices that find_devices() found
    uint64_t vram_bytes = 0;
    gnv_precision precision = GNV_PRECISION_FP32; // that find_devices() chose
    std::optional<gnv_precision> wanted_precision;
};

// `task`: of the device, "to compute on". `several`: the program takes more than one.
inline CLI::Option * add_device(CLI::App & app, DeviceArgs & args, const std::string & task, bool several = false) {
    return app
        .add_option("--device", args.device,
                    "device " + task + ": cpu, cuda[:N]" +
                        (several ? ", cuda:N,M or cuda:all (cards of one model)" : "") +
                        " or auto (default; CUDA if present, else CPU; CPU with --precision fp32)")
        ->type_name("NAME");
}

inline CLI::Option * add_vram(CLI::App & app, DeviceArgs & args) {
    return add_bytes(app, "--vram", args.vram_bytes,
                     "budget of each CUDA device's memory (default: most of the free memory)");
}

inline CLI::Option * add_precision(CLI::App & app, DeviceArgs & args) {
    const Choices<gnv_precision> precisions = {{"fp32", GNV_PRECISION_FP32}, {"bf16", GNV_PRECISION_BF16}};
    return add_choice(app, "--precision", args.wanted_precision, precisions,
                      "arithmetic: fp32 (CPU only, its default) or bf16 (default on CUDA)",
                      {{"float32", "fp32"}, {"bfloat16", "bf16"}, {"f32", "fp32"}});
}

// The number of --device in the library, and the arithmetic there (may be null). False after printing the reason.
inline bool find_device(gnv_engine_t * engine, const DeviceArgs & args, int32_t & device, gnv_precision * precision) {
    const gnv_precision * const wanted = precision && args.wanted_precision ? &*args.wanted_precision : nullptr;
    if (gnv_device_find(engine, args.device.c_str(), wanted, &device, precision) == GNV_OK) return true;
    failure_kind = exit_code_of(gnv_last_status(engine));
    say_error("--device %s\n", gnv_last_error(engine));
    return false;
}

// The same for several devices, whose numbers go to args.numbers; `device` receives the first.
inline bool find_devices(gnv_engine_t * engine, DeviceArgs & args, int32_t & device, gnv_precision * precision) {
    const gnv_precision * const wanted = precision && args.wanted_precision ? &*args.wanted_precision : nullptr;
    uint64_t count = 0;
    gnv_status status = gnv_device_find_all(engine, args.device.c_str(), wanted, nullptr, 0, &count, precision);
    args.numbers.resize(size_t(count));
    if (status == GNV_OK)
        status =
            gnv_device_find_all(engine, args.device.c_str(), wanted, args.numbers.data(), count, &count, precision);
    if (status == GNV_OK) device = args.numbers.front();
    if (status == GNV_OK) return true;
    failure_kind = exit_code_of(status);
    say_error("--device %s\n", gnv_last_error(engine));
    return false;
}

// False after printing that --vram has no device.
inline bool check_vram(const CLI::App & app, const DeviceArgs & args) {
    return args.device != "cpu" || refuse(app, {"--vram"}, "is for CUDA: leave it out beside --device cpu");
}

// --- Calibration data ---------------------------------------------------------------------------------------------------

using Tokenizer = Handle<gnv_tokenizer_t, gnv_tokenizer_destroy>;
using Dataset = Handle<gnv_dataset_t, gnv_dataset_destroy>;

struct DataArgs {
    gnv_dataset_options options = defaults();
    std::vector<std::string> sources;
    std::string tokens, text_template;
    bool no_shuffle = false, pad = false, pack = false, chunk = false, skip_bad = false;

    static gnv_dataset_options defaults() {
        gnv_dataset_options options;
        gnv_dataset_options_init(&options);
        return options;
    }
};

inline CLI::Option * add_skip_bad(CLI::App & app, bool & skip_bad) {
    return app.add_flag(
        "--skip-bad", skip_bad,
        "leave out records whose pictures are missing or damaged, and say how many; else they are an error");
}

inline CLI::Option * add_template(CLI::App & app, std::string & name) {
    return add_choice(
        app, "--template", name, {"model", "alpaca", "chatml", "none"},
        "model (its own chat template), alpaca, chatml or none; default: model for messages, else what fits");
}

// `more`: about other values of --calib.
inline void add_data_options(CLI::App & app, DataArgs & args, const std::string & more = {}) {
    add_list(app, "--calib", args.sources,
             "data to calibrate with, [ALIAS@]PATH[:FIELD[+FIELD]][=WEIGHT]; may be given several times: .jsonl, "
             ".json, .csv, "
             ".tsv, .txt, also .gz or .zst, .parquet or a folder; hub:ORG/NAME[:CONFIG[:SPLIT]]: a data set of the "
             "hub; ALIAS: "
             "open-platypus, gsm8k, oasst1, the-stack, pg19" +
                 more)
        ->type_name("PATH");
    app.add_option("--tokens", args.tokens,
                   "exact ids and masks instead: {\"input_ids\": [[..]], \"attention_mask\": [[..]]}")
        ->type_name("FILE");
    add_template(app, args.text_template);
    add_count_with_default(app, "--samples", args.options.samples, 0, most_positions, "sequences; 0: every row");
    add_count_with_default(app, "--seq-len", args.options.sequence_length, 1, most_positions,
                           "largest number of tokens of a sequence");
    add_count_with_default(app, "--seed", args.options.seed, 0, any_count, "seed of the choice of rows");
    app.add_flag("--no-shuffle", args.no_shuffle, "choose the first rows in file order");
    app.add_flag("--pad", args.pad, "pad every sequence to the full length, as llm-compressor does");
    app.add_flag("--pack", args.pack, "fill every sequence with several documents");
    app.add_flag("--chunk", args.chunk, "cut long documents into sequences, in place of taking their first tokens");
    add_skip_bad(app, args.skip_bad);
}

// False after naming an option of the data that has no effect beside the others.
inline bool check_data_options(const CLI::App & app, const DataArgs & args) {
    const auto of_rows = {"--template", "--samples", "--seq-len", "--seed",    "--no-shuffle",
                          "--pad",      "--pack",    "--chunk",   "--skip-bad"};
    if (!args.tokens.empty() && args.sources.empty())
        return refuse(app, of_rows, "goes with --calib: --tokens gives exact sequences");
    if (args.sources.empty()) return refuse(app, of_rows, "needs --calib PATH");
    return !args.no_shuffle || refuse(app, {"--seed"}, "has no effect: --no-shuffle takes the first rows");
}

// A progress callback that only passes requests to stop on.
inline int stop_on_request(void *, const gnv_progress *) { return stop_request(); }

// Loads the tokenizer of `model` and the data of `args`; false with the message in the engine.
inline bool open_data(gnv_engine_t * engine, const std::string & model, const DataArgs & args, Tokenizer & tokenizer,
                      Dataset & dataset) {
    gnv_tokenizer_t * tokenizer_handle = nullptr;
    if (gnv_tokenizer_load(engine, model.c_str(), &tokenizer_handle) != GNV_OK) return false;
    tokenizer.reset(tokenizer_handle);
    const std::vector<const char *> sources = pointers(args.sources);
    gnv_dataset_options options = args.options;
    options.sources = sources.data();
    options.source_count = sources.size();
    if (!args.tokens.empty()) options.tokens_file = args.tokens.c_str();
    if (!args.text_template.empty()) options.text_template = args.text_template.c_str();
    options.no_shuffle = args.no_shuffle;
    options.pad = args.pad;
    options.pack = args.pack;
    options.chunk = args.chunk;
    options.skip_bad = args.skip_bad;
    options.progress = stop_on_request;
    const StoppableCall stoppable;
    gnv_dataset_t * dataset_handle = nullptr;
    if (gnv_dataset_open(engine, tokenizer.get(), &options, &dataset_handle) != GNV_OK) return false;
    dataset.reset(dataset_handle);
    return true;
}

} // namespace tools
