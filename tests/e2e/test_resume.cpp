// Runs that were stopped and go on: the bytes of a run without a stop, wherever it was, on other threads and budgets; and
// the refusal to go on where the result would be another.
#include "e2e/calibrated_fixture.h"
#include "output/checkpoint_writer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// Stops a run once it has come so far, in source bytes and positions of all groups.
struct Stop {
    double share = 0; // of the positions, or without calibration of the tensors
    static int callback(void * user, const gnv_progress * now) {
        Stop & stop = *static_cast<Stop *>(user);
        if (now->positions_total > 0) return double(now->positions) >= stop.share * double(now->positions_total);
        return now->tensors > 0 && double(now->tensors) >= stop.share * double(now->tensors_total);
    }
};

struct Case {
    ScratchFolder scratch;
    CalibratedRun run;
    std::map<std::string, std::string> expected; // files of a run without a stop
    std::string statistics;

    explicit Case(bool calibrated) {
        run.destination = scratch / "out";
        run.resume = GNV_RESUME_EACH_LAYER;
        run.scratch_folder = scratch.path();
        run.card = true; // hashes of what a stopped run wrote, too
        if (calibrated) {
            run.tokens = scratch.save("ids.json", tokens_text(short_samples(6)));
            run.save_statistics = scratch / "statistics.json";
        } else {
            run.scheme = GNV_SCHEME_NVFP4A16;
        }
    }
    void expect() {
        expected = files_of(run);
        CHECK(expected.count("README.md") == 1);
        if (run.save_statistics.empty()) return;
        statistics = read_file(run.save_statistics, 1 << 24).take();
        REQUIRE(remove_file(run.save_statistics).ok());
    }
    // The run, until so much of it is done.
    RunResult part_of_run(double share) const {
        CalibratedRun stopped = run;
        Stop stop{share};
        stopped.progress = Stop::callback;
        stopped.user = &stop;
        RunResult result = quantize(stopped);
        CHECK(result.status == GNV_CANCELLED);
        return result;
    }
    RunResult stop_at(double share) const {
        RunResult result = part_of_run(share);
        CHECK_MESSAGE(result.says("stopped on request; what was written stays in " + run.destination +
                                  ".partial, and "
                                  "the same command goes on from there"),
                      result.message);
        CHECK_FALSE(path_exists(run.destination));
        return result;
    }
    // The layers that the run need not calibrate.
    int64_t go_on(const CalibratedRun & with) {
        const RunResult result = quantize(with);
        require_good(result);
        CHECK(file_hashes(run.destination) == expected);
        CHECK_FALSE(path_exists(run.destination + ".partial"));
        if (!run.save_statistics.empty()) {
            CHECK(read_file(run.save_statistics, 1 << 24).value() == statistics);
            REQUIRE(remove_file(run.save_statistics).ok());
        }
        REQUIRE(remove_tree(run.destination).ok());
        const JsonDocument report = JsonDocument::parse(result.report, "report").take();
        const JsonValue resumed = report.root().get("resumed").value();
        return resumed.is_null() ? -1 : resumed.get("layers").value().as_int().value();
    }
};

std::string journal_of(const Case & of) { return read_file(of.run.destination + ".partial/journal", 1 << 24).take(); }

} // namespace

TEST_CASE("a calibration goes on at the border of every layer, with other threads and budgets") {
    Case of(true);
    of.expect();
    constexpr int groups = 9; // the embedding and 8 layers
    std::set<int64_t> found;
    for (int group = 0; group < groups - 1; group++) {
        CAPTURE(group);
        (void)of.stop_at((group + 0.01) / groups);
        CalibratedRun with = of.run;
        with.threads = 1 + group % 3;
        with.resume = group % 2 ? GNV_RESUME_ON : GNV_RESUME_EACH_LAYER;
        if (group % 3 == 1) with.ram_bytes = 9'000'000; // other batches, ranges of experts, hidden states in a file
        const int64_t layers = of.go_on(with);
        CHECK(layers >= std::min(group - 2, 7)); // calls come some ten times a second, so a stop may be late
        found.insert(layers);
    }
    CHECK(*found.rbegin() > 0); // how many there are depends on how late the stops are
}

TEST_CASE("a method that needs second moments, and routed tokens, go on to the same bytes and report") {
    Case of(true);
    of.run.method = GNV_METHOD_GPTQ;
    of.run.experts = GNV_EXPERTS_ROUTED;
    of.run.save_statistics.clear();
    of.expect();
    for (const double share : {0.3, 0.8}) {
        (void)of.stop_at(share);
        CalibratedRun with = of.run;
        with.threads = 3;
        CHECK(of.go_on(with) > 0);
    }
}

