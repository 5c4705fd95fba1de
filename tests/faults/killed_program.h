// The programs as users run them, with the shim of fault_shim.h preloaded, and what has to hold of a run of quantize
// however it ended.
#pragma once

#include "faults/fault_shim.h"
#include "faults/small_model.h"
#include "sanitized.h"

#include <algorithm>
#include <csignal>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

namespace gnv::test {

inline const std::string shim = GNV_FAULT_SHIM, programs = GNV_TEST_BINARY_DIR "/bin/";
inline constexpr unsigned longest_run =
    sanitized ? 1200 : 120; // seconds, on a busy machine; then the run counts as hanging

struct Fault {
    fault_call call = FAULT_CALLS;
    long number = 0;
    int error = 0;
    int repeat = 0;
    bool no_exchange = false, no_locks = false; // of the file system
};

struct Finished {
    int exit_code = -1; // -1: ended by `signal`
    int signal = 0;
    std::string errors; // what it said on standard error
    std::map<std::string, long> counts;
    bool fired = false;
};

struct Model {
    ScratchFolder scratch;
    std::string source = scratch / "source", destination = scratch / "out", good = scratch / "good";
    std::string statistics = scratch / "statistics.json";
    std::vector<std::string> how; // options of quantize
    Plan plan;
    Files result;

    // With calibration, or weights only.
    explicit Model(bool calibrated) : plan(make(calibrated)) {
        how = {"--shard-size", std::to_string(small_shard_bytes)};
        if (!calibrated) {
            how.insert(how.end(), {"--scheme", "nvfp4a16"});
            return;
        }
        const std::string tokens = scratch.save("tokens.json", "{\"input_ids\":[[5,6,7,8,9,10,11],[100,200,300]]}");
        how.insert(how.end(), {"--tokens", tokens, "--save-stats", statistics, "--save-each-layer"});
    }
    pid_t start(const std::vector<std::string> & command, const Fault & fault, const std::string & name = "") const;
    Finished wait(pid_t child, const std::string & name = "") const;
    Finished run(const std::vector<std::string> & command, const Fault & fault) const {
        return wait(start(command, fault));
    }
    std::vector<std::string> quantize_command(bool overwrite) const {
        std::vector<std::string> command = {"quantize", source, "-o", destination, "--threads", "2"};
        command.insert(command.end(), how.begin(), how.end());
        if (overwrite) command.push_back("--overwrite");
        return command;
    }
    Finished quantize(const Fault & fault, bool overwrite = false) const {
        return run(quantize_command(overwrite), fault);
    }

  private:
    Plan make(bool calibrated) const {
        if (calibrated) {
            write_small_model_and_tokenizer(source, GNV_TEST_BINARY_DIR "/data/qwen36-tiny");
        } else {
            write_small_model(source);
        }
        return plan_small_model(source, calibrated ? &formats::nvfp4 : &formats::nvfp4a16);
    }
};

// `name`: of the files that it leaves its messages and counts in, where several run at once.
inline pid_t Model::start(const std::vector<std::string> & command, const Fault & fault,
                          const std::string & name) const {
    const std::string errors = scratch / ("errors" + name), report = scratch / ("report" + name);
    const auto number = [](long value) { return std::to_string(value); };
    const std::vector<std::string> settings = {
        "LD_PRELOAD=" + shim,
        std::string("FAULT_CALL=") + (fault.call == FAULT_CALLS ? "none" : fault_call_names[fault.call]),
        "FAULT_NUMBER=" + number(fault.number),
        "FAULT_ERROR=" + number(fault.error),
        "FAULT_REPEAT=" + number(fault.repeat),
        "FAULT_NO_EXCHANGE=" + number(fault.no_exchange),
        "FAULT_NO_LOCKS=" + number(fault.no_locks),
        "FAULT_FOLDERS=" + source + ":" + destination + ":" + good + ":" + statistics + ":" + scratch / "tokens.json" +
            ":" + scratch / "#" +
            (fault.call == FAULT_ANY ? ":" + scratch.path() + "$" : std::string()), // files without a name
        "FAULT_REPORT=" + report,
        "ASAN_OPTIONS=verify_asan_link_order=0"}; // the shim comes before it
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const int out = open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), in = open("/dev/null", O_RDWR);
        std::vector<char *> arguments, environment;
        std::vector<std::string> words = command;
        words[0] = programs + words[0];
        for (std::string & word : words) arguments.push_back(word.data());
        for (const std::string & setting : settings) environment.push_back(const_cast<char *>(setting.c_str()));
        arguments.push_back(nullptr), environment.push_back(nullptr);
        if (dup2(out, 2) < 0 || dup2(in, 0) < 0 || dup2(in, 1) < 0) _exit(99);
        alarm(longest_run);
        execve(arguments[0], arguments.data(), environment.data());
        _exit(98);
    }
    return child;
}

