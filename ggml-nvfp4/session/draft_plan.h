// How many tokens the next pass of a text drafts, and what drafting has done for it.
#pragma once

#include <cstdint>

namespace gnv {

// Times are those of whole passes with everything that drafting adds, without the first of each kind on a device.
struct DraftCounts {
    int64_t drafted = 0, accepted = 0;           // tokens
    int64_t passes = 0;                          // with drafts
    int64_t timed_tokens = 0, timed_plain = 0;   // of passes with drafts; of passes of a single token each
    double draft_seconds = 0, plain_seconds = 0; // for these
    // Seconds of a token without drafts over those of a token with; 0: not known.
    double gain() const {
        if (timed_tokens == 0 || timed_plain == 0 || draft_seconds <= 0) return 0;
        return plain_seconds / double(timed_plain) * double(timed_tokens) / draft_seconds;
    }
    // Tokens that could have been written in the time that drafting took longer; below 0: it was faster.
    double lost_tokens() const {
        if (timed_plain == 0 || plain_seconds <= 0) return 0;
        return draft_seconds / plain_seconds * double(timed_plain) - double(timed_tokens);
    }
};

struct DraftOptions {
    int64_t tokens = 0;     // at a time; 0: none are
    bool automatic = false; // stops when tokens without drafts are faster
};

// The first tokens of an answer have no drafts, to know their time: choices do not change.
class DraftPlan {
  public:
    explicit DraftPlan(const DraftOptions & options = {}) : options_(options) {}
    const DraftOptions & options() const { return options_; }
    // `tokens` are written, and `most` may come. Below 0: the draft head need not follow the text.
    int64_t next(const DraftCounts & counts, int64_t tokens, int64_t most) {
        if (options_.tokens == 0 || end_ > 0) return -1;
        if (options_.automatic && counts.lost_tokens() > 1 + 0.02 * double(tokens)) {
            end_ = tokens;
            return -1;
        }
        // A pass of fewer tokens than the others would be a recording of its own on a device: single tokens end an answer.
        return counts.timed_plain < plain || most < options_.tokens ? 0 : options_.tokens;
    }
    int64_t end() const { return end_; } // tokens after which automatic drafting stopped; 0: it did not

  private:
    static constexpr int64_t plain = 4; // tokens that are timed
    DraftOptions options_;
    int64_t end_ = 0;
};

} // namespace gnv
