// The test of verify itself: it injects the table of faults, one by one, into a view of a checkpoint, without writing
// files, and compares the findings of each check with those before.
#pragma once

#include "core/thread_pool.h"
#include "formats/folder.h"
#include "verify/faults.h"
#include "verify/measure.h"

#include <memory>
#include <string>
#include <vector>

namespace gnv::verify {

enum class FaultOutcome : uint8_t {
    found,
    escaped,        // no expected check found it
    not_applicable, // the fault does not apply to the checkpoint, or S3 alone could find it and passes other methods' codes
    needs_source, // visible only against the source, which was not given
};

struct FaultResult {
    const Fault * fault = nullptr;
    FaultOutcome outcome = FaultOutcome::not_applicable;
    std::vector<std::string> found_by; // ids of all checks with new errors or warnings, in the order of the checks
    std::string first_finding;         // of the first expected check, "tensor: what"
};

struct SelfTestReport {
    std::string checkpoint, source; // paths; no source: empty
    uint64_t baseline_errors = 0;   // of the structure, before any fault
    std::vector<FaultResult> results;
    uint64_t count(FaultOutcome outcome) const;
};

// `source` may be null. Fails as verify() does, and if the checkpoint is too damaged for the test.
Result<SelfTestReport> self_test(std::shared_ptr<const Folder> folder, std::shared_ptr<const Folder> source,
                                 ThreadPool & threads, const ProgressCallback & progress);

std::string self_test_text(const SelfTestReport & report);
std::string self_test_json(const SelfTestReport & report); // schema ggml-nvfp4.self_test.1

} // namespace gnv::verify
