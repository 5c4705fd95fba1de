// The model card of a result, and the command that stands in it.
#pragma once

#include "args.h"

#include <string>

namespace tools {

// Whether a shell reads the word as it is.
inline bool is_plain_word(const std::string & word) {
    return !word.empty() &&
           word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:@%,./") ==
               word.npos;
}

// A word of the command for other people: folders of this machine leave it.
inline std::string public_word(const std::string & word) {
    const size_t equals = word.rfind("=", word.find('/'));
    const std::string begin = word[0] == '-' && equals != word.npos ? word.substr(0, equals + 1) : "";
    std::string text = word.substr(begin.size());
    const bool is_path = !text.empty() && (text[0] == '/' || text[0] == '.' || text[0] == '~');
    while (is_path && text.size() > 1 && text.back() == '/') text.pop_back();
    if (is_path && text.find('/') != text.npos) text = text.substr(text.rfind('/') + 1);
    text = begin + text;
    if (is_plain_word(text)) return text;
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
}

// The command line without what concerns this machine alone, and with "RESULT" as the destination.
inline std::string public_command(int argc, char ** argv) {
    const std::string with_value =
        " --threads --ram --vram --device --scratch --json --trace --save-stats --upload --create "
        "--instructions -o --output --base-model ";
    const std::string alone = " --quiet --overwrite --no-resume --save-each-layer --measure-limits --profile ";
    const auto is_in = [](const std::string & list, const std::string & word) {
        return list.find(" " + word + " ") != list.npos;
    };
    std::string out = "ggml-nvfp4 quantize";
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i], name = word.substr(0, word.find('='));
        if (is_in(alone, word) || (name != word && is_in(with_value, name))) continue;
        if (is_in(with_value, word)) {
            i++;
        } else {
            out += " " + public_word(word);
        }
    }
    return out + " -o RESULT";
}

struct CardArgs {
    std::string base_model, command;
    bool left_out = false;
};

inline void add_card(CLI::App & app, CardArgs & args) {
    app.add_option(
           "--base-model", args.base_model,
           "name of SRC on the hub, for the model card in DST/README.md (default: known if SRC is in the hub's cache)")
        ->type_name("ORG/NAME");
    app.add_flag("--no-card", args.left_out, "write no DST/README.md");
}

// The options for the library; they point into the arguments. `source`: its folder; `repository`: of --upload.
inline gnv_card_options card_options(const CardArgs & args, const std::string & source,
                                     const std::string & repository) {
    gnv_card_options options;
    gnv_card_options_init(&options);
    options.source = source.c_str();
    options.base_model = args.base_model.c_str();
    options.command = args.command.c_str();
    options.repository = repository.c_str();
    return options;
}

} // namespace tools
