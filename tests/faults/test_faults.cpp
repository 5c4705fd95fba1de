// A run in which the operating system fails: every call of every kind in turn, in this process. Whatever fails, the
// caller gets a status and a message, no file stays open, nothing leaks (the sanitizer builds run this too), and what
// carries the destination's name is complete.
#include "faults/run_fixture.h"

#include <doctest/doctest.h>
#include <ggml-nvfp4.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// --- One run ----------------------------------------------------------------------------------------------------------------

// Through the C API, as programs do it.
Outcome quantize_folder(const std::string & source, const std::string & destination, bool overwrite,
                        const fault_plan * fault = nullptr) {
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    engine_options.threads = 2;
    gnv_plan_options plan_options;
    gnv_plan_options_init(&plan_options);
    plan_options.scheme = GNV_SCHEME_NVFP4A16;
    plan_options.shard_bytes = small_shard_bytes;
    gnv_quantize_options options;
    gnv_quantize_options_init(&options);
    options.overwrite = overwrite;
    gnv_card_options card; // whose hashes are made beside the run
    gnv_card_options_init(&card);
    options.card = &card;
    gnv_engine_t * engine = nullptr;
    gnv_plan_t * plan = nullptr;
    gnv_text_t * report = nullptr;

    Outcome outcome;
    fault_arm(fault);
    outcome.status = gnv_engine_create(&engine_options, &engine);
    if (outcome.status == GNV_OK) outcome.status = gnv_plan_create(engine, source.c_str(), &plan_options, &plan);
    if (outcome.status == GNV_OK) outcome.status = gnv_quantize(plan, destination.c_str(), &options, &report);
    outcome.fired = fault_fired();
    fault_arm(nullptr);
    outcome.message = engine ? gnv_last_error(engine) : gnv_status_string(outcome.status);
    gnv_text_destroy(report);
    gnv_plan_destroy(plan);
    gnv_engine_destroy(engine);
    return outcome;
}

// The source, and what a run makes of it when nothing fails.
struct Model {
    ScratchFolder scratch;
    std::string source = scratch / "source";
    Plan plan;
    Files result;

    Model() : plan(make()) {
        REQUIRE(quantize_folder(source, scratch / "good", false).status == GNV_OK);
        result = read_folder(scratch / "good");
        REQUIRE(result.count(index_file_name) == 1); // several files
    }

  private:
    Plan make() const {
        write_small_model(source);
        return plan_small_model(source, &formats::nvfp4a16);
    }
};

const Model & model() {
    static const Model it;
    return it;
}

// --- What must hold after it ------------------------------------------------------------------------------------------------

// `old`: what the destination held before; null where there was none.
void check_outcome(const Outcome & outcome, const std::string & destination, const Files * old) {
    CAPTURE(outcome.message);
    const std::string partial = destination + ".partial";
    const Files found = path_exists(destination) ? read_folder(destination) : Files();
    if (outcome.status == GNV_OK) {
        CHECK(found == model().result);
        CHECK_FALSE(path_exists(partial));
        return;
    }
    CHECK(names_a_cause(outcome.message, model().scratch.path()));
    CHECK((found == model().result || (old ? found == *old : !path_exists(destination))));
    if (path_exists(partial) && path_exists(join_path(partial, "journal")))
        CHECK(false_claim(partial, model().result, model().plan.output) == "");
}

void clean(const std::string & destination) {
    for (const std::string & folder : {destination, destination + ".partial", destination + ".old"})
        if (path_exists(folder)) REQUIRE(remove_tree(folder).ok());
    if (path_exists(destination + ".journal")) REQUIRE(remove_file(destination + ".journal").ok());
}

// --- The cases --------------------------------------------------------------------------------------------------------------

void fail_every_call(const FaultCase & fault_case, bool overwrite) {
    const std::string destination = model().scratch / "out";
    const Files old = {{"config.json", "{}"}, {"model.safetensors", "old"}};
    for_every_fault(fault_case, model().scratch.path(), [&](const fault_plan & fault) {
        if (overwrite) {
            REQUIRE(make_directory(destination).ok());
            for (const auto & [name, content] : old)
                REQUIRE(write_file_synced(join_path(destination, name), content).ok());
        }
        const Outcome outcome = quantize_folder(model().source, destination, overwrite, &fault);
        check_outcome(outcome, destination, overwrite ? &old : nullptr);
        if (outcome.status != GNV_OK && fault.number % 8 == 1) { // the next attempt is not in the way of the last
            const Outcome again = quantize_folder(model().source, destination, true);
            CHECK_MESSAGE(again.status == GNV_OK, again.message);
            check_outcome(again, destination, nullptr);
        }
        clean(destination);
        return outcome;
    });
}

} // namespace

