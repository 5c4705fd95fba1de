// How much memory a piece of work needs, measured in a process of its own.
#pragma once

#include "sanitized.h"

#include <cstdint>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gnv::test {

// Runs `body`, which returns whether the work went as it should, and checks that the peak of resident memory rose by less
// than `limit` bytes. Sanitizers keep freed memory: there only the work is checked.
template <class Body>
void check_memory_growth(uint64_t limit, const Body & body) {
    if (sanitized) limit = UINT64_MAX;
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        rusage before{}, after{};
        getrusage(RUSAGE_SELF, &before);
        const bool good = body();
        getrusage(RUSAGE_SELF, &after);
        const uint64_t growth = uint64_t(after.ru_maxrss - before.ru_maxrss) * 1024; // Linux counts in KiB
        _exit(!good ? 1 : growth >= limit ? 2 : 0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK_MESSAGE(WEXITSTATUS(status) != 1, "the work failed");
    CHECK_MESSAGE(WEXITSTATUS(status) != 2, "the work took too much memory");
}

} // namespace gnv::test
