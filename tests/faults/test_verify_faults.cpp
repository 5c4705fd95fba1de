// verify on a failing machine: it says so, or its verdict is that of a machine in order. What could not be read never
// passes.
#include "faults/fault_loop.h"

#include <doctest/doctest.h>
#include <ggml-nvfp4.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Verdict {
    uint64_t errors = 0, warnings = 0, notes = 0;
    bool operator==(const Verdict &) const = default;
};

Outcome verify_folder(const std::string & checkpoint, const std::string & source, Verdict & verdict,
                      const fault_plan * fault = nullptr) {
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    engine_options.threads = 2;
    gnv_engine_t * engine = nullptr;
    gnv_report_t * report = nullptr;
    gnv_text_t * text = nullptr;
    gnv_report_info info = {};
    info.struct_size = sizeof info;

    Outcome outcome;
    fault_arm(fault);
    outcome.status = gnv_engine_create(&engine_options, &engine);
    if (outcome.status == GNV_OK)
        outcome.status = gnv_verify(engine, checkpoint.c_str(), source.c_str(), nullptr, &report);
    if (outcome.status == GNV_OK) outcome.status = gnv_report_text(report, GNV_TEXT_PLAIN, &text);
    if (outcome.status == GNV_OK) outcome.status = gnv_report_get_info(report, &info);
    outcome.fired = fault_fired();
    fault_arm(nullptr);
    verdict = {info.errors, info.warnings, info.notes};
    outcome.message = engine ? gnv_last_error(engine) : gnv_status_string(outcome.status);
    if (outcome.status == GNV_OK) outcome.message = gnv_text_data(text); // shown where the verdict is not as expected
    gnv_text_destroy(text);
    gnv_report_destroy(report);
    gnv_engine_destroy(engine);
    return outcome;
}

// A result of quantize, and the same with one bit of a preserved tensor flipped.
struct Checkpoints {
    ScratchFolder scratch;
    std::string source = scratch / "source", good = scratch / "good", damaged = scratch / "damaged";

    Checkpoints() {
        write_small_model(source);
        gnv_engine_t * engine = nullptr;
        gnv_plan_t * plan = nullptr;
        gnv_plan_options options;
        gnv_plan_options_init(&options);
        options.scheme = GNV_SCHEME_NVFP4A16;
        options.shard_bytes = small_shard_bytes;
        REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
        REQUIRE(gnv_plan_create(engine, source.c_str(), &options, &plan) == GNV_OK);
        for (const std::string & folder : {good, damaged})
            REQUIRE(gnv_quantize(plan, folder.c_str(), nullptr, nullptr) == GNV_OK);
        gnv_plan_destroy(plan);
        gnv_engine_destroy(engine);

        const Checkpoint checkpoint = Checkpoint::open(damaged).take();
        const TensorInfo & tensor = checkpoint.tensors()[size_t(checkpoint.find("lm_head.weight"))];
        const File file = File::open_write(join_path(damaged, checkpoint.shards()[tensor.shard].file_name)).take();
        char byte = 0;
        REQUIRE(file.read(&byte, 1, tensor.offset + 99).ok());
        byte = char(byte ^ 1);
        REQUIRE(file.write(&byte, 1, tensor.offset + 99).ok());
    }
};

const FaultCase cases[] = {
    {FAULT_OPEN, EMFILE, Expect::failure},  {FAULT_OPEN, EACCES, Expect::failure},
    {FAULT_OPEN, EINTR, Expect::survival},  {FAULT_READ, EIO, Expect::failure},
    {FAULT_READ, EINTR, Expect::survival},  {FAULT_READ, FAULT_SHORT, Expect::survival},
    {FAULT_CLOSE, EIO, Expect::survival},   {FAULT_FOLDER, EIO, Expect::failure},
    {FAULT_STAT, EIO, Expect::either},      {FAULT_THREAD, EAGAIN, Expect::failure},
    {FAULT_MEMORY, ENOMEM, Expect::either}, {FAULT_MEMORY, ENOMEM, Expect::either, true},
};

} // namespace

TEST_CASE("verify: every call that fails in turn is reported, or does not change the verdict") {
    const Checkpoints checkpoints;
    for (const std::string & folder : {checkpoints.good, checkpoints.damaged}) {
        Verdict expected;
        REQUIRE(verify_folder(folder, checkpoints.source, expected).status == GNV_OK);
        CHECK(expected.errors == (folder == checkpoints.damaged ? 1 : 0));
        for (const FaultCase & fault_case : cases) {
            if (folder == checkpoints.damaged && fault_case.call != FAULT_READ && fault_case.call != FAULT_MEMORY)
                continue;
            for_every_fault(fault_case, checkpoints.scratch.path(), [&](const fault_plan & fault) {
                Verdict verdict;
                const Outcome outcome = verify_folder(folder, checkpoints.source, verdict, &fault);
                CAPTURE(outcome.message);
                if (outcome.status == GNV_OK) {
                    CHECK(verdict.errors == expected.errors);
                    CHECK(verdict == expected);
                } else {
                    CHECK(names_a_cause(outcome.message, checkpoints.scratch.path()));
                }
                return outcome;
            });
        }
    }
}
