// quantize killed before each of its system calls, and two runs to one destination, in every order: nothing is lost,
// nothing that carries the name is wrong, and the next run is not in the way of the last. A sample of the calls here; all of
// them with --no-skip (some minutes).
#include "faults/killed_program.h"

using namespace gnv;
using namespace gnv::test;

namespace {

const Files old_checkpoint = {{"config.json", "{}"}, {"model.safetensors", "old"}, {"images/a.png", "old image"}};

void write_old(const Model & of) {
    REQUIRE(make_directory(of.destination).ok());
    REQUIRE(make_directory(of.destination + "/images").ok());
    for (const auto & [name, content] : old_checkpoint)
        REQUIRE(write_file_synced(join_path(of.destination, name), content).ok());
}

// What lies beside the source and the destination after a run.
std::string left_beside(const Model & of) {
    std::string names;
    for (const char * suffix : {".partial", ".journal", ".old"})
        if (path_exists(of.destination + suffix)) names += std::string(suffix) + " ";
    return names;
}

struct Way {
    std::string name;
    bool overwrites; // an old checkpoint
    bool no_exchange;
};
const Way ways[] = {{"new", false, false}, {"over an old one", true, false}, {"without exchange", true, true}};

// A run of `way` with this fault, from the same state each time.
Finished run_once(const Model & of, const Way & way, long number, int signal) {
    clean(of);
    if (way.overwrites) write_old(of);
    Fault fault{FAULT_ANY, number, FAULT_SIGNAL - signal};
    fault.no_exchange = way.no_exchange;
    return of.quantize(fault, way.overwrites);
}

// Nothing is lost, and what has the name is whole: the old, the new, or none where there was none.
void check_whole(const Model & of, const Way & way) {
    const std::string old = of.destination + ".old";
    if (path_exists(of.destination)) {
        const Files found = read_folder(of.destination);
        CHECK((found == of.result || (way.overwrites && found == old_checkpoint)));
    } else if (way.overwrites) {
        CHECK(way.no_exchange);
        CHECK(read_folder(old) == old_checkpoint);
    }
}

void kill_at(const Model & of, const Way & way, long number) {
    CAPTURE(way.name);
    CAPTURE(number);
    const Files source = read_folder(of.source);
    const Finished killed = run_once(of, way, number, SIGKILL);
    CHECK((killed.signal == SIGKILL || killed.exit_code == 0));
    check_whole(of, way);
    // A run that may not overwrite goes on, or changes nothing of what is in the way, and says so.
    const bool in_the_way = path_exists(of.destination) || path_exists(of.destination + ".old");
    Finished again = of.quantize({});
    CAPTURE(again.errors);
    CHECK(again.exit_code == (in_the_way ? 2 : 0));
    if (again.exit_code == 0) CHECK(left_beside(of) == "");
    if (path_exists(of.statistics)) REQUIRE(remove_file(of.statistics).ok());
    if (again.exit_code == 2) {
        CHECK(says_why(again.errors, of));
        check_whole(of, way);
    }
    again = of.quantize({}, true);
    CAPTURE(again.errors);
    CHECK(again.exit_code == 0);
    CHECK(read_folder(of.destination) == of.result);
    CHECK(left_beside(of) == "");
    CHECK(read_folder(of.source) == source);
}

long count_calls(const Model & of, const Way & way) {
    const Finished finished = run_once(of, way, 0, 0);
    REQUIRE_MESSAGE(finished.exit_code == 0, finished.errors);
    CHECK(left_beside(of) == "");
    return finished.counts.at("any");
}

// Most calls read and write tensors; the last ones give the name, so half of the numbers are from there.
std::vector<long> some_of(long count, long wanted) {
    constexpr long last_calls = 48;
    std::vector<long> numbers = sample(count, wanted);
    if (wanted >= count) return numbers;
    numbers = sample(count, wanted / 2);
    for (const long number : sample(last_calls, wanted - wanted / 2)) numbers.push_back(count - last_calls + number);
    return numbers;
}

void kill_at_some(long wanted) {
    for (const Way & way : ways) {
        const long count = count_calls(model(), way);
        const std::vector<long> numbers = some_of(count, wanted);
        for (const long number : numbers) kill_at(model(), way, number);
        MESSAGE(way.name, ": killed before ", numbers.size(), " of ", count, " calls");
    }
    clean();
}

// --- Two runs -----------------------------------------------------------------------------------------------------------------

bool was_refused(const Finished & finished) {
    return finished.exit_code == 2 && finished.errors.find("another run") != std::string::npos;
}

// The first stands still before one of its calls while the second runs from begin to end.
void stand_still_at(const Model & of, long number, bool no_locks) {
    CAPTURE(number);
    CAPTURE(no_locks);
    clean(of);
    write_old(of);
    Fault fault{FAULT_ANY, number, FAULT_SIGNAL - SIGSTOP};
    fault.no_locks = no_locks;
    const pid_t first = of.start(of.quantize_command(true), fault, "-first");
    siginfo_t stopped = {};
    REQUIRE(waitid(P_PID, id_t(first), &stopped, WSTOPPED | WEXITED | WNOWAIT) == 0);
    Fault none;
    none.no_locks = no_locks;
    const Finished second = of.wait(of.start(of.quantize_command(true), none, "-second"), "-second");
    CAPTURE(second.errors);
    if (second.exit_code == 0) CHECK(read_folder(of.destination) == of.result);
    if (stopped.si_code == CLD_STOPPED) REQUIRE(kill(first, SIGCONT) == 0);
    const Finished finished = of.wait(first, "-first");
    CAPTURE(finished.errors);
    CHECK((finished.exit_code == 0 || (finished.exit_code >= 2 && finished.exit_code <= 4)));
    CHECK((finished.exit_code == 0 || second.exit_code == 0)); // one of them gets through
    if (finished.exit_code != 0) CHECK(says_why(finished.errors, of));
    if (!no_locks && second.exit_code == 2) CHECK(was_refused(second));
    CHECK(read_folder(of.destination) == of.result);
    const Finished again = of.quantize({}, true);
    CHECK_MESSAGE(again.exit_code == 0, again.errors);
    CHECK(read_folder(of.destination) == of.result);
    CHECK(left_beside(of) == "");
}

void stand_still_at_some(long wanted) {
    const long count = count_calls(model(), ways[1]);
    const std::vector<long> numbers = some_of(count, wanted);
    for (const bool no_locks : {false, true})
        for (const long number : numbers) stand_still_at(model(), number, no_locks);
    MESSAGE("stood still before ", numbers.size(), " of ", count, " calls, with and without locks");
    clean();
}

void race(int rounds) {
    int both = 0;
    for (int round = 0; round < rounds; round++) {
        CAPTURE(round);
        clean();
        if (round % 2) write_old(model());
        const std::vector<std::string> command = model().quantize_command(true);
        const pid_t first = model().start(command, {}, "-first");
        usleep(unsigned(round % 10) * 2000);
        const pid_t second = model().start(command, {}, "-second");
        const Finished a = model().wait(first, "-first"), b = model().wait(second, "-second");
        CAPTURE(a.errors);
        CAPTURE(b.errors);
        CHECK((a.exit_code == 0 || was_refused(a)));
        CHECK((b.exit_code == 0 || was_refused(b)));
        CHECK((a.exit_code == 0 || b.exit_code == 0));
        both += a.exit_code == 0 && b.exit_code == 0;
        CHECK(read_folder(model().destination) == model().result);
        CHECK(left_beside(model()) == "");
    }
    MESSAGE(rounds, " races, in ", both, " of them both runs came through, one after the other");
    clean();
}

} // namespace

