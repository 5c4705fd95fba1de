// A calibrated run in which the operating system fails, in the tightest budget: hidden states go through a scratch file,
// experts come in ranges.
#include "faults/run_fixture.h"
#include "formats/json.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// Engine and data are there before anything fails: plan and run are what is tested.
class Model {
  public:
    ScratchFolder scratch;
    std::string source = scratch / "source", destination = scratch / "out", statistics = scratch / "statistics.json",
                trace = scratch / "trace.json";
    Files result;
    std::string measured;
    Plan plan;

    Model() : plan(make()), texts_(source, scratch) {
        const Outcome refused = run(nullptr, 1);
        REQUIRE(refused.status == GNV_OUT_OF_MEMORY);
        const std::string before = "the smallest sufficient one is ";
        const size_t at = refused.message.find(before);
        REQUIRE_MESSAGE(at != std::string::npos, refused.message);
        budget_ = std::stoull(refused.message.substr(at + before.size()));
        const Outcome good = run(nullptr, budget_);
        REQUIRE_MESSAGE(good.status == GNV_OK, good.message);
        result = read_folder(destination);
        measured = read_file(statistics, 1 << 20).take();
        clean();
    }

    Outcome run(const fault_plan * fault, uint64_t ram_bytes = 0) const {
        gnv_plan_options plan_options;
        gnv_plan_options_init(&plan_options);
        plan_options.shard_bytes = small_shard_bytes;
        plan_options.calibrates = 1;
        plan_options.ram_bytes = ram_bytes ? ram_bytes : budget_;
        gnv_quantize_options options;
        gnv_quantize_options_init(&options);
        options.dataset = texts_.dataset();
        options.scratch_folder = scratch.path().c_str();
        options.save_statistics = statistics.c_str();
        options.trace_file = trace.c_str();
        gnv_plan_t * handle = nullptr;
        gnv_text_t * report = nullptr;
        Outcome outcome;
        fault_arm(fault);
        outcome.status = gnv_plan_create(texts_.engine(), source.c_str(), &plan_options, &handle);
        if (outcome.status == GNV_OK) outcome.status = gnv_quantize(handle, destination.c_str(), &options, &report);
        outcome.fired = fault_fired();
        fault_arm(nullptr);
        outcome.message = gnv_last_error(texts_.engine());
        gnv_text_destroy(report);
        gnv_plan_destroy(handle);
        return outcome;
    }

    void clean() const {
        remove_result(destination);
        for (const std::string & file : {statistics, trace})
            if (path_exists(file)) REQUIRE(remove_file(file).ok());
    }

    void check(const Outcome & outcome) const {
        check_result(outcome, destination, scratch.path(), plan, result);
        // Whole or not there, like the checkpoint.
        if (path_exists(statistics)) CHECK(read_file(statistics, 1 << 20).value() == measured);
        if (path_exists(trace)) CHECK(JsonDocument::read(trace, 1 << 28).ok());
        if (outcome.status == GNV_OK) {
            CHECK(path_exists(statistics));
            CHECK(path_exists(trace));
            return;
        }
        // Nothing is left in the scratch folder: source, tokens and what is checked above.
        for (const DirectoryEntry & entry : list_directory(scratch.path()).take()) {
            const bool known = entry.name == "source" || entry.name == "tokens.json" || entry.name == "out" ||
                               entry.name == "out.partial" || entry.name == "out.journal" ||
                               entry.name == "statistics.json" || entry.name == "trace.json";
            CHECK_MESSAGE(known, entry.name);
        }
    }

  private:
    Plan make() const {
        write_small_model_and_tokenizer(source, tiny_folder);
        return plan_small_model(source, &formats::nvfp4);
    }

    OpenTexts texts_;
    uint64_t budget_ = 0;
};

} // namespace

TEST_CASE("calibrated runs: every call that fails in turn ends the run in good order") {
    const Model model;
    const FaultCase cases[] = {
        {FAULT_OPEN, EMFILE, Expect::either}, // a scratch file without a name is tried first
        {FAULT_READ, EIO, Expect::failure},
        {FAULT_WRITE, ENOSPC, Expect::failure},
        {FAULT_SIZE, ENOSPC, Expect::failure},
        {FAULT_SYNC, EIO, Expect::failure},
        {FAULT_RENAME, EIO, Expect::failure},
        {FAULT_CLOSE, EIO, Expect::either},
        {FAULT_FOLDER, EIO, Expect::failure},
        {FAULT_STAT, EACCES, Expect::either},
        {FAULT_REMOVE, EIO, Expect::failure},
        {FAULT_MEMORY, ENOMEM, Expect::either},
        {FAULT_READ, FAULT_SHORT, Expect::survival, true},
        {FAULT_WRITE, EINTR, Expect::survival},
    };
    run_with_faults(model, cases);
}
