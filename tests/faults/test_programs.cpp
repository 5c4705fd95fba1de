// The programs as users run them, with the shim of fault_shim.h preloaded: exit codes, messages, signals, and death in
// mid-run. Calls are sampled here; test_faults.cpp goes through all of them inside one process.
#include "faults/fault_shim.h"
#include "faults/small_model.h"
#include "sanitized.h"
#include "tokenizer/fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// By the request, an input file or the machine: the exit status says which.
template <class Run>
bool has_failed(const Run & run) {
    return run.exit_code >= 2 && run.exit_code <= 4;
}

const std::string shim = GNV_FAULT_SHIM, programs = GNV_TEST_BINARY_DIR "/bin/";
constexpr unsigned longest_run = sanitized ? 1200 : 120; // seconds, on a busy machine; then the run counts as hanging

struct Fault {
    fault_call call = FAULT_CALLS;
    long number = 0;
    int error = 0;
    int repeat = 0;
    bool hangups_ignored = false; // as under nohup
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
    Finished run(const std::vector<std::string> & command, const Fault & fault) const;
    Finished quantize(const Fault & fault, bool overwrite = false) const {
        std::vector<std::string> command = {"quantize", source, "-o", destination, "--threads", "2"};
        command.insert(command.end(), how.begin(), how.end());
        if (overwrite) command.push_back("--overwrite");
        return run(command, fault);
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

Finished Model::run(const std::vector<std::string> & command, const Fault & fault) const {
    const std::string errors = scratch / "errors", report = scratch / "report";
    const auto number = [](long value) { return std::to_string(value); };
    const std::vector<std::string> settings = {
        "LD_PRELOAD=" + shim,
        std::string("FAULT_CALL=") + (fault.call == FAULT_CALLS ? "none" : fault_call_names[fault.call]),
        "FAULT_NUMBER=" + number(fault.number),
        "FAULT_ERROR=" + number(fault.error),
        "FAULT_REPEAT=" + number(fault.repeat),
        "FAULT_FOLDERS=" + source + ":" + destination + ":" + good + ":" + statistics + ":" + scratch / "tokens.json",
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
        if (fault.hangups_ignored) signal(SIGHUP, SIG_IGN);
        alarm(longest_run);
        execve(arguments[0], arguments.data(), environment.data());
        _exit(98);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    Finished finished;
    if (WIFEXITED(status)) finished.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) finished.signal = WTERMSIG(status);
    finished.errors = read_file(errors, 1 << 20).take();
    std::istringstream lines(path_exists(report) ? read_file(report, 1 << 20).take() : "");
    std::string name;
    while (lines >> name) {
        if (name == "fired") {
            finished.fired = true;
        } else {
            lines >> finished.counts[name];
        }
    }
    (void)remove_file(report).ok();
    return finished;
}

const Model & prepared(Model & it) {
    if (it.result.empty()) {
        std::vector<std::string> command = {"quantize", it.source, "-o", it.good};
        command.insert(command.end(), it.how.begin(), it.how.end());
        const Finished finished = it.run(command, {});
        REQUIRE_MESSAGE(finished.exit_code == 0, finished.errors);
        it.result = read_folder(it.good);
    }
    return it;
}

const Model & model() {
    static Model it(false);
    return prepared(it);
}

const Model & calibrated_model() {
    static Model it(true);
    return prepared(it);
}

void clean(const Model & of = model()) {
    for (const std::string & folder : {of.destination, of.destination + ".partial"})
        if (path_exists(folder)) REQUIRE(remove_tree(folder).ok());
    for (const std::string & file : {of.statistics, of.statistics + ".partial"})
        if (path_exists(file)) REQUIRE(remove_file(file).ok());
}

// About `wanted` of the numbers 1..count, first and last included.
std::vector<long> sample(long count, long wanted) {
    std::vector<long> out;
    for (long i = 0; i < std::min(count, wanted); i++)
        out.push_back(count <= wanted || wanted == 1 ? i + 1 : 1 + i * (count - 1) / (wanted - 1));
    return out;
}

// What holds after every run of quantize, however it ended.
void check_folders(const Finished & finished, const Model & of = model()) {
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

// By the request, an input or the machine.
bool has_failed(const Finished & finished) { return finished.exit_code >= 2 && finished.exit_code <= 4; }

bool says_why(const std::string & errors, const Model & of = model()) {
    const bool named =
        errors.find(of.scratch.path()) != std::string::npos || errors.find("memory") != std::string::npos ||
        errors.find("cannot allocate") != std::string::npos || errors.find("thread") != std::string::npos;
    return named && errors.find("error: ") != std::string::npos;
}

struct SampledFault {
    fault_call call;
    int error;
    long wanted;
    int repeat = 0;
};

const SampledFault samples[] = {
    {FAULT_OPEN, EMFILE, 6},     {FAULT_READ, EIO, 6},
    {FAULT_WRITE, ENOSPC, 6},    {FAULT_WRITE, ENOSPC, 3, true},
    {FAULT_SIZE, ENOSPC, 3},     {FAULT_SYNC, EIO, 4},
    {FAULT_RENAME, EIO, 1},      {FAULT_CLOSE, EIO, 24},
    {FAULT_REMOVE, EIO, 1},      {FAULT_FOLDER, EIO, 4},
    {FAULT_STAT, EIO, 12},       {FAULT_THREAD, EAGAIN, 2},
    {FAULT_MEMORY, ENOMEM, 120}, {FAULT_MEMORY, ENOMEM, 60, true},
};

// Samples of all calls, failing.
void fail_sampled(const Model & of) {
    clean(of);
    const Finished counted = of.quantize({});
    REQUIRE_MESSAGE(counted.exit_code == 0, counted.errors);
    clean(of);
    for (const SampledFault & fault : samples) {
        const std::string call = fault_call_names[fault.call];
        const long count = counted.counts.at(call);
        CAPTURE(call);
        CHECK(count > 0);
        long failed = 0;
        for (const long number : sample(count, fault.wanted)) {
            CAPTURE(number);
            const Finished finished = of.quantize({fault.call, number, fault.error, fault.repeat});
            CAPTURE(finished.errors);
            CHECK(finished.signal == 0);
            CHECK((has_failed(finished) || finished.exit_code == 0));
            if (has_failed(finished)) CHECK(says_why(finished.errors, of));
            failed += has_failed(finished);
            check_folders(finished, of);
            clean(of);
        }
        CHECK_MESSAGE(failed > 0, "of ", count);
    }
}

} // namespace

TEST_CASE("quantize: a call that fails ends the program with code 2 and a message, or is survived") {
    fail_sampled(model());
}

TEST_CASE("quantize --tokens: the same") { fail_sampled(calibrated_model()); }

TEST_CASE("quantize: signals end it in good order, at the latest before the result gets its name") {
    clean();
    const long writes = model().quantize({}).counts.at("write");
    clean();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        long stopped = 0;
        for (const long number : sample(writes, 12)) {
            CAPTURE(signal);
            CAPTURE(number);
            const Finished finished = model().quantize({FAULT_WRITE, number, FAULT_SIGNAL - signal});
            CHECK(finished.signal == 0);
            CHECK((finished.exit_code == 128 + signal || finished.exit_code == 0));
            if (finished.exit_code != 0) {
                stopped++;
                CHECK(finished.errors.find("stopped on request") != std::string::npos);
                CHECK(finished.errors.find(model().destination + ".partial") != std::string::npos);
                CHECK(path_exists(model().destination + ".partial/journal"));
                CHECK_FALSE(path_exists(model().destination));
            }
            check_folders(finished);
            clean();
        }
        CHECK(stopped >= 6); // runs differ in how often they write the journal, so some of the calls are not made
    }
    const Finished finished = model().quantize({FAULT_WRITE, writes / 2, FAULT_SIGNAL - SIGHUP, 0, true});
    CHECK(finished.fired);
    CHECK(finished.exit_code == 0); // nohup
    check_folders(finished);
    clean();
}

TEST_CASE("threads that cannot be started: the message says how many were wanted") {
    for (const std::vector<std::string> & more : {std::vector<std::string>{}, {"--threads", "3"}}) {
        std::vector<std::string> command = {"inspect", model().good};
        command.insert(command.end(), more.begin(), more.end());
        const Finished finished = model().run(command, {FAULT_THREAD, 1, EAGAIN});
        if (!finished.fired) continue; // one processor, one thread
        CHECK(has_failed(finished));
        const std::string wanted =
            more.empty() ? "cannot start a thread for each processor: " : "cannot start 3 threads: ";
        CHECK_MESSAGE(finished.errors.find(wanted) != std::string::npos, finished.errors);
    }
}

// Where no callback can hear a signal, the program ends at once; with one, the call does.
TEST_CASE("every program: a signal at any file that it opens or reads ends it with 128 + the signal and a message") {
    const std::string source = calibrated_model().source, good = calibrated_model().good;
    const std::string tokens = calibrated_model().scratch / "tokens.json", dump = calibrated_model().destination;
    const std::vector<std::string> commands[] = {
        {"quantize", source, "--dry-run", "--no-estimate", "--tokens", tokens, "--device", "cpu"},
        {"verify", good, "--source", source, "--tokens", tokens, "--device", "cpu", "--threads", "2"},
        {"verify", good, "--self-test", "--threads", "2"},
        {"run", source, "--tokens", tokens, "--dump", dump, "--device", "cpu"},
        {"run", source, "--prompt", "a", "--n-predict", "3", "--device", "cpu"},
        {"inspect", good, "--compare", source},
        {"inspect", good, "--tensor", "lm_head.weight"},
        {"tokenize", source, "--jsonl", "-"},
        {"dataset", source, "--tokens", tokens},
    };
    for (const std::vector<std::string> & command : commands) {
        CAPTURE(command[0]);
        clean(calibrated_model());
        const Finished counted = calibrated_model().run(command, {});
        REQUIRE_MESSAGE(counted.exit_code == 0, counted.errors);
        for (const fault_call call : {FAULT_OPEN, FAULT_READ}) {
            for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
                for (const long number : sample(counted.counts.at(fault_call_names[call]), 3)) {
                    CAPTURE(signal);
                    CAPTURE(number);
                    clean(calibrated_model());
                    const Finished finished = calibrated_model().run(command, {call, number, FAULT_SIGNAL - signal});
                    CAPTURE(finished.errors);
                    CHECK(finished.signal == 0);
                    CHECK(finished.exit_code == 128 + signal);
                    CHECK(finished.errors.find("error: stopped ") != std::string::npos);
                    CHECK_FALSE(path_exists(dump));
                    CHECK_FALSE(path_exists(dump + ".partial"));
                }
            }
        }
    }
}