TEST_CASE("a run that keeps second moments in a file begins anew: it needs those of all layers") {
    Case of(true);
    of.run.method = GNV_METHOD_HESSIAN;
    (void)of.part_of_run(0.5);
    CHECK_FALSE(path_exists(of.run.destination + ".partial/" + state_file_name));
    CHECK_FALSE(path_exists(of.run.save_statistics + ".moments.safetensors"));
    const RunResult refused = quantize(of.run);
    CHECK(refused.status == GNV_ALREADY_EXISTS);
    CHECK_MESSAGE(refused.says("left from a run that did not finish"), refused.message);
    of.run.overwrite = true;
    require_good(quantize(of.run));
    CHECK(path_exists(of.run.save_statistics + ".moments.safetensors"));
}

TEST_CASE("weights alone: what is on disk is not read again") {
    Case of(false);
    of.expect();
    for (const double share : {0.01, 0.4, 0.9}) {
        CAPTURE(share);
        (void)of.stop_at(share);
        CHECK(journal_of(of).find("\nstate ") == std::string::npos);
        CHECK_FALSE(path_exists(of.run.destination + ".partial/" + state_file_name));
        CalibratedRun with = of.run;
        with.threads = 1;
        CHECK(of.go_on(with) == 0);
    }
}

TEST_CASE("a run goes on only with its own plan, data and options, and names what differs") {
    Case of(true);
    of.expect();
    (void)of.stop_at(0.5);
    const std::string journal = journal_of(of);
    std::vector<std::pair<std::string, CalibratedRun>> others;
    const auto add = [&](const std::string & names, const std::function<void(CalibratedRun &)> & change) {
        CalibratedRun other = of.run;
        change(other);
        for (const bool overwrite : {false, true}) {
            other.overwrite = overwrite;
            others.emplace_back(names, other);
        }
    };
    add("data (was \"",
        [&](CalibratedRun & run) { run.tokens = of.scratch.save("others.json", tokens_text(short_samples(5))); });
    add("precision (was \"fp32\", now \"bf16\")", [](CalibratedRun & run) { run.precision = GNV_PRECISION_BF16; });
    add("experts (was \"all\", now \"routed\")", [](CalibratedRun & run) { run.experts = GNV_EXPERTS_ROUTED; });
    add("method (was \"rtn\", now \"mse\")", [](CalibratedRun & run) { run.method = GNV_METHOD_MSE; });
    add("scheme (was \"nvfp4\", now \"nvfp4a16\")", [](CalibratedRun & run) {
        run.scheme = GNV_SCHEME_NVFP4A16;
        run.tokens.clear();
        run.save_statistics.clear();
    });
    add("source (was \"", [&](CalibratedRun & run) {
        run.source = of.scratch / "copy";
        if (path_exists(run.source)) return;
        copy_folder(tiny_folder, run.source);
    });
    for (const auto & [names, other] : others) {
        CAPTURE(names);
        const RunResult refused = quantize(other);
        CHECK(refused.status == GNV_ALREADY_EXISTS);
        CHECK_MESSAGE(refused.says(names), refused.message);
        CHECK_MESSAGE(refused.says("--no-resume --overwrite"), refused.message);
        CHECK(journal_of(of) == journal);
    }
    // Without a wish to go on nothing is removed, unless the caller says so.
    CalibratedRun anew = of.run;
    anew.resume = GNV_RESUME_OFF;
    CHECK(quantize(anew).status == GNV_ALREADY_EXISTS);
    CHECK(journal_of(of) == journal);
    CHECK(of.go_on(of.run) > 0);

    (void)of.stop_at(0.5);
    anew.overwrite = true;
    CHECK(of.go_on(anew) == -1);
}

