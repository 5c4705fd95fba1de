// verify --data on a failing machine: the same figures or a message, and no file of logits that looks complete and is not.
#include "faults/run_fixture.h"
#include "output/journal.h"

#include <doctest/doctest.h>
#include <optional>

using namespace gnv;
using namespace gnv::test;

namespace {

std::string take_text(gnv_text_t * text) {
    std::string out = text ? std::string(gnv_text_data(text), gnv_text_size(text)) : "";
    gnv_text_destroy(text);
    return out;
}

// A source, its weights-only result, and three texts; engine and data are there before anything fails.
class Comparison {
  public:
    ScratchFolder scratch;
    std::string source = scratch / "source", quantized = scratch / "quantized", logits = scratch / "source.logits";
    std::string report, report_from_logits, logits_content;
    std::string state; // a folder to go on with; empty: none

    Comparison() {
        write_small_model_and_tokenizer(source, tiny_folder);
        texts_.emplace(source, scratch);
        const Handle<gnv_plan_t> plan = test::make_plan(texts_->engine(), source);
        REQUIRE(gnv_quantize(plan.get(), quantized.c_str(), nullptr, nullptr) == GNV_OK);
        const Outcome saved = run(false, report);
        REQUIRE_MESSAGE(saved.status == GNV_OK, saved.message);
        logits_content = read_file(logits, 1 << 24).take();
        const Outcome reused = run(true, report_from_logits);
        REQUIRE_MESSAGE(reused.status == GNV_OK, reused.message);
    }

    // Runs the source and saves its logits, or takes them from the file.
    Outcome run(bool from_logits, std::string & json, const fault_plan * fault = nullptr) const {
        gnv_evaluate_options options;
        gnv_evaluate_options_init(&options);
        options.dataset = texts_->dataset();
        options.lines = GNV_LINE_W4A16;
        options.scratch_folder = scratch.path().c_str();
        (from_logits ? options.logits : options.save_logits) = logits.c_str();
        if (!state.empty()) options.state_folder = state.c_str();
        options.resume = GNV_RESUME_EACH_LAYER;
        gnv_evaluation_t * evaluation = nullptr;
        gnv_text_t * text = nullptr;
        Outcome outcome;
        fault_arm(fault);
        outcome.status = gnv_evaluate(texts_->engine(), quantized.c_str(), source.c_str(), &options, &evaluation);
        if (outcome.status == GNV_OK) outcome.status = gnv_evaluation_text(evaluation, GNV_TEXT_JSON, &text);
        if (outcome.status == GNV_OK) outcome.status = gnv_evaluation_remove_state(evaluation);
        outcome.fired = fault_fired();
        fault_arm(nullptr);
        outcome.message = gnv_last_error(texts_->engine());
        json = take_text(text);
        gnv_evaluation_destroy(evaluation);
        return outcome;
    }

    // The report of a machine in order, or a message.
    Outcome run_with(const fault_plan & fault, bool from_logits) const {
        std::string json;
        const Outcome outcome = run(from_logits, json, &fault);
        CAPTURE(outcome.message);
        if (outcome.status == GNV_OK) CHECK(json == (from_logits ? report_from_logits : report));
        if (outcome.status != GNV_OK) CHECK(names_a_cause(outcome.message, scratch.path()));
        return outcome;
    }

    // What a run that saves logits left behind: all of them, or a file that is refused, or none.
    void check_logits(const Outcome & outcome) const {
        if (outcome.status == GNV_OK) {
            CHECK(read_file(logits, 1 << 24).value() == logits_content);
        } else if (path_exists(logits) && read_file(logits, 1 << 24).value() != logits_content) {
            std::string json;
            const Outcome refused = run(true, json);
            CHECK(refused.status != GNV_OK);
            CHECK(refused.message.find("source.logits") != std::string::npos);
        }
        if (path_exists(logits)) REQUIRE(remove_file(logits).ok());
    }

  private:
    std::optional<OpenTexts> texts_;
};

} // namespace

TEST_CASE("comparisons that save logits: every call that fails in turn is told, and leaves no half a file in use") {
    const Comparison comparison;
    REQUIRE(remove_file(comparison.logits).ok());
    const FaultCase cases[] = {
        {FAULT_OPEN, EMFILE, Expect::either}, // a file without a name gets one instead
        {FAULT_READ, EIO, Expect::failure},     {FAULT_WRITE, ENOSPC, Expect::failure},
        {FAULT_WRITE, EINTR, Expect::survival}, {FAULT_SYNC, EIO, Expect::failure},
        {FAULT_CLOSE, EIO, Expect::either},     {FAULT_STAT, EIO, Expect::either},
        {FAULT_MEMORY, ENOMEM, Expect::either},
    };
    for (const FaultCase & fault_case : cases) {
        for_every_fault(fault_case, comparison.scratch.path(), [&](const fault_plan & fault) {
            const Outcome outcome = comparison.run_with(fault, false);
            comparison.check_logits(outcome);
            return outcome;
        });
    }
}

TEST_CASE("comparisons with saved logits: every call that fails in turn is told, or does not change the figures") {
    const Comparison comparison;
    const FaultCase cases[] = {
        {FAULT_OPEN, EMFILE, Expect::failure},
        {FAULT_READ, EIO, Expect::failure},
        {FAULT_READ, FAULT_SHORT, Expect::survival, true},
        {FAULT_CLOSE, EIO, Expect::survival},
        {FAULT_MEMORY, ENOMEM, Expect::either},
    };
    for (const FaultCase & fault_case : cases) {
        for_every_fault(fault_case, comparison.scratch.path(),
                        [&](const fault_plan & fault) { return comparison.run_with(fault, true); });
    }
}

TEST_CASE("comparisons that save a state: after every call that fails the next run goes on to the same figures") {
    Comparison comparison;
    REQUIRE(remove_file(comparison.logits).ok());
    comparison.state = comparison.scratch / "state";
    const FaultCase cases[] = {
        {FAULT_OPEN, EMFILE, Expect::either}, {FAULT_WRITE, ENOSPC, Expect::failure}, {FAULT_SYNC, EIO, Expect::either},
        {FAULT_STAT, EIO, Expect::either},    {FAULT_MEMORY, ENOMEM, Expect::either},
    };
    for (const FaultCase & fault_case : cases) {
        for_every_fault(fault_case, comparison.scratch.path(), [&](const fault_plan & fault) {
            const Outcome outcome = comparison.run_with(fault, false);
            if (fault.call == FAULT_MEMORY && fault.number % 8) { // as others, and not each of them
                if (path_exists(comparison.state)) REQUIRE(remove_tree(comparison.state).ok());
                if (path_exists(comparison.logits)) REQUIRE(remove_file(comparison.logits).ok());
                return outcome;
            }
            // Complete, or removing the state failed.
            if (path_exists(comparison.logits) && !path_exists(join_path(comparison.state, journal_name))) {
                comparison.check_logits(outcome);
                return outcome;
            }
            std::string json;
            const Outcome again = comparison.run(false, json);
            CAPTURE(outcome.message);
            REQUIRE_MESSAGE(again.status == GNV_OK, again.message);
            CHECK(json == comparison.report);
            CHECK(read_file(comparison.logits, 1 << 24).value() == comparison.logits_content);
            CHECK_FALSE(path_exists(comparison.state));
            REQUIRE(remove_file(comparison.logits).ok());
            return outcome;
        });
    }
}
