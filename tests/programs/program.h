// A program of this build, started with the descriptors, signals and limits that a test wants. No shell stands between.
#pragma once

#include "formats/file.h"
#include "sanitized.h"
#include "scratch.h"

#include <csignal>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace gnv::test {

// Seconds, on a busy machine with few processors; then a program counts as hanging.
inline constexpr unsigned longest_run = sanitized ? 1200 : 120;

using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words & b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

struct Surroundings {
    std::vector<int> closed;             // descriptors
    bool no_reader = false;              // standard output is a pipe that nothing reads
    std::vector<int> ignored;            // signals
    rlim_t largest_file = RLIM_INFINITY; // bytes
    std::string input = "/dev/null";
};

struct Ended {
    int exit_code = -1, signal = 0; // exit_code -1: ended by `signal`
    std::string out, errors;

    bool says(const std::string & text) const { return errors.find(text) != std::string::npos; }
};

// `command`: the program's name, then its arguments.
inline Ended run_program(const Words & command, const Surroundings & around = {}) {
    const ScratchFolder scratch;
    const std::string out = scratch.save("out", ""), errors = scratch.save("errors", "");
    std::vector<std::string> words = command;
    words[0] = GNV_TEST_BINARY_DIR "/bin/" + words[0];
    std::vector<char *> arguments;
    for (std::string & word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int pipe_ends[2] = {-1, open(out.c_str(), O_WRONLY)};
        if (around.no_reader && (pipe(pipe_ends) != 0 || close(pipe_ends[0]) != 0)) _exit(97);
        if (dup2(open(around.input.c_str(), O_RDONLY), 0) < 0 || dup2(pipe_ends[1], 1) < 0 ||
            dup2(open(errors.c_str(), O_WRONLY), 2) < 0)
            _exit(97);
        for (int fd = 3; fd < 100; fd++) close(fd);
        for (const int fd : around.closed) close(fd);
        for (const int number : around.ignored) signal(number, SIG_IGN);
        if (around.largest_file != RLIM_INFINITY) {
            const rlimit limit = {around.largest_file, around.largest_file};
            if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(97);
        }
        alarm(longest_run);
        execv(arguments[0], arguments.data());
        _exit(98);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    Ended ended;
    if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
    ended.out = read_file(out, 1 << 26).take();
    ended.errors = read_file(errors, 1 << 20).take();
    return ended;
}

} // namespace gnv::test