TEST_CASE("killed before a system call: nothing is lost, and the next run comes through") { kill_at_some(20); }

// Killed, and gone on with; killed again there, and so on to the end.
TEST_CASE("a run that is killed again and again goes on each time, to the same bytes") {
    for (const Model * of : {&model(), &calibrated_model()}) {
        for (const long step : {3, 17, 60}) {
            CAPTURE(step);
            clean(*of);
            long kills = 0;
            for (long number = step; !path_exists(of->destination); number += step) { // it gets further each time
                const Finished killed = of->quantize({FAULT_ANY, number, FAULT_SIGNAL - SIGKILL});
                CAPTURE(killed.errors);
                REQUIRE((killed.signal == SIGKILL || killed.exit_code == 0));
                kills += killed.signal == SIGKILL;
            }
            CHECK(kills > 0);
            CHECK(read_folder(of->destination) == of->result);
            CHECK_FALSE(path_exists(of->destination + ".partial"));
        }
        clean(*of);
    }
}

// At moments of the clock: other threads are anywhere then.
TEST_CASE("killed at 200 random moments, each run goes on to the same bytes" * doctest::skip()) {
    uint32_t state = 1;
    for (const Model * of : {&model(), &calibrated_model()}) {
        int kills = 0, complete = 0;
        for (bool is_new = true; kills < 200;) {
            if (is_new) clean(*of);
            const pid_t child = of->start(of->quantize_command(false), {});
            state = state * 1664525 + 1013904223;
            usleep(state >> 8 & 0x1ffff); // up to 0.13 s
            REQUIRE(kill(child, SIGKILL) == 0);
            const Finished finished = of->wait(child);
            CAPTURE(finished.errors);
            REQUIRE((finished.signal == SIGKILL || finished.exit_code == 0));
            kills += finished.signal == SIGKILL;
            is_new = path_exists(of->destination);
            if (!is_new) continue;
            complete++;
            CHECK(read_folder(of->destination) == of->result);
        }
        check_folders(of->quantize({}, path_exists(of->destination)), *of);
        MESSAGE(kills, " kills, ", complete, " complete results");
        clean(*of);
    }
}

TEST_CASE("calibration killed before a system call: the next run goes on") {
    const Way way = {"calibrated", false, false};
    const long count = count_calls(calibrated_model(), way);
    for (const long number : some_of(count, 20)) kill_at(calibrated_model(), way, number);
    clean(calibrated_model());
}

TEST_CASE("calibration killed before every system call" * doctest::skip()) {
    const Way way = {"calibrated", false, false};
    const long count = count_calls(calibrated_model(), way);
    for (long number = 1; number <= count; number++) kill_at(calibrated_model(), way, number);
    MESSAGE("killed before ", count, " calls");
    clean(calibrated_model());
}

TEST_CASE("killed before every system call" * doctest::skip()) { kill_at_some(1'000'000); }

TEST_CASE("a second run between two system calls of the first: one result, whole, and a message") {
    stand_still_at_some(16);
}

TEST_CASE("a second run between any two system calls of the first" * doctest::skip()) {
    stand_still_at_some(1'000'000);
}

TEST_CASE("two runs to one destination at once") { race(6); }

TEST_CASE("a hundred races of two runs to one destination" * doctest::skip()) { race(100); }
