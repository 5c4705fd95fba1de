// What all programs share: option parsing, exit codes, progress, texts and the engine's lifetime. Programs use the public
// header and this file only.
#pragma once

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ggml-nvfp4.h>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <unistd.h>
#include <vector>

namespace tools {

enum ExitCode { exit_ok = 0, exit_findings = 1, exit_failure = 2 }; // failure: usage, input, output

// --- Options ------------------------------------------------------------------------------------------------------------

// Adds --version and the footer; parse with TOOLS_PARSE.
inline void set_up(CLI::App & app) {
    app.set_version_flag("--version", std::string(app.get_name()) + " (ggml-nvfp4) " + gnv_version() + ", codec " +
                                          gnv_cpu_kernels());
    app.footer("Exit code: 0 success, 1 findings, 2 usage, input or output error.");
    app.get_formatter()->column_width(34);
}

// CLI11 has exit codes of its own; ours are 0 and 2.
inline int usage_exit(const CLI::App & app, const CLI::ParseError & error) {
    return app.exit(error) == 0 ? exit_ok : exit_failure;
}
#define TOOLS_PARSE(app, argc, argv)                                                                                   \
    try {                                                                                                              \
        (app).parse((argc), (argv));                                                                                   \
    } catch (const CLI::ParseError & error) {                                                                          \
        return tools::usage_exit((app), error);                                                                        \
    }

// "5GB", "256MiB", "1000000": an option that takes a number of bytes.
inline CLI::Option * add_bytes(CLI::App & app, const std::string & name, uint64_t & bytes, const std::string & help) {
    const auto refuse_negative = [](const std::string & text) {
        return text.rfind('-', 0) == 0 ? text + " is below 0" : std::string();
    };
    return app.add_option(name, bytes, help)
        ->transform(CLI::AsSizeValue(true).description(""))
        ->transform(CLI::Validator(refuse_negative, "")) // comes before the other, which takes it for a huge number
        ->type_name("BYTES");
}

inline std::vector<const char *> pointers(const std::vector<std::string> & texts) {
    std::vector<const char *> out;
    for (const std::string & text : texts) out.push_back(text.c_str());
    return out;
}

// Runs a program's body; what its option parser or containers throw ends it with a message, too.
inline int guarded(int (*body)(int argc, char ** argv), int argc, char ** argv) {
    try {
        return body(argc, argv);
    } catch (const std::bad_alloc &) {
        fputs("error: out of memory\n", stderr);
    } catch (const std::exception & error) {
        fprintf(stderr, "error: %s\n", error.what());
    }
    return exit_failure;
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
    fprintf(stderr, "%s%s\n", level == GNV_LOG_WARNING ? "warning: " : "", message);
}

// Null after saying why.
inline Engine make_engine(int threads) {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = threads;
    options.log = print_log;
    gnv_engine_t * engine = nullptr;
    const gnv_status status = gnv_engine_create(&options, &engine);
    if (status != GNV_OK) fprintf(stderr, "error: cannot start %d threads: %s\n", threads, gnv_status_string(status));
    return Engine(engine);
}

// Prints the failure and gives the exit code for it.
inline int report(const gnv_engine_t * engine) {
    fprintf(stderr, "error: %s\n", gnv_last_error(engine));
    return exit_failure;
}

inline bool write_text(FILE * file, const gnv_text_t * text) {
    return fwrite(gnv_text_data(text), 1, gnv_text_size(text), file) == gnv_text_size(text) && fflush(file) == 0;
}

// To a file, or to standard output for "-". False after saying why.
inline bool save_text(const std::string & path, const gnv_text_t * text) {
    FILE * file = path == "-" ? stdout : fopen(path.c_str(), "we");
    bool good = file && write_text(file, text);
    if (file && file != stdout) good = fclose(file) == 0 && good;
    if (!good) perror(("error: cannot write " + path).c_str());
    return good;
}

// --- Devices ------------------------------------------------------------------------------------------------------------

// What a program computes on, and in which arithmetic.
struct DeviceArgs {
    std::string device = "auto";
    uint64_t vram_bytes = 0;
    gnv_precision precision = GNV_PRECISION_FP32;
    bool has_precision = false;
};

// `task`: what the device does, "that computes".
inline CLI::Option * add_device(CLI::App & app, DeviceArgs & args, const std::string & task) {
    return app
        .add_option("--device", args.device,
                    task + ": auto (default: CUDA where there is a device, but for --precision fp32), cpu, cuda[:N]")
        ->type_name("NAME");
}

inline CLI::Option * add_vram(CLI::App & app, DeviceArgs & args) {
    return add_bytes(app, "--vram", args.vram_bytes,
                     "budget of the CUDA device's memory (default: most of what is free)");
}

inline CLI::Option * add_precision(CLI::App & app, DeviceArgs & args) {
    const std::map<std::string, gnv_precision> precisions = {{"fp32", GNV_PRECISION_FP32},
                                                             {"bf16", GNV_PRECISION_BF16}};
    return app
        .add_option("--precision", args.precision,
                    "arithmetic: fp32 (default on the CPU, which alone has it) or bf16 (default on CUDA)")
        ->each([&args](const std::string &) { args.has_precision = true; })
        ->transform(CLI::CheckedTransformer(precisions, CLI::ignore_case).description(""))
        ->type_name("NAME");
}

// "auto", "cpu", "cuda" or "cuda:1"? False after saying so.
inline bool check_device_name(const std::string & name) {
    const std::string prefix = "cuda:";
    const bool numbered = name.rfind(prefix, 0) == 0 && name.size() > prefix.size() &&
                          name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
    if (numbered || name == "auto" || name == "cpu" || name == "cuda") return true;
    fprintf(stderr, "error: --device %s: it is auto, cpu, cuda or cuda:N\n", name.c_str());
    return false;
}

// As the library counts: 0 is the CPU; "auto" is the first CUDA device where there is one. False after saying why.
inline bool find_device(gnv_engine_t * engine, const std::string & name, int32_t & device) {
    device = 0;
    if (!check_device_name(name)) return false;
    if (name == "cpu") return true;
    int32_t count = 0;
    if (gnv_device_count(engine, &count) != GNV_OK) {
        report(engine);
        return false;
    }
    const auto cuda_devices = static_cast<unsigned long>(count - 1);
    const size_t colon = name.find(':');
    const unsigned long number = colon == std::string::npos ? 0 : strtoul(name.c_str() + colon + 1, nullptr, 10);
    if (number < cuda_devices) {
        device = int32_t(number) + 1;
    } else if (name != "auto" && cuda_devices == 0) {
        fprintf(stderr,
                "error: --device %s: this machine has no CUDA device that this build can use: leave it out, or give "
                "--device cpu\n",
                name.c_str());
        return false;
    } else if (name != "auto") {
        fprintf(stderr, "error: --device %s: this machine has CUDA devices up to cuda:%lu that this build can use\n",
                name.c_str(), cuda_devices - 1);
        return false;
    }
    return true;
}

// And the arithmetic there. Full precision is the CPU's: who asks for it stays there, unless CUDA was asked for, which then
// says why not. False after saying why.
inline bool choose_device(gnv_engine_t * engine, const DeviceArgs & args, int32_t & device, gnv_precision & precision) {
    device = 0;
    precision = args.precision;
    const bool stays = args.device == "auto" && args.has_precision && args.precision == GNV_PRECISION_FP32;
    if (!stays && !find_device(engine, args.device, device)) return false;
    if (device > 0 && !args.has_precision) precision = GNV_PRECISION_BF16;
    return true;
}

// --- Calibration data ---------------------------------------------------------------------------------------------------

using Tokenizer = Handle<gnv_tokenizer_t, gnv_tokenizer_destroy>;
using Dataset = Handle<gnv_dataset_t, gnv_dataset_destroy>;

struct DataArgs {
    gnv_dataset_options options = defaults();
    std::vector<std::string> sources;
    std::string tokens, text_template;
    bool no_shuffle = false, pad = false, pack = false;