// A shard that loses its end, or gets other bytes, while the run reads.
TEST_CASE("a run whose source changed says what it needs to go on") {
    for (const bool calibrated : {false, true})
        for (const bool is_cut : {false, true}) {
            CAPTURE(calibrated);
            CAPTURE(is_cut);
            Case of(calibrated);
            of.run.source = of.scratch / "source";
            copy_folder(tiny_folder, of.run.source);
            of.run.threads = 1;
            of.expect();
            struct Change {
                std::string path, content;
                bool is_cut;
                int64_t modified_ns = 0;
                void set_time() const {
                    const timespec time = {time_t(modified_ns / 1'000'000'000), modified_ns % 1'000'000'000};
                    const timespec times[2] = {time, time};
                    REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
                }
                static int callback(void * user, const gnv_progress * now) {
                    const Change & change = *static_cast<Change *>(user);
                    if (now->tensors < 1) return 0;
                    if (change.is_cut) return truncate(change.path.c_str(), off_t(change.content.size() / 2));
                    return File::open_write(change.path).value().write("x", 1, change.content.size() - 1).ok() ? 0 : 1;
                }
            };
            Change change{of.run.source + "/model-00003-of-00003.safetensors", {}, is_cut};
            change.content = read_file(change.path, 1 << 28).take();
            change.modified_ns = File::open_read(change.path).value().stamp().value().modified_ns;
            CalibratedRun changed = of.run;
            changed.progress = Change::callback;
            changed.user = &change;
            const RunResult result = quantize(changed);
            CHECK_MESSAGE(result.status == GNV_CHANGED, result.message);
            CHECK_MESSAGE(result.says("model-00003-of-00003.safetensors was changed while it was read"),
                          result.message);
            CHECK_MESSAGE(result.says("what was written stays in " + of.run.destination +
                                      ".partial: the same command "
                                      "goes on from there if the source's files are again as they were, with their "
                                      "times; else begin anew (--overwrite --no-resume)"),
                          result.message);
            CHECK_FALSE(path_exists(of.scratch / "statistics.json")); // they would be of no model
            REQUIRE(remove_file(change.path).ok());
            REQUIRE(write_file_synced(change.path, change.content).ok());
            CHECK(quantize(of.run).status == GNV_ALREADY_EXISTS); // another time
            change.set_time();
            CHECK(of.go_on(of.run) >= 0);
        }
}

TEST_CASE("--no-resume saves nothing, and its remainder is no run to go on with") {
    Case of(true);
    of.expect();
    of.run.resume = GNV_RESUME_OFF;
    (void)of.part_of_run(0.5);
    CHECK_FALSE(path_exists(of.run.destination + ".partial/" + state_file_name));
    CalibratedRun next = of.run;
    next.resume = GNV_RESUME_ON;
    const RunResult refused = quantize(next);
    CHECK(refused.status == GNV_ALREADY_EXISTS);
    CHECK_MESSAGE(refused.says("left from a run that did not finish"), refused.message);
    next.overwrite = true;
    CHECK(of.go_on(next) == -1);
}

TEST_CASE("a damaged state, a missing shard and a foreign file are told, and nothing is removed") {
    Case of(true);
    of.expect();
    (void)of.stop_at(0.5);
    const std::string partial = of.run.destination + ".partial", state = join_path(partial, state_file_name);
    const auto refuse = [&](gnv_status status, const std::string & words) {
        const RunResult refused = quantize(of.run);
        CHECK(refused.status == status);
        CHECK_MESSAGE(refused.says(words), refused.message);
        CHECK(path_exists(join_path(partial, "journal")));
    };
    const auto flip = [&](uint64_t at) {
        const File file = File::open_own(state).take();
        char byte = 0;
        REQUIRE(file.read(&byte, 1, at).ok());
        byte = char(byte ^ 4);
        REQUIRE(file.write(&byte, 1, at).ok());
    };
    const uint64_t half = File::open_read(state).value().stamp().value().size / 2;
    for (const uint64_t at : {uint64_t(5000), half + 5000}) flip(at); // one of the places is in use
    refuse(GNV_FORMAT, "is not as it was written");
    for (const uint64_t at : {uint64_t(5000), half + 5000}) flip(at);

    const std::string note = join_path(partial, "my notes.doc");
    REQUIRE(write_file_synced(note, "mine").ok());
    refuse(GNV_ALREADY_EXISTS, "my notes.doc");
    CHECK(read_file(note, 10).value() == "mine");
    REQUIRE(remove_file(note).ok());

    const std::string shard = join_path(partial, "model.safetensors");
    REQUIRE(rename_path(shard, of.scratch / "away").ok());
    refuse(GNV_FORMAT, "model.safetensors is missing");
    REQUIRE(rename_path(of.scratch / "away", shard).ok());
    CHECK(of.go_on(of.run) > 0);
}

TEST_CASE("a torn last line of the journal counts as not written") {
    Case of(true);
    of.expect();
    (void)of.stop_at(0.6);
    const std::string path = of.run.destination + ".partial/journal", whole = journal_of(of);
    const File file = File::open_own(path).take();
    for (const std::string torn : {"state 0 layers 7 tail 1 checksum 12", "done 12"})
        REQUIRE(file.write(torn.data(), torn.size(), whole.size()).ok());
    CHECK(of.go_on(of.run) > 0);
}
