// What programs show on a terminal: colours, lines that fit, help; and their manual pages.
#include "programs/program_fixture.h"

#include <pty.h>
#include <sys/ioctl.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const char * const all_programs[] = {"quantize", "verify", "run", "inspect", "dataset", "tokenize"};

// What a program writes to a terminal of so many columns, standard output and error together.
std::string on_terminal(const Words & command, unsigned short columns,
                        const std::vector<std::string> & variables = {}) {
    winsize size = {};
    size.ws_row = 50, size.ws_col = columns;
    int terminal = -1;
    std::vector<std::string> words = command, environment = variables;
    words[0] = GNV_TEST_BINARY_DIR "/bin/" + words[0];
    if (variables.empty()) environment = {"TERM=xterm"};
    std::vector<char *> arguments, values;
    for (std::string & word : words) arguments.push_back(word.data());
    for (std::string & variable : environment) values.push_back(variable.data());
    arguments.push_back(nullptr), values.push_back(nullptr);
    const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(longest_run);
        execve(arguments[0], arguments.data(), values.data());
        _exit(98);
    }
    std::string shown;
    char buffer[4096];
    for (ssize_t count = 0; (count = read(terminal, buffer, sizeof buffer)) > 0;) // EIO at the end
        shown.append(buffer, size_t(count));
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    close(terminal);
    return shown;
}

size_t longest_line(const std::string & text) {
    size_t longest = 0, used = 0;
    bool in_sequence = false;
    for (const char c : text) {
        if (c == '\033') in_sequence = true;
        const bool counts = !in_sequence && c != '\r' && (static_cast<unsigned char>(c) & 0xc0) != 0x80;
        if (in_sequence && c == 'm') in_sequence = false;
        used = c == '\n' ? 0 : used + counts;
        longest = std::max(longest, used);
    }
    return longest;
}

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("error, warning and verdict have colours on a terminal, unless NO_COLOR or a dumb terminal refuse") {
    const SmallRun & small = small_run();
    const Words wrong = {"quantize", "--shceme"}, good = {"verify", small.made, "--structure"};
    CHECK(has(on_terminal(wrong, 100), "\033[1;31merror:\033[0m --shceme"));
    CHECK(has(on_terminal(good, 100), "\033[1;32mPassed\033[0m: no errors"));
    const Words made = {"quantize", small.source, "--dry-run", "--no-estimate",
                        "--calib",  small.rows,   "--quiet"}; // few rows
    CHECK(has(on_terminal(made, 100), "\033[1;33mwarning:\033[0m "));
    const std::vector<std::vector<std::string>> plain = {{"TERM=xterm", "NO_COLOR=1"}, {"TERM=dumb"}, {"HOME=/"}};
    for (const auto & variables : plain) {
        CHECK_FALSE(has(on_terminal(wrong, 100, variables), "\033"));
        CHECK_FALSE(has(on_terminal(good, 100, variables), "\033"));
    }
    CHECK(has(on_terminal(wrong, 100, {"TERM=xterm", "NO_COLOR="}), "\033[1;31m")); // an empty one refuses nothing
    CHECK_FALSE(has(run_program(wrong).errors, "\033"));
    CHECK_FALSE(has(run_program(good).out, "\033"));
}