    static gnv_dataset_options defaults() {
        gnv_dataset_options options;
        gnv_dataset_options_init(&options);
        return options;
    }
};

inline void add_data_options(CLI::App & app, DataArgs & args) {
    app.add_option(
           "--calib", args.sources,
           "data to calibrate with, [ALIAS@]PATH[:FIELD][=WEIGHT]; may be given several times: .jsonl, .json, .csv, "
           ".txt, .parquet or a folder; ALIAS: open-platypus, gsm8k, oasst1, the-stack, pg19")
        ->type_name("PATH");
    app.add_option("--tokens", args.tokens,
                   "exact ids and masks instead: {\"input_ids\": [[..]], \"attention_mask\": [[..]]}")
        ->type_name("FILE");
    app.add_option("--template", args.text_template, "alpaca, chatml or none; default: what fits the fields")
        ->check(CLI::IsMember({"alpaca", "chatml", "none"}))
        ->type_name("NAME");
    app.add_option("--samples", args.options.samples, "sequences")->capture_default_str()->type_name("N");
    app.add_option("--seq-len", args.options.sequence_length, "tokens of a sequence, at most")
        ->capture_default_str()
        ->type_name("N");
    app.add_option("--seed", args.options.seed, "decides which rows are chosen")->capture_default_str()->type_name("N");
    app.add_flag("--no-shuffle", args.no_shuffle, "take the first rows in file order");
    app.add_flag("--pad", args.pad, "pad every sequence to the full length, as llm-compressor does");
    app.add_flag("--pack", args.pack, "fill every sequence with several documents");
}

// Loads the tokenizer of `model` and the data that `args` describe; false with the message in the engine.
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
    gnv_dataset_t * dataset_handle = nullptr;
    if (gnv_dataset_open(engine, tokenizer.get(), &options, &dataset_handle) != GNV_OK) return false;
    dataset.reset(dataset_handle);
    return true;
}

