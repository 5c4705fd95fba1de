// Failing every call of a kind in turn, and what must hold after each run whatever it does.
#pragma once

#include "faults/fault_shim.h"
#include "faults/small_model.h"

#include <cerrno>
#include <doctest/doctest.h>
#include <ggml-nvfp4.h>
#include <string>

namespace gnv::test {

struct Outcome {
    gnv_status status = GNV_OK;
    std::string message;
    bool fired = false; // the fault came
};

enum class Expect {
    failure,  // of the run
    survival, // the same result as without the fault
    either,   // some of these calls are not needed
};

struct FaultCase {
    fault_call call;
    int error;
    Expect expect;
    int repeat = 0;
};

inline size_t open_files() { return list_directory("/proc/self/fd").take().size(); }

// A message of use: it names a file under `folder`, or what the machine lacks.
inline bool names_a_cause(const std::string & message, const std::string & folder) {
    for (const std::string & cause : {folder, std::string("memory"), std::string("thread")})
        if (message.find(cause) != std::string::npos) return true;
    return false;
}

// Calls run(fault), which gives an Outcome, with the fault at one call after the other until the run makes fewer calls
// than that: the first 200 one by one, then about every sixth, growing.
template <class Run>
void for_every_fault(const FaultCase & fault_case, const std::string & folder, const Run & run) {
    const size_t files_before = open_files();
    const std::string call = fault_call_names[fault_case.call];
    long faults = 0, failures = 0;
    for (long number = 1;; number += number < 200 ? 1 : number / 32) {
        CAPTURE(call);
        CAPTURE(fault_case.error);
        CAPTURE(number);
        const fault_plan fault = {fault_case.call, number, fault_case.error, fault_case.repeat, folder.c_str()};
        const Outcome outcome = run(fault);
        const bool failed = outcome.status != GNV_OK;
        CHECK(open_files() == files_before);
        if (!outcome.fired || fault_case.expect == Expect::survival) CHECK_MESSAGE(!failed, outcome.message);
        if (outcome.fired && fault_case.expect == Expect::failure) CHECK(failed);
        if (!outcome.fired) break;
        faults++;
        failures += failed;
    }
    MESSAGE(call, " ", fault_case.error, ": ", faults, " faults, ", failures, " failures");
    CHECK(faults > 0);
    if (fault_case.expect != Expect::survival) CHECK(failures > 0);
}

} // namespace gnv::test
