// The README.md of a result: what it was made from and how, how to serve it, what was measured, and the hashes of its files.
// The card of the source gives licence, languages and tags; its text describes the source and is not taken over.
#pragma once

#include "core/status.h"
#include "core/stop_check.h"
#include "core/thread_pool.h"
#include "output/running_hashes.h"

#include <string>

namespace gnv {

inline constexpr const char * card_file_name = "README.md";

struct CardOptions {
    std::string source;     // the folder of the source, for its card; may be empty
    std::string base_model; // "org/name"; empty: taken from the source's folder if that is in the hub's cache
    std::string command;    // as it was typed, on one line; may be empty
    std::string repository; // "org/name" of the result; empty: a name made of base_model stands for it
    StopCheck stop;         // may be empty
    KnownHashes known;      // of files that need not be read if they still have these stamps
};

// The card of the finished checkpoint in `folder`, from its files alone: the same for any number of threads.
Result<std::string> model_card_text(const std::string & folder, const CardOptions & options, ThreadPool & threads);
// Writes it, in place of a README.md that is there.
Status write_model_card(const std::string & folder, const CardOptions & options, ThreadPool & threads);

// Puts the figures of a report of `verify --data --canary --json`, of either option or both, into the card, in place of those that are there.
Status add_measurements(const std::string & folder, const std::string & verify_report);
// The part of the card between its marks; `report` is such a document.
Result<std::string> measurements_text(const std::string & verify_report);

} // namespace gnv
