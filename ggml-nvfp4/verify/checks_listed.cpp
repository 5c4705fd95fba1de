// Files against the model card: F1.
#include "verify/checks.h"
#include "verify/listed_files.h"

#include "core/strings.h"

namespace gnv::verify {

void check_listed_files(const Context & context, Findings & findings) {
    const Reporter report(findings, "F1");
    for (const ListedState & file : *context.listed) {
        const ListedFile & listed = file.listed;
        std::string what;
        if (!file.present) {
            what = "is missing; README.md lists it";
        } else if (!file.problem.empty()) {
            what = file.problem;
        } else if (file.size != listed.size) {
            what = concat("has ", count_text(file.size), " bytes; README.md lists ", count_text(listed.size));
        } else if (file.sha256 != listed.sha256) {
            what = concat("has SHA-256 ", file.sha256, "; README.md lists ", listed.sha256);
        } else {
            continue;
        }
        // Settings may have been changed on purpose; weights are not edited.
        if (ends_with(listed.name, ".safetensors")) {
            report.error(listed.name, std::move(what), "engines refuse the file, or compute with other numbers",
                         "copy or download the file again");
        } else {
            report.warning(listed.name, std::move(what),
                           "engines may behave otherwise than with the file that was made",
                           "copy or download the file again; if the change is meant, write it into README.md's table");
        }
    }
}

} // namespace gnv::verify