TEST_CASE("quantize: killed at any moment, what carries the name is complete and the journal is true") {
    for (const Model * of : {&model(), &calibrated_model()}) {
        clean(*of);
        const Finished counted = of->quantize({});
        clean(*of);
        for (const fault_call call : {FAULT_WRITE, FAULT_SYNC, FAULT_CLOSE, FAULT_REMOVE, FAULT_RENAME, FAULT_FOLDER}) {
            long killed = 0;
            for (const long number : sample(counted.counts.at(fault_call_names[call]), of == &model() ? 12 : 6)) {
                CAPTURE(number);
                const Finished finished = of->quantize({call, number, FAULT_SIGNAL - SIGKILL});
                killed += finished.signal == SIGKILL;
                CHECK((finished.signal == SIGKILL || finished.exit_code == 0));
                check_folders(finished, *of);
                clean(*of);
            }
            CHECK(killed > 0);
        }
    }
}

TEST_CASE("verify: what it cannot read does not pass") {
    const std::vector<std::string> command = {"verify", model().good, "--source", model().source, "--threads", "2"};
    const Finished counted = model().run(command, {});
    CAPTURE(counted.errors);
    REQUIRE(counted.exit_code == 0);
    for (const SampledFault & fault : samples) {
        const std::string call = fault_call_names[fault.call];
        const long count = counted.counts.at(call);
        for (const long number : sample(count, fault.wanted)) {
            CAPTURE(call);
            CAPTURE(number);
            const Finished finished = model().run(command, {fault.call, number, fault.error, fault.repeat});
            CAPTURE(finished.errors);
            CHECK(finished.signal == 0);
            CHECK((has_failed(finished) || finished.exit_code == 0));
            if (has_failed(finished)) CHECK(says_why(finished.errors));
            if (finished.exit_code == 0) CHECK((call == "memory" || call == "close" || call == "stat"));
        }
    }
    const Finished stopped = model().run(command, {FAULT_READ, counted.counts.at("read") / 2, FAULT_SIGNAL - SIGINT});
    CHECK(stopped.exit_code == 128 + SIGINT);
    CHECK(stopped.errors.find("stopped on request") != std::string::npos);
}

