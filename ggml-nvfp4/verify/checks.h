// The table of checks. A check looks at what was read and adds findings; it reads no file and changes nothing, so checks
// know nothing of each other. Ids L1 to L16 ask whether loaders load the checkpoint as it was meant, S1 to S4 whether it
// is the source, quantized, F1 whether its files are those that were made.
#pragma once

#include "core/status.h"
#include "verify/finding.h"
#include "verify/subject.h"

#include <memory>
#include <string>
#include <vector>

namespace gnv::verify {

struct Source;
struct Measurements;
struct AuxiliaryFiles;
struct ListedState;

// The data for a check; a pointer is null if its data were not read.
struct Context {
    const Subject & subject;
    const AuxiliaryFiles & auxiliary;
    const Source * source = nullptr;                   // --source
    const Measurements * measurements = nullptr;       // values of tensors
    const std::vector<ListedState> * listed = nullptr; // files of the model card
};

// The requirements of a check.
enum Needs : unsigned {
    needs_nothing = 0,
    needs_headers = 1, // a checkpoint with valid headers
    needs_model = 2,   // and a config.json with a known model, under compressed-tensors
    needs_values = 4,  // the values of its tensors
    needs_source = 8,  // and the source's
    needs_listed = 16, // the files that a model card lists
};

struct Check {
    const char * id;
    const char * title;
    unsigned needs;
    void (*run)(const Context & context, Findings & findings);
};
const std::vector<Check> & checks();

// Adds a finding of one check; the parts of `what` are concatenated.
class Reporter {
  public:
    Reporter(Findings & findings, const char * check) : findings_(findings), check_(check) {}
    void error(std::string subject, std::string what, std::string effect, std::string repair) const {
        add(Severity::error, std::move(subject), std::move(what), std::move(effect), std::move(repair));
    }
    void warning(std::string subject, std::string what, std::string effect, std::string repair) const {
        add(Severity::warning, std::move(subject), std::move(what), std::move(effect), std::move(repair));
    }
    void note(std::string subject, std::string what) const {
        add(Severity::note, std::move(subject), std::move(what), "", "");
    }
    void add(Severity severity, std::string subject, std::string what, std::string effect, std::string repair) const {
        findings_.add({check_, severity, std::move(subject), std::move(what), std::move(effect), std::move(repair)});
    }

  private:
    Findings & findings_;
    const char * check_;
};

// checks_tensors.cpp
void check_files(const Context & context, Findings & findings);        // L1
void check_tensor_forms(const Context & context, Findings & findings); // L2
void check_experts(const Context & context, Findings & findings);      // L5
void check_prefixes(const Context & context, Findings & findings);     // L12
// checks_declared.cpp
void check_declared(const Context & context, Findings & findings);         // L3
void check_fused_parameters(const Context & context, Findings & findings); // L4
void check_parts(const Context & context, Findings & findings);            // L11
// checks_config.cpp
void check_config(const Context & context, Findings & findings);          // L10
void check_tensor_parallel(const Context & context, Findings & findings); // L13
void check_foreign_format(const Context & context, Findings & findings);  // L15
// checks_listed.cpp
void check_listed_files(const Context & context, Findings & findings); // F1
// checks_files.cpp
void check_auxiliary_files(const Context & context, Findings & findings); // L14
// checks_values.cpp
void check_global_scales(const Context & context, Findings & findings); // L6
void check_orientation(const Context & context, Findings & findings);   // L7
void check_input_scales(const Context & context, Findings & findings);  // L8
void check_block_scales(const Context & context, Findings & findings);  // L9
// checks_plain.cpp
void check_plain_values(const Context & context, Findings & findings); // L16
// checks_source.cpp
void check_preserved(const Context & context, Findings & findings);     // S1
void check_weights(const Context & context, Findings & findings);       // S2
void check_rounding(const Context & context, Findings & findings);      // S3
void check_source_config(const Context & context, Findings & findings); // S4

// The share of modules whose codes and scales are those of round-to-nearest. Methods that choose others do so almost everywhere;
// a few other codes are suspicious only where nearly all are the nearest. S3 passes checkpoints below this share.
double nearest_share(const Measurements & measurements);
inline constexpr double rounding_share = 0.9;

} // namespace gnv::verify
