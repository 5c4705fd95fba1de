// A calibrated run in which the operating system fails, in the tightest budget: hidden states go through a scratch file,
// experts come in ranges.
#include "faults/fault_loop.h"
#include "formats/json.h"
#include "quant/plan.h"

#include <doctest/doctest.h>
#include <ggml-nvfp4.h>

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

    Model() : plan(make()) {
        gnv_engine_options options;
        gnv_engine_options_init(&options);
        options.threads = 2;
        REQUIRE(gnv_engine_create(&options, &engine_) == GNV_OK);
        gnv_tokenizer_t * tokenizer = nullptr;
        REQUIRE(gnv_tokenizer_load(engine_, source.c_str(), &tokenizer) == GNV_OK);
        gnv_dataset_options data;
        gnv_dataset_options_init(&data);
        const std::string tokens =
            scratch.save("tokens.json", "{\"input_ids\":[[5,6,7,8,9,10,11,12,13],[100,200,300],[1,2,3,4,5,6,7]]}");
        data.tokens_file = tokens.c_str();
        REQUIRE(gnv_dataset_open(engine_, tokenizer, &data, &dataset_) == GNV_OK);
        gnv_tokenizer_destroy(tokenizer);
        const Outcome refused = run(nullptr, 1);
        REQUIRE(refused.status == GNV_OUT_OF_MEMORY);
        const std::string before = "the least that would do is ";
        const size_t at = refused.message.find(before);
        REQUIRE_MESSAGE(at != std::string::npos, refused.message);
        budget_ = std::stoull(refused.message.substr(at + before.size()));
        const Outcome good = run(nullptr, budget_);
        REQUIRE_MESSAGE(good.status == GNV_OK, good.message);
        result = read_folder(destination);
        measured = read_file(statistics, 1 << 20).take();
        clean();
    }
    ~Model() {
        gnv_dataset_destroy(dataset_);
        gnv_engine_destroy(engine_);
    }

    Outcome run(const fault_plan * fault, uint64_t ram_bytes = 0) const {
        gnv_plan_options plan_options;
        gnv_plan_options_init(&plan_options);
        plan_options.shard_bytes = small_shard_bytes;
        plan_options.calibrates = 1;
        plan_options.ram_bytes = ram_bytes ? ram_bytes : budget_;
        gnv_quantize_options options;
        gnv_quantize_options_init(&options);
        options.dataset = dataset_;
        options.scratch_folder = scratch.path().c_str();
        options.save_statistics = statistics.c_str();
        options.trace_file = trace.c_str();
        gnv_plan_t * handle = nullptr;
        gnv_text_t * report = nullptr;
        Outcome outcome;
        fault_arm(fault);
        outcome.status = gnv_plan_create(engine_, source.c_str(), &plan_options, &handle);
        if (outcome.status == GNV_OK) outcome.status = gnv_quantize(handle, destination.c_str(), &options, &report);
        outcome.fired = fault_fired();
        fault_arm(nullptr);
        outcome.message = gnv_last_error(engine_);
        gnv_text_destroy(report);
        gnv_plan_destroy(handle);
        return outcome;
    }

    void clean() const {
        for (const std::string & folder : {destination, destination + ".partial"})
            if (path_exists(folder)) REQUIRE(remove_tree(folder).ok());
        for (const std::string & file : {statistics, trace})
            if (path_exists(file)) REQUIRE(remove_file(file).ok());
    }

    void check(const Outcome & outcome) const {
        CAPTURE(outcome.message);
        const std::string partial = destination + ".partial";
        // Whole or not there, like the checkpoint.
        if (path_exists(statistics)) CHECK(read_file(statistics, 1 << 20).value() == measured);
        if (path_exists(trace)) CHECK(JsonDocument::read(trace, 1 << 28).ok());
        if (outcome.status == GNV_OK) {
            CHECK(read_folder(destination) == result);
            CHECK(path_exists(statistics));
            CHECK(path_exists(trace));
            CHECK_FALSE(path_exists(partial));
            return;
        }
        CHECK(names_a_cause(outcome.message, scratch.path()));
        if (path_exists(destination)) CHECK(read_folder(destination) == result);
        if (path_exists(join_path(partial, "journal"))) CHECK(false_claim(partial, result, plan.output) == "");
        // Nothing is left in the scratch folder: source, tokens and what is checked above.
        for (const DirectoryEntry & entry : list_directory(scratch.path()).take()) {
            const bool known = entry.name == "source" || entry.name == "tokens.json" || entry.name == "out" ||
                               entry.name == "out.partial" || entry.name == "statistics.json" ||
                               entry.name == "trace.json";
            CHECK_MESSAGE(known, entry.name);
        }
    }

  private:
    Plan make() const {
        write_small_model(source);
        const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny/";
        for (const char * name : {"tokenizer.json", "tokenizer_config.json"}) {
            REQUIRE(remove_file(join_path(source, name)).ok());
            REQUIRE(copy_file_synced(tiny + name, join_path(source, name)).ok());
        }
        PlanOptions options;
        options.recipe.scheme = Scheme::nvfp4;
        options.shard_bytes = small_shard_bytes;
        return make_plan(source, options).take();
    }

    gnv_engine_t * engine_ = nullptr;
    gnv_dataset_t * dataset_ = nullptr;
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
    for (const FaultCase & fault_case : cases) {
        for_every_fault(fault_case, model.scratch.path(), [&](const fault_plan & fault) {
            const Outcome outcome = model.run(&fault);
            model.check(outcome);
            model.clean();
            return outcome;
        });
    }
}
