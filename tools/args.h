// What all programs share: option parsing, exit codes, progress, texts and the engine's lifetime. Programs use the public
// header and this file only.
#pragma once

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ggml-nvfp4.h>
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
    return app.add_option(name, bytes, help)->transform(CLI::AsSizeValue(true).description(""))->type_name("BYTES");
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

// "cpu", "cuda", "cuda:1", or "auto": the first CUDA device where there is one. False after saying why.
inline bool find_device(gnv_engine_t * engine, const std::string & name, int32_t & device) {
    int32_t count = 0;
    if (gnv_device_count(engine, &count) != GNV_OK) {
        fprintf(stderr, "error: %s\n", gnv_last_error(engine));
        return false;
    }
    device = 0;
    if (name == "cpu" || (name == "auto" && count < 2)) return true;
    char * end = nullptr;
    const std::string prefix = "cuda:";
    const bool numbered = name.rfind(prefix, 0) == 0;
    const long number = numbered ? strtol(name.c_str() + prefix.size(), &end, 10) : 0;
    if (name != "cuda" && name != "auto" && (!numbered || *end != 0 || end == name.c_str() + prefix.size())) {
        fprintf(stderr, "error: --device %s: it is auto, cpu, cuda or cuda:N\n", name.c_str());
        return false;
    }
    if (number < 0 || number + 1 >= count) {
        fprintf(stderr, "error: --device %s: this machine has %d CUDA devices that this build can use\n", name.c_str(),
                int(count - 1));
        return false;
    }
    device = int32_t(number) + 1;
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
