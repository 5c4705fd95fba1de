// Weights that are packed by a backend and written in the background while the operating system fails: threads end, the ring
// of pieces does not hold anybody up, nothing looks finished.
#include "e2e/packing_fixture.h"
#include "faults/run_fixture.h"

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

    void clean() const { remove_result(destination); }
    void check(const Outcome & outcome) const { check_result(outcome, destination, scratch.path(), plan, result); }

  private:
    Plan make() const {
        write_small_model(source);
        return plan_small_model(source, &formats::nvfp4a16);
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
    run_with_faults(model, cases);
}