TEST_CASE("every call that fails in turn ends the run in good order") {
    const FaultCase cases[] = {
        {FAULT_OPEN, EMFILE, Expect::failure},   {FAULT_READ, EIO, Expect::failure},
        {FAULT_WRITE, ENOSPC, Expect::failure},  {FAULT_WRITE, EIO, Expect::failure, true},
        {FAULT_SIZE, ENOSPC, Expect::failure},   {FAULT_SYNC, EIO, Expect::failure},
        {FAULT_RENAME, EIO, Expect::failure},    {FAULT_CLOSE, EIO, Expect::either},
        {FAULT_FOLDER, EIO, Expect::failure},    {FAULT_STAT, EACCES, Expect::either},
        {FAULT_THREAD, EAGAIN, Expect::failure}, {FAULT_REMOVE, EIO, Expect::failure},
        {FAULT_MEMORY, ENOMEM, Expect::either},  {FAULT_MEMORY, ENOMEM, Expect::either, true},
    };
    for (const FaultCase & fault_case : cases) fail_every_call(fault_case, false);
}

TEST_CASE("the same while an old checkpoint is replaced: it is there until the new one is") {
    const FaultCase cases[] = {
        {FAULT_RENAME, EIO, Expect::failure},     {FAULT_REMOVE, EIO, Expect::failure},
        {FAULT_FOLDER, EIO, Expect::failure},     {FAULT_SYNC, EIO, Expect::failure},
        {FAULT_RENAME, EINVAL, Expect::survival}, {FAULT_RENAME, EINVAL, Expect::failure, true},
    };
    for (const FaultCase & fault_case : cases) fail_every_call(fault_case, true);
}

TEST_CASE("interrupted calls and short transfers change nothing") {
    const FaultCase cases[] = {
        {FAULT_OPEN, EINTR, Expect::survival},
        {FAULT_READ, EINTR, Expect::survival},
        {FAULT_READ, FAULT_SHORT, Expect::survival},
        {FAULT_READ, FAULT_SHORT, Expect::survival, true},
        {FAULT_WRITE, EINTR, Expect::survival},
        {FAULT_WRITE, FAULT_SHORT, Expect::survival},
        {FAULT_WRITE, FAULT_SHORT, Expect::survival, true},
        {FAULT_SIZE, EINTR, Expect::survival},
        {FAULT_SYNC, EINTR, Expect::survival},
        {FAULT_LOCK, EINTR, Expect::survival},
        {FAULT_CLOSE, EINTR, Expect::survival},
    };
    for (const FaultCase & fault_case : cases) fail_every_call(fault_case, false);
}

TEST_CASE("what is in a folder is on disk before the folder, and all of it before the journal goes") {
    const std::string out = model().scratch / "out", partial = out + ".partial";
    const Files old = {{"config.json", "{}"}, {"model.safetensors", "old"}};
    for (const bool overwrite : {false, true}) {
        if (overwrite) {
            REQUIRE(make_directory(out).ok());
            for (const auto & [name, content] : old) REQUIRE(write_file_synced(join_path(out, name), content).ok());
        }
        const fault_plan none = {FAULT_CALLS, 0, 0, 0, model().scratch.path().c_str()};
        REQUIRE(quantize_folder(model().source, out, overwrite, &none).status == GNV_OK);
        const std::string order = fault_order();
        CAPTURE(order);
        size_t at = 0;
        for (const std::string & line :
             {"sync " + partial + "/images/a.png\n", "sync " + partial + "/config.json\n",
              "sync " + partial + "/images\n", "sync " + partial + "\n", "sync " + partial + "/journal\n",
              "rename " + partial + "/journal\n", "sync " + partial + "\n", "sync " + model().scratch.path() + "\n",
              "rename " + partial + "\n", "sync " + model().scratch.path() + "\n"}) {
            CAPTURE(line);
            at = order.find(line, at);
            REQUIRE(at != std::string::npos);
            at += line.size();
        }
        clean(out);
    }
}

// A file system that knows neither the flags of renameat2 nor locks.
TEST_CASE("what a simple file system cannot do is done without") {
    const FaultCase cases[] = {
        {FAULT_RENAME, EINVAL, Expect::survival},
        {FAULT_RENAME, ENOSYS, Expect::survival},
        {FAULT_LOCK, EINVAL, Expect::survival},
        {FAULT_LOCK, ENOLCK, Expect::survival, true},
    };
    for (const FaultCase & fault_case : cases) fail_every_call(fault_case, false);
}
