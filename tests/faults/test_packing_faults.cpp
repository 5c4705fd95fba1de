// Weights that are packed by a backend and written in the background while the operating system fails: threads end, the ring
// of pieces does not hold anybody up, nothing looks finished.
#include "e2e/packing_fixture.h"
#include "faults/fault_loop.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

gnv_status status_of(const Status & status) {
    return status.ok() ? GNV_OK : status.code() == Code::out_of_memory ? GNV_OUT_OF_MEMORY : GNV_IO;
}

struct Model {
    ScratchFolder scratch;
    std::string source = scratch / "source", destination = scratch / "out";
    Plan plan;
    DevicePacker::Size size;
    Files result;

    Model() : plan(make()), size(DevicePacker::size_for(plan, uint64_t(1) << 32, uint64_t(1) << 32)) {
        size.piece_bytes = 2048; // a few rows
        size.pieces = 2;
        REQUIRE(run(nullptr).status == GNV_OK);
        result = read_folder(destination);
        clean();
    }

    Outcome run(const fault_plan * fault) const {
        PackingRun packing{plan, destination, size};
        Outcome outcome;
        fault_arm(fault);
        const Status status = quantize_by_groups(packing);
        outcome.fired = fault_fired();
        fault_arm(nullptr);
        outcome.status = status_of(status);
        outcome.message = status.message();
        return outcome;
    }

    void clean() const {
        for (const std::string & folder : {destination, destination + ".partial"})
            if (path_exists(folder)) REQUIRE(remove_tree(folder).ok());
    }

    void check(const Outcome & outcome) const {
        CAPTURE(outcome.message);
        const std::string partial = destination + ".partial";
        if (outcome.status == GNV_OK) {
            CHECK(read_folder(destination) == result);
            CHECK_FALSE(path_exists(partial));
            return;
        }
        CHECK(names_a_cause(outcome.message, scratch.path()));
        if (path_exists(destination)) CHECK(read_folder(destination) == result);
        if (path_exists(join_path(partial, "journal"))) CHECK(false_claim(partial, result, plan.output) == "");
    }

  private:
    Plan make() const {
        write_small_model(source);
        PlanOptions options;
        options.recipe.scheme = Scheme::nvfp4a16;
        options.shard_bytes = small_shard_bytes;
        options.threads = 2;
        return make_plan(source, options).take();
    }
};

} // namespace

TEST_CASE("packing in the background: every call that fails in turn ends the run in good order") {
    const Model model;
    const FaultCase cases[] = {
        {FAULT_READ, EIO, Expect::failure},
        {FAULT_WRITE, ENOSPC, Expect::failure},
        {FAULT_WRITE, FAULT_SHORT, Expect::survival, true},
        {FAULT_SYNC, EIO, Expect::failure},
        {FAULT_MEMORY, ENOMEM, Expect::either},
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
