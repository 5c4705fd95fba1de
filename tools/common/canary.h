// The length canary of `verify`: its options, its prompts, and the call.
#pragma once

#include "args.h"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tools {

struct CanaryArgs {
    bool wanted = false, thinking = false;
    std::string prompts_file;
    std::vector<std::string> prompts; // of that file
    gnv_canary_options options = defaults();

    static gnv_canary_options defaults() {
        gnv_canary_options options;
        gnv_canary_options_init(&options);
        return options;
    }
};

inline void add_canary_options(CLI::App & app, CanaryArgs & args) {
    const char * const group = "Answers, with --source";
    constexpr uint64_t most_tokens = 1 << 16; // of the library
    const auto take = [&args](const CLI::results_t & texts) {
        args.wanted = true;
        if (texts.empty() || texts.back().empty() || texts.back() == "{}") return true;
        uint64_t tokens = 0;
        if (!parse_count(texts.back(), tokens) || tokens < 1 || tokens > most_tokens)
            refuse_number("--canary", texts.back(), "expected a whole number from 1 to " + std::to_string(most_tokens));
        args.options.max_tokens = tokens;
        return true;
    };
    app.add_option(
           "--canary", CLI::callback_t(take),
           "greedy answers of SRC and DST to 40 short prompts, of at most N tokens (default 256): their lengths, "
           "how many do not end, how many repeat themselves; a result that is clearly worse is suspicious")
        ->type_name("[N]")
        ->expected(0, 1)
        ->group(group);
    app.add_option("--canary-prompts", args.prompts_file,
                   "other prompts: a line of text each, or with .jsonl a JSON string or {\"prompt\": ..} each")
        ->type_name("FILE")
        ->group(group);
    app.add_flag("--canary-thinking", args.thinking,
                 "let a model think first, as its chat template does by itself; give it more tokens")
        ->group(group);
    add_real(app, "--max-canary-growth", args.options.max_growth, 0, Least::included,
             std::numeric_limits<double>::infinity(),
             "fail if answers have more than X times as many tokens as the source's, in the mean")
        ->group(group);
}

// Reads the prompts of --canary-prompts. False after printing the reason.
inline bool read_prompts(CanaryArgs & args) {
    const std::string & path = args.prompts_file;
    if (path.empty()) return true;
    std::ifstream file(path);
    const auto say = [&](size_t line, const char * problem) {
        const std::string place = line > 0 ? ", line " + std::to_string(line) : "";
        if (file.is_open()) failure_kind = exit_input;
        say_error("--canary-prompts %s%s: %s\n", path.c_str(), place.c_str(), problem);
        return false;
    };
    if (!file) return say(0, strerror(errno));
    const bool is_json = path.size() > 6 && path.compare(path.size() - 6, 6, ".jsonl") == 0;
    constexpr size_t most = 10'000, longest = 1 << 20; // prompts; bytes of a line
    size_t number = 0;
    for (std::string line; std::getline(file, line);) {
        number++;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.find_first_not_of(" \t") == line.npos) continue;
        if (line.size() > longest) return say(number, "longer than 1 MiB");
        if (is_json) {
            const nlohmann::json value = nlohmann::json::parse(line, nullptr, false);
            const bool has_key = value.is_object() && value.contains("prompt");
            const nlohmann::json & prompt = has_key ? value["prompt"] : value;
            if (!prompt.is_string()) return say(number, "neither a JSON string nor an object with a text \"prompt\"");
            line = prompt.get<std::string>();
        }
        if (args.prompts.size() == most) return say(number, "more than 10000 prompts");
        args.prompts.push_back(line);
    }
    if (file.bad()) return say(number, "cannot be read");
    return !args.prompts.empty() || say(0, "has no prompt");
}

// The options of a call; `prompts` must outlive it.
inline gnv_canary_options canary_options(const CanaryArgs & args, const std::vector<const char *> & prompts,
                                         const std::vector<gnv_line> & lines, const DeviceArgs & device,
                                         uint64_t ram_bytes, ProgressLine & progress) {
    gnv_canary_options options = args.options;
    options.prompts = prompts.data(), options.prompt_count = prompts.size();
    options.thinking = args.thinking;
    if (!lines.empty()) options.lines = 0;
    for (const gnv_line line : lines)
        if (line != GNV_LINE_ACTIVATIONS) options.lines |= uint32_t(line);
    options.precision = device.precision;
    options.devices = device.numbers.data(), options.device_count = device.numbers.size();
    options.device_bytes = device.vram_bytes, options.ram_bytes = ram_bytes;
    options.progress = ProgressLine::callback, options.user = &progress;
    return options;
}

} // namespace tools
