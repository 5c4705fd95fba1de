// What tests of runs on a failing machine share: data that is open before anything fails, and a result that is whole or not
// there.
#pragma once

#include "api/capi_fixture.h"
#include "faults/fault_loop.h"

#include <span>
#include <string>

namespace gnv::test {

// An engine, and three texts as a data set of it.
class OpenTexts {
  public:
    // `source`: whose tokenizer it is.
    OpenTexts(const std::string & source, const ScratchFolder & scratch) : engine_(make_engine(2)) {
        gnv_tokenizer_t * tokenizer_handle = nullptr;
        REQUIRE(gnv_tokenizer_load(engine_.get(), source.c_str(), &tokenizer_handle) == GNV_OK);
        const Handle<gnv_tokenizer_t> tokenizer(tokenizer_handle);
        gnv_dataset_options options;
        gnv_dataset_options_init(&options);
        const std::string tokens =
            scratch.save("tokens.json", "{\"input_ids\":[[5,6,7,8,9,10,11,12,13],[100,200,300],[1,2,3,4,5,6,7]]}");
        options.tokens_file = tokens.c_str();
        gnv_dataset_t * dataset = nullptr;
        REQUIRE(gnv_dataset_open(engine_.get(), tokenizer.get(), &options, &dataset) == GNV_OK);
        dataset_.reset(dataset);
    }
    gnv_engine_t * engine() const { return engine_.get(); }
    const gnv_dataset_t * dataset() const { return dataset_.get(); }

  private:
    Handle<gnv_engine_t> engine_;
    Handle<gnv_dataset_t> dataset_;
};

// --- Results of quantize ------------------------------------------------------------------------------------------------------

// `good`: what a run makes of `plan` when nothing fails; `folder`: where everything of the run is, for messages.
inline void check_result(const Outcome & outcome, const std::string & destination, const std::string & folder,
                         const Plan & plan, const Files & good) {
    CAPTURE(outcome.message);
    const std::string partial = destination + ".partial";
    if (outcome.status == GNV_OK) {
        CHECK(read_folder(destination) == good);
        CHECK_FALSE(path_exists(partial));
        return;
    }
    CHECK(names_a_cause(outcome.message, folder));
    if (path_exists(destination)) CHECK(read_folder(destination) == good);
    if (path_exists(join_path(partial, "journal"))) CHECK(false_claim(partial, good, plan.output) == "");
}

inline void remove_result(const std::string & destination) {
    for (const std::string & folder : {destination, destination + ".partial"})
        if (path_exists(folder)) REQUIRE(remove_tree(folder).ok());
    if (path_exists(destination + ".journal")) REQUIRE(remove_file(destination + ".journal").ok());
}

// A model runs, and its result is checked and cleaned away, with every fault of every case.
template <class Model>
void run_with_faults(const Model & model, std::span<const FaultCase> cases) {
    for (const FaultCase & fault_case : cases) {
        for_every_fault(fault_case, model.scratch.path(), [&](const fault_plan & fault) {
            const Outcome outcome = model.run(&fault);
            model.check(outcome);
            model.clean();
            return outcome;
        });
    }
}

} // namespace gnv::test
