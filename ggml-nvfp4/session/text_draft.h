// A text of a session's pool that drafts (text_session_pool_draft.cpp). Its draft head has a place in the memory for drafting; the
// head's keys and values lie in pages of their own, which texts without drafting keep as well: copies of a text go on with them.
#pragma once

#include "session/draft_plan.h"
#include "session/sampling/some_logits.h"

#include <cstdint>
#include <vector>

namespace gnv {

struct TextDraft {
    int32_t place = -1;
    int32_t slot = -1; // of the text
    DraftPlan plan;
    DraftCounts counts;
    int64_t tokens = 0; // single ids that ran since the plan began

    // Rows that ran last, whose stream is kept and which the draft head has not seen: their ids, guesses included, the position of
    // the first, and by how many of them the text has gone on.
    std::vector<int32_t> ids;
    int64_t first = 0, taken = 0;
    // Where the rows of a pass ahead are kept, from which the text's states can be taken back to `taken` of them; -1: these are its
    // states.
    int64_t kept_at = -1;
    // Results of all rows of a pass ahead, of one kind.
    std::vector<float> logits;
    std::vector<LargestLogit> largest;
    bool is_timed = false; // that pass

    bool is_ahead() const { return kept_at >= 0; }
    void begin(const DraftOptions & options) { // counts from here on
        plan = DraftPlan(options);
        counts = {};
        tokens = 0;
        is_timed = false;
    }
    void forget() {
        ids.clear(), logits.clear(), largest.clear();
        taken = 0, kept_at = -1;
    }
};

// How many texts draft, of those that may.
struct DraftUse {
    int64_t texts = 0, most_texts = 0;
    uint64_t bytes = 0; // of memory for them
};

} // namespace gnv
