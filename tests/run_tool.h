// A program as a shell sees it.
#pragma once

#include <cstdio>
#include <doctest/doctest.h>
#include <string>
#include <sys/wait.h>

namespace gnv::test {

struct ToolRun {
    int exit_code = -1; // -1: ended by a signal
    std::string out;
};

// Runs a program of this build with shell syntax for arguments and redirections. `before` comes first: "ulimit -d 1000; ".
inline ToolRun run_tool(const std::string & name, const std::string & arguments, const std::string & before = "") {
    ToolRun run;
    FILE * const pipe = popen((before + GNV_TEST_BINARY_DIR "/bin/" + name + " " + arguments).c_str(), "r");
    REQUIRE(pipe);
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) run.out.append(buffer, n);
    const int status = pclose(pipe);
    run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return run;
}

} // namespace gnv::test