TEST_CASE("texts fit 80 columns; without a terminal, and from 120 on, tables have all columns") {
    const SmallRun & small = small_run();
    const NewPath statistics(small.scratch / "shown.json");
    REQUIRE(run_program(small.quantize(small.scratch / "for-stats", "nvfp4") + Words{"--save-stats", statistics})
                .exit_code == 0);
    // Words of paths and names may be longer than a line.
    const std::string source = small.source, made = small.made;
    const Words narrow[] = {
        {"verify", made, "--source", source, "--device", "cpu", "--quiet"},
        {"verify", made, "--source", source, "--device", "cpu"},
        {"verify", made, "--source", source, "--device", "cpu", "--tokens", small.tokens},
        {"quantize", source, "--dry-run", "--no-estimate", "--tokens", small.tokens, "--device", "cpu"},
        {"quantize", "--show-stats", "--stats", statistics},
        {"inspect", made},
        {"dataset", source, "--calib", small.rows},
    };
    for (const Words & command : narrow) {
        const std::string shown = on_terminal(command, 80, {"TERM=dumb"});
        CAPTURE(shown);
        std::string line;
        for (const char c : shown + "\n") {
            if (c != '\n') {
                line += c;
                continue;
            }
            const bool is_log = line.rfind("warning: ", 0) == 0; // the terminal breaks it
            if (is_log || (line.find('\r') != std::string::npos && line.find('\r') + 1 < line.size())) line.clear();
            size_t word = 0; // the longest: it cannot be broken
            for (size_t at = 0; at < line.size();) {
                const size_t end = std::min(line.find(' ', at), line.size());
                word = std::max(word, end - at);
                at = end + 1;
            }
            if (word < 40) CHECK_MESSAGE(longest_line(line) <= 80, line);
            line.clear();
        }
    }
    const Words errors = {"verify", made, "--source", source, "--device", "cpu"};
    CHECK(has(on_terminal(errors, 80), "(no room for: "));
    CHECK_FALSE(has(on_terminal(errors, 200), "(no room for: "));
    CHECK_FALSE(has(run_program(errors).out, "(no room for: "));
    CHECK(has(run_program(errors).out, "subnorm."));
}

TEST_CASE("help: groups, examples, lines of at most 80 columns; a manual page with each option") {
    for (const std::string program : all_programs) {
        const Ended help = run_program({program, "--help"}), page = run_program({program, "--man"});
        CAPTURE(program);
        CHECK(help.exit_code == 0);
        CHECK(help.errors == "");
        CHECK(longest_line(help.out) <= 80);
        CHECK(longest_line(on_terminal({program, "-h"}, 100)) <= 100);
        for (const char * const part : {"\nUsage: ", "\nArguments:\n", "\nExamples:\n  # ", "\nExit status: 0 success"})
            CHECK_MESSAGE(has(help.out, part), part);
        CHECK(page.exit_code == 0);
        for (const char * const part :
             {".TH ", "\n.SH NAME\n", "\n.SH SYNOPSIS\n", "\n.SH OPTIONS\n", "\n.SH EXAMPLES\n", "\n.SH EXIT STATUS\n"})
            CHECK_MESSAGE(has(page.out, part), part);
        size_t options = 0;
        for (size_t at = help.out.find("\n  -"); at != std::string::npos; at = help.out.find("\n  -", at + 1)) {
            const std::string name = help.out.substr(at + 3, help.out.find_first_of(" ,\n", at + 3) - at - 3);
            std::string troff;
            for (const char c : name) troff += c == '-' ? std::string("\\-") : std::string(1, c);
            CHECK_MESSAGE(has(page.out, "\n.B " + troff), name);
            options++;
        }
        CHECK(options > 5);
        // Where options have groups, each has one.
        const size_t rest = help.out.find("\nOptions:\n");
        REQUIRE(rest != std::string::npos);
        if (program != "tokenize")
            CHECK(has(help.out.substr(rest), "--version               print the version and stop\n\n"));
        // A line that begins with a point is a command of troff.
        for (size_t at = page.out.find("\n."); at != std::string::npos; at = page.out.find("\n.", at + 1)) {
            const std::string command = page.out.substr(at + 1, page.out.find_first_of(" \n", at + 1) - at - 1);
            CHECK_MESSAGE(has(" .TH .SH .SS .TP .B ", " " + command + " "), command);
        }
    }
    const std::string help = run_program({"quantize", "--help"}).out;
    for (const char * const group : {"\nWhat to make:\n", "\nData:\n", "\nMachine:\n", "\nPlan and output:\n"})
        CHECK_MESSAGE(has(help, group), group);
    CHECK_FALSE(has(help, "--instructions"));
}