// --- Progress and interruption ------------------------------------------------------------------------------------------

inline volatile std::sig_atomic_t interrupted = 0;

// The first Ctrl-C asks the library to stop in good order, the second ends the program.
inline void catch_interrupts() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = 1; };
    action.sa_flags = int(SA_RESETHAND);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

inline std::string duration_text(double seconds) {
    char text[32];
    if (seconds < 60) {
        snprintf(text, sizeof text, "%.0f s", seconds);
    } else {
        snprintf(text, sizeof text, "%d:%02d min", int(seconds) / 60, int(seconds) % 60);
    }
    return text;
}

// One line that is rewritten on a terminal, a plain line every ten seconds elsewhere.
class ProgressLine {
  public:
    explicit ProgressLine(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

    static int callback(void * user, const gnv_progress * progress) {
        static_cast<ProgressLine *>(user)->show(*progress);
        return interrupted;
    }

  private:
    void show_passes(const gnv_progress & now) { // nothing but forward passes
        const bool complete = now.positions == now.positions_total;
        if (quiet_ || (!terminal_ && !complete && now.seconds < next_)) return;
        next_ = now.seconds + 10;
        char left[64] = "";
        const double share = double(now.positions) / double(now.positions_total);
        if (complete) {
            snprintf(left, sizeof left, ", %s", duration_text(now.seconds).c_str());
        } else if (now.seconds > 1 && share > 0) {
            snprintf(left, sizeof left, ", %s left", duration_text(now.seconds * (1 / share - 1)).c_str());
        }
        fprintf(stderr, terminal_ ? "\r\033[Kforward passes %.0f %%%s%s" : "forward passes %.0f %%%s%s", 100 * share,
                left, !terminal_ || complete ? "\n" : "");
        fflush(stderr);
    }

    void show(const gnv_progress & now) {
        if (now.bytes_total == 0 && now.positions_total > 0) return show_passes(now);
        const bool complete = now.tensors == now.tensors_total;
        if (quiet_ || complete_ || (!terminal_ && !complete && now.seconds < next_)) return;
        complete_ = complete;
        next_ = now.seconds + 10;
        const double rate = now.seconds > 0 ? double(now.bytes) / now.seconds : 0;
        char line[160], speed[64] = "";
        const int length = snprintf(
            line, sizeof line, "%llu of %llu tensors, %.1f of %.1f GB", static_cast<unsigned long long>(now.tensors),
            static_cast<unsigned long long>(now.tensors_total), double(now.bytes) / 1e9, double(now.bytes_total) / 1e9);
        const bool calibrating = now.positions < now.positions_total;
        if (calibrating && length > 0)
            snprintf(line + length, sizeof line - size_t(length), ", calibration %.0f %%",
                     100 * double(now.positions) / double(now.positions_total));
        if (calibrating && now.seconds > 1 && now.positions > 0) {
            const double left = now.seconds * (double(now.positions_total) / double(now.positions) - 1);
            snprintf(speed, sizeof speed, ", %s left", duration_text(left).c_str());
        } else if (calibrating) {
            speed[0] = 0;
        } else if (complete) {
            snprintf(speed, sizeof speed, ", %.2f GB/s, %s", rate / 1e9, duration_text(now.seconds).c_str());
        } else if (now.seconds > 1 && rate > 0) { // before that a rate says nothing
            const double left = double(now.bytes_total - now.bytes) / rate;
            snprintf(speed, sizeof speed, ", %.2f GB/s, %s left", rate / 1e9, duration_text(left).c_str());
        }
        fprintf(stderr, terminal_ ? "\r\033[K%s%s%s" : "%s%s%s", line, speed, !terminal_ || complete ? "\n" : "");
        fflush(stderr);
    }

    bool quiet_, terminal_, complete_ = false;
    double next_ = 10; // seconds
};

} // namespace tools