inline Finished Model::wait(pid_t child, const std::string & name) const {
    const std::string errors = scratch / ("errors" + name), report = scratch / ("report" + name);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    Finished finished;
    if (WIFEXITED(status)) finished.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) finished.signal = WTERMSIG(status);
    finished.errors = read_file(errors, 1 << 20).take();
    std::istringstream lines(path_exists(report) ? read_file(report, 1 << 20).take() : "");
    std::string call;
    while (lines >> call) {
        if (call == "fired") {
            finished.fired = true;
        } else {
            lines >> finished.counts[call];
        }
    }
    (void)remove_file(report).ok();
    return finished;
}

inline const Model & prepared(Model & it) {
    if (it.result.empty()) {
        std::vector<std::string> command = {"quantize", it.source, "-o", it.good};
        command.insert(command.end(), it.how.begin(), it.how.end());
        const Finished finished = it.run(command, {});
        REQUIRE_MESSAGE(finished.exit_code == 0, finished.errors);
        it.result = read_folder(it.good);
    }
    return it;
}

inline const Model & model() {
    static Model it(false);
    return prepared(it);
}

inline const Model & calibrated_model() {
    static Model it(true);
    return prepared(it);
}

inline void clean(const Model & of = model()) {
    for (const std::string & folder : {of.destination, of.destination + ".partial", of.destination + ".old"})
        if (path_exists(folder)) REQUIRE(remove_tree(folder).ok());
    for (const std::string & file : {of.destination + ".journal", of.statistics, of.statistics + ".partial"})
        if (path_exists(file)) REQUIRE(remove_file(file).ok());
}

// About `wanted` of the numbers 1..count, first and last included.
inline std::vector<long> sample(long count, long wanted) {
    std::vector<long> out;
    for (long i = 0; i < std::min(count, wanted); i++)
        out.push_back(count <= wanted || wanted == 1 ? i + 1 : 1 + i * (count - 1) / (wanted - 1));
    return out;
}

// What holds after every run of quantize, however it ended.
inline void check_folders(const Finished & finished, const Model & of = model()) {
    CAPTURE(finished.errors);
    const std::string partial = of.destination + ".partial";
    if (path_exists(of.destination)) CHECK(read_folder(of.destination) == of.result);
    if (finished.exit_code == 0) CHECK(path_exists(of.destination));
    if (path_exists(join_path(partial, "journal"))) CHECK(false_claim(partial, of.result, of.plan.output) == "");
    if (finished.exit_code == 0) return;
    if (path_exists(of.statistics)) { // whole, or not there
        CHECK(read_file(of.statistics, 1 << 20).value().find("tokens_per_expert") != std::string::npos);
        CHECK(ends_with(read_file(of.statistics, 1 << 20).value(), "\n}\n"));
        if (path_exists(of.destination)) REQUIRE(remove_file(of.statistics).ok());
    }
    const Finished again = of.quantize({}, path_exists(of.destination)); // goes on where this one ended
    CHECK_MESSAGE(again.exit_code == 0, again.errors);
    CHECK(read_folder(of.destination) == of.result);
    CHECK_FALSE(path_exists(partial));
}

inline bool says_why(const std::string & errors, const Model & of = model()) {
    const bool named =
        errors.find(of.scratch.path()) != std::string::npos || errors.find("memory") != std::string::npos ||
        errors.find("cannot allocate") != std::string::npos || errors.find("thread") != std::string::npos;
    return named && errors.find("error: ") != std::string::npos;
}

} // namespace gnv::test
