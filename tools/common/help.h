// A program's options for people: --help, and the manual page that --man prints. Both are made from the declared options.
#pragma once

#include "programs.h"
#include "terminal.h"

#include <CLI/CLI.hpp>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace tools {

// The option "-o" or "--output"; null: unknown. (The function of CLI11 ends the program if memory is short.)
inline const CLI::Option * find_option(const CLI::App & app, const std::string & name) {
    const bool is_short = name.size() == 2;
    if (name.size() < 2) return nullptr;
    const std::string bare = name.substr(is_short ? 1 : 2);
    for (const CLI::Option * option : app.get_options()) {
        const std::vector<std::string> & names = is_short ? option->get_snames() : option->get_lnames();
        if (std::find(names.begin(), names.end(), bare) != names.end()) return option;
    }
    return nullptr;
}

class Program : public CLI::App {
  public:
    struct Example {
        std::string purpose, command;
    };
    // `usage`: what follows the name: "SRC -o DST [options]".
    Program(const std::string & name, const std::string & about, std::string usage, std::vector<Example> examples)
        : CLI::App(about, name), usage_(std::move(usage)), examples_(std::move(examples)) {
        // They are called as the program is.
        if (!program_name.empty())
            for (Example & example : examples_)
                if (example.command.rfind(name + " ", 0) == 0) example.command.replace(0, name.size(), program_name);
        get_help_ptr()->description("print this help and stop; --man: as a manual page");
    }

    std::string usage() const { return get_name() + " " + usage_; }
    const std::vector<Example> & examples() const { return examples_; }

    // Moves options to a group of the help; groups come in the order of the calls, after the options of none.
    void group_help(const std::string & group, std::initializer_list<const char *> names) {
        groups_.push_back(group);
        for (CLI::Option * const option : get_options({}))
            for (const char * const name : names)
                if (find_option(*this, name) == option) option->group(group);
    }

    struct Group {
        std::string title;
        std::vector<const CLI::Option *> options;
    };
    std::vector<Group> groups() const {
        std::vector<Group> out = {{"Arguments", {}}, {"Options", {}}};
        for (const std::string & group : groups_) out.push_back({group, {}});
        for (const CLI::Option * option : get_options()) {
            const std::string & name = option->get_group();
            if (name.empty()) continue; // hidden
            const auto place =
                std::find_if(out.begin() + 2, out.end(), [&](const Group & g) { return g.title == name; });
            (option->get_positional() ? out[0] : place != out.end() ? *place : out[1]).options.push_back(option);
        }
        out.push_back(std::move(out[1])); // --help and others of no group
        out.erase(out.begin() + 1);
        std::erase_if(out, [](const Group & group) { return group.options.empty(); });
        return out;
    }

  private:
    std::string usage_;
    std::vector<Example> examples_;
    std::vector<std::string> groups_;
};

inline constexpr const char * exit_codes = "0 success; 1 findings; 2 the request (options, names, places); 3 an input "
                                           "file (damaged, incomplete, or not what it should be); "
                                           "4 the machine (disk, memory, device, network); 5 a fault of this program; "
                                           "128 + N ended by signal N (Ctrl-C: 130).";

// "-o, --output DST"
inline std::string option_title(const CLI::Option & option) {
    if (option.get_positional()) return option.get_name();
    std::string out;
    for (const std::string & name : option.get_snames()) out += (out.empty() ? "-" : ", -") + name;
    for (const std::string & name : option.get_lnames()) out += (out.empty() ? "--" : ", --") + name;
    if (option.get_items_expected_max() > 0) out += " " + option.get_type_name();
    return out;
}

inline std::string option_text(const CLI::Option & option) {
    const std::string value = option.get_default_str();
    return option.get_description() + (value.empty() ? "" : " (default " + value + ")");
}

inline std::string help_text(const Program & program, size_t width) {
    constexpr size_t column = 26, gap = 2;
    std::string out = wrapped(program.get_description(), width, 0) + "\n\nUsage: " + program.usage() + "\n";
    for (const Program::Group & group : program.groups()) {
        out += "\n" + group.title + ":\n";
        for (const CLI::Option * option : group.options) {
            std::string line = std::string(gap, ' ') + option_title(*option);
            if (line.size() + gap > column) {
                out += line + "\n";
                line.clear();
            }
            line.resize(column, ' ');
            // Wrapped as text of the right column alone.
            std::string text = wrapped(option_text(*option), width - column, 0);
            for (size_t at = text.find('\n'); at != text.npos; at = text.find('\n', at + 1))
                text.insert(at + 1, column, ' ');
            out += line + text + "\n";
        }
    }
    out += "\nExamples:\n";
    for (const Program::Example & example : program.examples())
        out += "  # " + example.purpose + "\n  " + example.command + "\n";
    return out + "\n" + wrapped(std::string("Exit status: ") + exit_codes, width, 0) + "\n";
}

// A word of troff: backslashes and hyphens are signs of their own there, and a point at the begin of a line is a command.
inline std::string troff(const std::string & text) {
    std::string out = !text.empty() && (text[0] == '.' || text[0] == '\'') ? "\\&" : "";
    for (const char c : text) out += c == '\\' ? std::string("\\e") : c == '-' ? std::string("\\-") : std::string(1, c);
    return out;
}

// man(7)
inline std::string manual_page(const Program & program, const std::string & version) {
    std::string upper = program.get_name();
    for (char & c : upper) c = c >= 'a' && c <= 'z' ? char(c - 32) : c;
    const std::string usage = program.usage();
    const size_t name = program.get_name().size();
    std::string out = ".TH " + troff(upper) + " 1 \"\" \"ggml\\-nvfp4 " + troff(version) + "\"\n.SH NAME\n" +
                      troff(program.get_name()) + " \\- " + troff(program.get_description()) + "\n.SH SYNOPSIS\n.B " +
                      troff(program.get_name()) + "\n" + troff(usage.substr(name + 1)) + "\n.SH OPTIONS\n";
    for (const Program::Group & group : program.groups()) {
        out += ".SS " + troff(group.title) + "\n";
        for (const CLI::Option * option : group.options)
            out += ".TP\n.B " + troff(option_title(*option)) + "\n" + troff(option_text(*option)) + "\n";
    }
    out += ".SH EXAMPLES\n";
    for (const Program::Example & example : program.examples())
        out += ".TP\n" + troff(example.purpose) + "\n.B " + troff(example.command) + "\n";
    return out + ".SH EXIT STATUS\n" + troff(exit_codes) + "\n";
}

} // namespace tools
