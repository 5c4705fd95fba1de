// verify --data killed before each of its system calls that has to do with its outputs: the next run goes on, and gives the
// figures and the saved predictions of a run that was not killed. A sample of the calls here; all of them with --no-skip.
#include "faults/killed_program.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// The outputs lie beside Model::destination, where the shim counts calls.
struct Verified {
    const Model & of = calibrated_model();
    std::string json = of.destination + ".json", logits = of.destination + ".logits";
    std::string state = logits + ".verify-state";
    std::string report, predictions; // of a run that was not killed

    Verified() {
        remove_outputs();
        const Finished finished = of.run(command(), {});
        REQUIRE_MESSAGE(finished.exit_code == 0, finished.errors);
        report = take_report();
        predictions = read_file(logits, 1 << 24).take();
    }
    ~Verified() { remove_outputs(); }
    std::vector<std::string> command() const {
        return {
            "verify",    of.good, "--source",      of.source, "--tokens", of.scratch / "tokens.json", "--json", json,
            "--threads", "2",     "--save-logits", logits,    "--quiet",  "--save-each-layer"};
    }
    // Without the seconds of the checks.
    std::string take_report() const {
        std::string text = read_file(json, 1 << 24).take();
        const size_t at = text.find("\"seconds\"");
        if (at != std::string::npos) text.erase(at, text.find_first_of(",}\n", at) - at);
        return text;
    }
    void remove_outputs() const {
        for (const std::string & file : {json, logits})
            if (path_exists(file)) REQUIRE(remove_file(file).ok());
        if (path_exists(state)) REQUIRE(remove_tree(state).ok());
    }
    // Nothing that looks finished is not.
    void check_outputs() const {
        if (path_exists(logits)) CHECK(read_file(logits, 1 << 24).value() == predictions);
    }
    void check_complete() const {
        CHECK(take_report() == report);
        check_outputs();
        CHECK(path_exists(logits));
        CHECK_FALSE(path_exists(state));
    }
    // All outputs have their names, and the state is being removed: a run of the same command finds its outputs in the way.
    bool is_in_last_step(const Finished & killed) const {
        return killed.signal == SIGKILL && path_exists(json) && !path_exists(join_path(state, journal_name));
    }
    Finished run_with(const Fault & fault) const {
        const Finished finished = of.run(command(), fault);
        CAPTURE(finished.errors);
        check_outputs();
        return finished;
    }
};

void kill_at(const Verified & it, long number) {
    CAPTURE(number);
    it.remove_outputs();
    const Finished killed = it.run_with({FAULT_ANY, number, FAULT_SIGNAL - SIGKILL});
    CHECK((killed.signal == SIGKILL || killed.exit_code == 0));
    if (it.is_in_last_step(killed)) {
        it.check_outputs();
        return;
    }
    const Finished again = it.run_with({});
    CHECK_MESSAGE(again.exit_code == 0, again.errors);
    it.check_complete();
}

void kill_at_some(long wanted) {
    const Verified it;
    it.remove_outputs();
    const long count = it.run_with({FAULT_ANY, 0, 0}).counts.at("any");
    const std::vector<long> numbers = sample(count, wanted);
    for (const long number : numbers) kill_at(it, number);
    for (long k = 0; k < std::min(wanted, 24L); k++) kill_at(it, count - k); // the last calls publish and remove
    MESSAGE("killed before ", numbers.size(), " of ", count, " calls");
}

} // namespace

TEST_CASE("a comparison killed before a system call: the next run goes on to the same figures") { kill_at_some(24); }

TEST_CASE("a comparison killed before every system call" * doctest::skip()) { kill_at_some(1'000'000); }

TEST_CASE("a comparison that is killed again and again goes on each time, to the same figures") {
    const Verified it;
    for (const long step : {40, 90}) {
        CAPTURE(step);
        it.remove_outputs();
        long kills = 0;
        for (long number = step;; number += step) { // it gets further each time
            const Finished killed = it.run_with({FAULT_ANY, number, FAULT_SIGNAL - SIGKILL});
            CAPTURE(killed.errors);
            REQUIRE((killed.signal == SIGKILL || killed.exit_code == 0));
            kills += killed.signal == SIGKILL;
            if (it.is_in_last_step(killed) && path_exists(it.state)) REQUIRE(remove_tree(it.state).ok());
            if (killed.exit_code == 0 || it.is_in_last_step(killed)) break;
        }
        CHECK(kills > 0);
        it.check_complete();
    }
}
