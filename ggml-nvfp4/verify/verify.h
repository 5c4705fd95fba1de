// verify checks that loaders can load a checkpoint and that it matches its source. It reads headers and configs, then
// the values, and runs the table of checks over them.
#pragma once

#include "core/thread_pool.h"
#include "formats/folder.h"
#include "verify/auxiliary.h"
#include "verify/checks.h"
#include "verify/finding.h"
#include "verify/listed_files.h"
#include "verify/measure.h"
#include "verify/source.h"
#include "verify/subject.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gnv::verify {

struct VerifyOptions {
    bool values = true;  // false: headers and configs only
    bool strict = false; // see VerifyReport::passes()
    bool hashes = true;  // with `values`: reads all files that a model card lists with their hashes
    MeasureOptions measure;
    std::string report_file; // for write_report() later: checked before the work; empty: none
};

struct CheckOutcome {
    const Check * check = nullptr;
    bool done = false;
    std::string reason; // for skipping it
};

// Of the gates of a comparison of predictions, or of answers.
struct GateSummary {
    uint64_t failed = 0, suspicious = 0;
    std::string first; // of the failed ones, else of the suspicious ones
};

struct VerifyReport {
    Subject subject;
    AuxiliaryFiles auxiliary;
    std::optional<Source> source;
    std::optional<Measurements> measurements;
    std::vector<ListedState> listed; // of the model card; empty: it lists no files, or they were not read
    Findings findings;
    std::vector<CheckOutcome> outcomes;   // one per check
    std::vector<std::string> not_checked; // in words
    double seconds = 0;
    int threads = 0;
    bool strict = false;
    std::string recomputed_on; // the device that quantized the source's weights again; empty: none
    // Set by attach_output() and attach_canary().
    std::string output_text, output_json, canary_text, canary_json;
    GateSummary gates, canary_gates;

    GateSummary all_gates() const;
    // No errors and no failed gates; if it is strict, no warnings and no suspicious figures either.
    bool passes() const;

    uint64_t errors() const { return findings.count(Severity::error); }
    uint64_t warnings() const { return findings.count(Severity::warning); }
};

// Faults of `folder` are findings. The call fails if the folder is not a checkpoint, the source is not usable, or the
// machine fails. `source` may be null.
Result<VerifyReport> verify(std::shared_ptr<const Folder> folder, std::shared_ptr<const Folder> source,
                            ThreadPool & threads, const VerifyOptions & options);

// Adds a comparison of the two models' predictions to the report: its text, and a JSON object.
void attach_output(VerifyReport & report, std::string text, std::string json, GateSummary gates);
// Adds the answers of both models to the same prompts, likewise.
void attach_canary(VerifyReport & report, std::string text, std::string json, GateSummary gates);

// For people, and for programs (schema ggml-nvfp4.verify.1, docs/json.md).
std::string report_text(const VerifyReport & report, size_t width = 0); // of a terminal: see format_table()
Result<std::string> report_json(const VerifyReport & report);
// A new file, by its name a page (.html) or the JSON document (.json).
Status write_report(const std::string & path, const VerifyReport & report);

} // namespace gnv::verify
