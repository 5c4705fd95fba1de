// What `run` says of drafting: its option, its counts.
#pragma once

#include "args.h"

#include <nlohmann/json.hpp>
#include <string>

namespace tools {

// --draft N|auto, as gnv_generate_options.draft.
inline void add_draft(CLI::App & app, int32_t & draft) {
    const auto take = [&draft](const CLI::results_t & texts) {
        uint64_t count = 0;
        const bool is_auto = texts.back() == "auto";
        if (!is_auto && (!parse_count(texts.back(), count) || count > GNV_MOST_DRAFTS))
            refuse_number("--draft", texts.back(), "expected auto or a number from 0 to 15");
        draft = is_auto ? GNV_DRAFT_AUTO : int32_t(count);
        return true;
    };
    app.add_option("--draft", CLI::callback_t(take),
                   "tokens that the model's draft head guesses at a time, for one pass to check, up to 15; 0: none "
                   "(default); auto: 2, until tokens without are found to be faster. The text stays the same")
        ->type_name("N")
        ->expected(1);
}

inline void print_drafts(const gnv_generate_result & result) {
    if (result.draft_passes == 0) return;
    const auto count = [](uint64_t number) { return static_cast<unsigned long long>(number); };
    const double percent = result.drafted > 0 ? 100 * double(result.accepted) / double(result.drafted) : 0;
    fprintf(stderr, "drafted %llu tokens, %llu accepted (%.0f %%), %.2f tokens a pass", count(result.drafted),
            count(result.accepted), percent, 1 + double(result.accepted) / double(result.draft_passes));
    if (result.draft_gain > 0) fprintf(stderr, ", %.2f times as fast as without", result.draft_gain);
    if (result.draft_end > 0)
        fprintf(stderr, "; switched off after %llu tokens, because it was slower", count(result.draft_end));
    fputc('\n', stderr);
}

inline nlohmann::ordered_json drafts_json(const gnv_generate_result & result) {
    return {{"drafted", result.drafted},
            {"accepted", result.accepted},
            {"passes", result.draft_passes},
            {"gain", result.draft_gain},
            {"switched_off_after", result.draft_end}};
}

} // namespace tools