TEST_CASE("run --dump: a file that carries the name is complete, whatever fails and whenever it is killed") {
    clean();
    const std::string dump = model().destination, partial = dump + ".partial";
    const std::string tokens = model().scratch / "ids.json";
    if (!path_exists(tokens)) REQUIRE(write_file_synced(tokens, R"({"input_ids": [[1, 2, 3], [4, 5]]})").ok());
    const std::vector<std::string> command = {"run", model().source, "--tokens", tokens,      "--dump",
                                              dump,  "--device",     "cpu",      "--threads", "2"};
    const auto remove_both = [&] {
        for (const std::string & path : {dump, partial})
            if (path_exists(path)) REQUIRE(remove_file(path).ok());
    };
    const Finished counted = model().run(command, {});
    CAPTURE(counted.errors);
    REQUIRE(counted.exit_code == 0);
    const std::string good = read_file(dump, 1 << 24).take();
    const auto check_run = [&](const Fault & fault) {
        remove_both();
        const Finished finished = model().run(command, fault);
        CAPTURE(finished.errors);
        if (path_exists(dump)) CHECK(read_file(dump, 1 << 24).take() == good);
        if (finished.signal == SIGKILL) return finished;
        CHECK(finished.signal == 0);
        CHECK((has_failed(finished) || finished.exit_code == 0));
        if (has_failed(finished)) CHECK(says_why(finished.errors));
        if (finished.exit_code == 0) CHECK(path_exists(dump));
        return finished;
    };
    for (const SampledFault & fault : samples) {
        const std::string call = fault_call_names[fault.call];
        const auto count = counted.counts.find(call);
        if (count == counted.counts.end() || count->second == 0) continue;
        long failed = 0;
        for (const long number : sample(count->second, fault.wanted)) {
            CAPTURE(call);
            CAPTURE(number);
            failed += has_failed(check_run({fault.call, number, fault.error, fault.repeat}));
        }
        CAPTURE(call);
        if (fault.call != FAULT_CLOSE && fault.call != FAULT_REMOVE) CHECK(failed > 0);
    }
    for (const fault_call call : {FAULT_WRITE, FAULT_SYNC, FAULT_RENAME})
        for (const long number : sample(counted.counts.at(fault_call_names[call]), 8))
            CHECK(check_run({call, number, FAULT_SIGNAL - SIGKILL}).signal == SIGKILL);
    remove_both();
}

