// ggml-nvfp4 COMMAND: all programs in one. A link with the name ggml-nvfp4-COMMAND is that command.
#include "common/args.h"

#include <string_view>

namespace {

struct Command {
    const char * name;
    int (*run)(int argc, char ** argv);
    const char * purpose;
};

constexpr Command commands[] = {
#ifdef GNV_WITH_QUANTIZE
    {"quantize", tools::run_quantize, "make an NVFP4 checkpoint for vLLM and SGLang from a BF16 one"},
#endif
#ifdef GNV_WITH_VERIFY
    {"verify", tools::run_verify, "check an NVFP4 checkpoint: structure, weights, predictions"},
#endif
    {"run", tools::run_run, "let a model write, and save its logits and activations"},
#ifdef GNV_WITH_VERIFY
    {"inspect", tools::run_inspect, "show tensors, roles, statistics and differences of checkpoints"},
#endif
#ifdef GNV_WITH_DATASETS
    {"dataset", tools::run_dataset, "show the sequences that calibration reads"},
#endif
    {"tokenize", tools::run_tokenize, "convert texts to token ids and back"},
};

constexpr std::string_view own_name = "ggml-nvfp4", link_prefix = "ggml-nvfp4-";

const Command * find_command(std::string_view name) {
    for (const Command & command : commands)
        if (name == command.name) return &command;
    return nullptr;
}

void print_help(FILE * to) {
    fputs("BF16 checkpoints to NVFP4 for vLLM and SGLang, verified and run.\n\n"
          "Usage: ggml-nvfp4 COMMAND [OPTIONS]\n\nCommands:\n",
          to);
    for (const Command & command : commands) fprintf(to, "  %-10s%s\n", command.name, command.purpose);
    fputs("\nggml-nvfp4 COMMAND --help lists the options of a command,\n"
          "ggml-nvfp4 --version what this build contains.\n",
          to);
}

int run_program(int argc, char ** argv) {
    const std::string_view word = argc > 1 ? argv[1] : "";
    if (word == "--version") {
        puts(tools::version_text(std::string(own_name)).c_str());
        return tools::exit_ok;
    }
    const bool asks = word == "--help" || word == "-h" || word == "help";
    const std::string unknown = asks ? (argc > 2 ? argv[2] : "") : std::string(word);
    print_help(asks && unknown.empty() ? stdout : stderr);
    if (asks && unknown.empty()) return tools::exit_ok;
    std::vector<std::string> known;
    for (const Command & command : commands) known.push_back(command.name);
    const std::string near = tools::nearest(unknown, known);
    if (unknown.empty()) {
        tools::say_error("a command is missing\n");
    } else {
        tools::say_error("no such command: %s%s\n", unknown.c_str(),
                         near.empty() ? "" : ("; did you mean " + near + "?").c_str());
    }
    return tools::exit_failure;
}

} // namespace

int main(int argc, char ** argv) {
    std::string_view called = argc > 0 ? argv[0] : own_name;
    called.remove_prefix(called.rfind('/') + 1); // npos + 1 is 0
    if (called.substr(0, link_prefix.size()) == link_prefix) {
        if (const Command * const command = find_command(called.substr(link_prefix.size()))) {
            tools::program_name = called;
            return command->run(argc, argv);
        }
    }
    const bool wants_help = argc == 3 && std::string_view(argv[1]) == "help";
    if (const Command * const command = argc > 1 ? find_command(argv[wants_help ? 2 : 1]) : nullptr) {
        tools::program_name = std::string(own_name) + " " + command->name;
        char help[] = "--help";
        char * words[] = {argv[0], help, nullptr};
        return wants_help ? command->run(2, words) : command->run(argc - 1, argv + 1);
    }
    return tools::guarded(run_program, argc, argv);
}
