// The command line: declared with CLI11, checked here in our own words before CLI11 takes the values.
#pragma once

#include "help.h"
#include "numbers.h"
#include "process.h"
#include "programs.h"
#include "suggest.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ggml-nvfp4.h>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tools {

// --- Declaration ----------------------------------------------------------------------------------------------------------

// What `--version` prints, without the last newline.
inline std::string version_text(std::string name) {
    if (name.find("ggml-nvfp4") == name.npos) name += " (ggml-nvfp4)";
    const std::string commit = build_commit;
    return name + " " + gnv_version() + (commit.empty() ? "" : ", commit " + commit) + ", codec " + gnv_cpu_kernels() +
           "\n" + build_parts;
}

// Names the program as it was called, adds --version and --man.
inline void set_up(Program & app) {
    if (!program_name.empty()) app.name(program_name);
    app.set_version_flag("--version", version_text(app.get_name()));
    app.get_version_ptr()->description("print the version and stop");
    app.add_flag("--man")->group("");
}

// An option that may be given several times, with one value each.
template <class T>
CLI::Option * add_list(CLI::App & app, const std::string & name, std::vector<T> & values, const std::string & help) {
    return app.add_option(name, values, help)
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

template <class T>
using Choices = std::vector<std::pair<std::string, T>>;
using OtherNames = std::vector<std::pair<std::string, std::string>>; // of other programs, and ours

// The choice with this name; null after throwing a message with all names.
template <class T>
const T & choose(const std::string & option, const std::string & text, const Choices<T> & choices,
                 const OtherNames & others) {
    std::string wanted = text, all;
    for (char & c : wanted) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
    std::vector<std::string> names;
    for (size_t i = 0; i < choices.size(); i++) {
        if (choices[i].first == wanted) return choices[i].second;
        names.push_back(choices[i].first);
        all += (i == 0 ? "" : i + 1 < choices.size() ? ", " : " or ") + choices[i].first;
    }
    std::string hint;
    for (const auto & [theirs, ours] : others)
        if (theirs == wanted) hint = "; " + text + " is " + ours + " here";
    if (const std::string near = hint.empty() ? nearest(wanted, names) : ""; !near.empty())
        hint = "; did you mean " + near + "?";
    throw CLI::ValidationError(option + " " + text + ": expected " + all + hint);
}

// An option with one of some names, in any case of letters.
template <class T, class Value = T>
CLI::Option * add_choice(CLI::App & app, const std::string & name, T & value, const Choices<Value> & choices,
                         const std::string & help, const OtherNames & others = {}) {
    const auto take = [=, &value](const CLI::results_t & texts) {
        value = choose(name, texts.back(), choices, others);
        return true;
    };
    return app.add_option(name, CLI::callback_t(take), help)->type_name("NAME");
}

// The same for a text.
inline CLI::Option * add_choice(CLI::App & app, const std::string & name, std::string & value,
                                std::initializer_list<const char *> names, const std::string & help) {
    Choices<std::string> choices;
    for (const char * const one : names) choices.push_back({one, one});
    return add_choice<std::string>(app, name, value, choices, help);
}

// Several, with commas between them or given several times.
template <class T>
CLI::Option * add_choices(CLI::App & app, const std::string & name, std::vector<T> & values, const Choices<T> & choices,
                          const std::string & help, const OtherNames & others = {}) {
    const auto take = [=, &values](const CLI::results_t & texts) {
        for (const std::string & text : texts) values.push_back(choose(name, text, choices, others));
        return true;
    };
    return app.add_option(name, CLI::callback_t(take), help)
        ->type_name("NAME,...")
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->delimiter(',');
}

inline bool is_given(const CLI::App & app, const std::string & name) {
    const CLI::Option * const option = find_option(app, name);
    return option && option->count() > 0;
}

// --- Words ----------------------------------------------------------------------------------------------------------------

struct Word {
    std::string text;
    const CLI::Option * list = nullptr; // the option that may own a loose word
    bool is_loose = false;
};

// The words of a command line, and what is wrong with them, in their order.
struct Words {
    std::vector<Word> words;
    std::map<const CLI::Option *, int> counts; // of options
    std::vector<std::string> problems;
    std::string asks; // "--help", "--version" or "--man": the rest does not matter
};

inline std::string name_of(const CLI::Option & option) {
    return option.get_lnames().empty() ? option.get_name() : "--" + option.get_lnames().front();
}

inline std::string unknown_option(const Program & app, const std::string & given) {
    std::string name = given.substr(0, given.find('='));
    std::replace(name.begin(), name.end(), '_', '-');
    const std::string begin = given.substr(0, given.find('=')) + ": no such option; ";
    if (find_option(app, name)) return begin + "did you mean " + name + "?";
    if (name.size() > 2 && name[1] != '-' && find_option(app, "-" + name)) return begin + "did you mean -" + name + "?";
    for (const PeerName & peer : peer_names) {
        if (name != peer.theirs) continue;
        const std::string ours = peer.ours;
        if (ours.empty()) return begin + "the folder stands alone: " + app.usage();
        if (ours == "--output" && find_option(app, "-o")) return begin + "its name here is -o";
        if (find_option(app, ours)) return begin + "its name here is " + ours;
    }
    std::vector<std::string> known;
    for (const CLI::Option * option : app.get_options())
        if (!option->get_group().empty())
            for (const std::string & one : option->get_lnames()) known.push_back("--" + one);
    const std::string near = nearest(name, known);
    return begin + (near.empty() ? app.get_name() + " --help lists them" : "did you mean " + near + "?");
}

inline Words read_words(const Program & app, int argc, char ** argv) {
    Words out;
    const CLI::Option * list = nullptr;
    int room = 0; // values still missing
    for (int i = 1; i < argc; i++) {
        const std::string text = argv[i];
        if (text == "--") {
            while (++i < argc) out.words.push_back({argv[i], nullptr, true});
            break;
        }
        if (text.size() < 2 || text[0] != '-') {
            out.words.push_back({text, room > 0 ? list : nullptr, true});
            if (room > 0) room--;
            continue;
        }
        const bool is_short = text[1] != '-', joined = is_short ? text.size() > 2 : text.find('=') != std::string::npos;
        list = find_option(app, is_short ? text.substr(0, 2) : text.substr(0, text.find('=')));
        // "-output DST" is no -o with the value "utput".
        if (is_short && joined && find_option(app, "-" + text.substr(0, text.find('=')))) list = nullptr;
        room = 0;
        if (!list) {
            out.problems.push_back(unknown_option(app, text));
            continue;
        }
        out.words.push_back({text, nullptr, false});
        const std::string name = name_of(*list);
        if (out.asks.empty() && (name == "--help" || name == "--version" || name == "--man")) out.asks = name;
        const bool repeats = list->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
        if (out.counts[list]++ == 1 && !repeats && list->get_items_expected_max() > 0)
            out.problems.push_back(name + " is given twice");
        const auto is_option = [&](const std::string & word) {
            return word.size() > 1 && word[0] == '-' && find_option(app, word.substr(0, word.find('=')));
        };
        int needed = joined ? 0 : list->get_items_expected_min();
        for (; needed > 0 && i + 1 < argc && !is_option(argv[i + 1]); needed--)
            out.words.push_back({argv[++i], nullptr, false});
        if (needed > 0) out.problems.push_back(name + " needs a value: " + name + " " + list->get_type_name());
        const int optional = joined ? 0 : list->get_items_expected_max() - list->get_items_expected_min();
        room = repeats ? argc : optional;
    }
    for (const auto & [option, count] : out.counts) {
        for (CLI::Option * const other : option->get_excludes())
            if (out.counts.count(other) && name_of(*option) < name_of(*other))
                out.problems.push_back(name_of(*option) + " and " + name_of(*other) +
                                       " exclude each other: leave one out");
        for (CLI::Option * const other : option->get_needs())
            if (!out.counts.count(other)) out.problems.push_back(name_of(*option) + " needs " + name_of(*other));
    }
    return out;
}

// The words with the positional arguments last, so that no option takes one of them. The words after a value of a list are
// more values ("--calib A B"), except the last such word if the positional argument is still missing ("--calib A SRC").
// `alone`: an option beside which no positional argument is expected; may be null. Adds problems of the arguments.
inline std::vector<std::string> arrange(const Program & app, Words & line, const char * alone) {
    std::vector<Word> & words = line.words;
    std::vector<const CLI::Option *> places; // of positional arguments
    for (const CLI::Option * option : app.get_options())
        if (option->get_positional()) places.push_back(option);
    const bool stands_alone = alone && line.counts.count(find_option(app, alone));
    size_t missing = stands_alone ? 0 : places.size();
    for (const Word & word : words) missing -= word.is_loose && !word.list && missing > 0 ? 1 : 0;
    for (size_t i = words.size(); i-- > 0 && missing > 0;) {
        if (!words[i].list) continue;
        words[i].list = nullptr;
        missing--;
    }
    std::vector<std::string> options, positional;
    for (const Word & word : words) {
        if (word.list && word.list->get_items_expected_min() == 0) {
            options.back() += "=" + word.text;
        } else if (word.list) {
            options.push_back(word.list->get_name() + "=" + word.text);
        } else {
            (word.is_loose ? positional : options).push_back(word.text);
        }
    }
    // A word behind an unknown option may be its value.
    for (size_t i = places.size(); i < positional.size() && line.problems.empty(); i++) {
        std::string problem = positional[i] + " is not expected";
        if (!places.empty()) problem += " behind " + places.front()->get_name() + ", " + positional.front();
        const CLI::Option * const output = find_option(app, "-o");
        if (i == 1 && output && !line.counts.count(output))
            problem +=
                "; the result stands behind -o: " + app.get_name() + " " + positional[0] + " -o " + positional[1];
        line.problems.push_back(problem);
    }
    for (size_t i = positional.size(); i < places.size(); i++)
        if (places[i]->get_required() && line.problems.empty())
            line.problems.push_back(places[i]->get_name() + " is needed");
    if (!positional.empty()) options.push_back("--");
    options.insert(options.end(), positional.begin(), positional.end());
    return options;
}

inline void say_usage(const Program & app) {
    fprintf(stderr, "usage: %s; %s --help says more\n", app.usage().c_str(), app.get_name().c_str());
}

// Parses; returns an exit code if the program must end.
inline std::optional<int> parse(Program & app, int argc, char ** argv, const char * alone = nullptr) {
    constexpr size_t plain_width = 80, narrowest = 60, widest = 120; // of help
    Words line = read_words(app, argc, argv);
    if (!line.asks.empty()) {
        const int shown = width_of(stdout);
        const size_t width = shown == 0 ? plain_width : std::clamp(size_t(shown), narrowest, widest);
        const std::string text = line.asks == "--help"  ? help_text(app, width)
                                 : line.asks == "--man" ? manual_page(app, gnv_version())
                                                        : app.version() + "\n";
        fputs(text.c_str(), stdout);
        if (fflush(stdout) == 0 && !ferror(stdout)) return exit_ok;
        say_cannot_write("-");
        return exit_failure;
    }
    std::vector<std::string> words = arrange(app, line, alone);
    for (const std::string & problem : line.problems) say_error("%s\n", problem.c_str());
    if (!line.problems.empty()) {
        if (argc == 1 || line.problems.back().find(" is needed") != std::string::npos) say_usage(app);
        return exit_failure;
    }
    std::reverse(words.begin(), words.end()); // the order of CLI11
    try {
        app.parse(std::move(words));
    } catch (const CLI::ParseError & error) {
        say_error("%s\n", error.what());
        return exit_failure;
    }
    return std::nullopt;
}

// Prints "--markdown needs --data FILE" and returns false if one of `names` was given.
inline bool refuse(const CLI::App & app, std::initializer_list<const char *> names, const char * why) {
    for (const char * name : names) {
        if (!is_given(app, name)) continue;
        say_error("%s %s\n", name, why);
        return false;
    }
    return true;
}

} // namespace tools