// Whatever a program still has to destroy or to say needs no memory that is not there.
TEST_CASE("every program: without memory it ends with code 2 and a message, and nothing leaks") {
    const std::string good = model().good, source = model().source;
    const std::string tokenizer = model().scratch / "tokenizer.json", records = model().scratch / "records.jsonl";
    if (!path_exists(tokenizer)) {
        REQUIRE(write_file_synced(tokenizer, small_tokenizer().dump()).ok());
        std::string lines;
        for (int i = 0; i < 20; i++)
            lines += "{\"text\": \"abc ab\", \"ids\": [257, 32, 256], \"more\": [[{}], 1.5]}\n";
        REQUIRE(write_file_synced(records, lines).ok());
    }
    const std::vector<std::string> commands[] = {
        {"verify", good, "--source", source, "--self-test", "--threads", "2", "--quiet"},
        {"verify", good, "--source", source, "--threads", "2", "--json", "-"},
        {"quantize", source, "--scheme", "nvfp4a16", "--dry-run", "--no-estimate", "--json", "-"},
        {"inspect", good, "--tensors", "--threads", "2"},
        {"inspect", good, "--tensor", "lm_head.weight", "--values", "20", "--threads", "2"},
        {"inspect", good, "--compare", source, "--threads", "2"},
        {"tokenize", tokenizer, "--jsonl", records},
        {"tokenize", tokenizer, "--jsonl", records, "--decode"},
        {"dataset", tokenizer, "--calib", records, "--samples", "4", "--seq-len", "8", "--threads", "2", "--json"},
    };
    for (const std::vector<std::string> & command : commands) {
        const Finished counted = model().run(command, {});
        CAPTURE(command[0]);
        CAPTURE(command.back());
        CAPTURE(counted.errors);
        REQUIRE(counted.exit_code == 0);
        const long count = counted.counts.at("memory");
        long failed = 0;
        for (const bool repeat : {false, true}) {
            for (const long number : sample(count, repeat ? 12 : 40)) {
                CAPTURE(number);
                CAPTURE(repeat);
                const Finished finished = model().run(command, {FAULT_MEMORY, number, ENOMEM, repeat});
                CAPTURE(finished.errors);
                CHECK(finished.signal == 0);
                CHECK((has_failed(finished) || finished.exit_code == 0));
                if (has_failed(finished)) CHECK(says_why(finished.errors));
                failed += has_failed(finished);
            }
        }
        CHECK_MESSAGE(failed > 0, "of ", count);
    }
}
