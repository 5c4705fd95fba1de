// What an answer shows while its tokens are chosen, and when it ends: characters that tokens complete, without a stop id's own
// text, and without text that may become a stop string. gnv_model_generate and gnv_shown_text_t use it alike.
#pragma once

#include "session/sampling/stop_text.h"
#include "tokenizer/text_stream.h"
#include "tokenizer/tokenizer.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

enum class GenerateStop : uint8_t { id, length, capacity, callback, text };

// Where an answer ends.
struct AnswerLimits {
    int64_t max_tokens = 0; // 0: up to a stop id or the end of the caches
    std::vector<int32_t> stop_ids;
    std::vector<std::string> stop_texts; // valid; each ends the text before it
};

struct GeneratedToken {
    int32_t id = 0;
    bool is_stop = false; // by its id
    std::string text;  // the characters that this token decides: those of a stop string never come, its beginning waits
    size_t answer = 0; // bytes of `text` before the text of a stop id itself
    std::optional<GenerateStop> end; // of the last token: why
    size_t stop_text = 0;            // GenerateStop::text: which
};

class ShownText {
  public:
    ShownText(const Tokenizer & tokenizer, AnswerLimits limits)
        : tokenizer_(tokenizer), limits_(std::move(limits)), stop_(limits_.stop_texts) {}
    // The next token. `is_full`: the caches have no position for it, so it is the last. Code::invalid_argument, without a change: an
    // id that is no token. Not called after a token with an end.
    Result<GeneratedToken> push(int32_t id, bool is_full);
    int64_t tokens() const { return tokens_; } // so far
    bool has_ended() const { return has_ended_; }

  private:
    std::optional<GenerateStop> end_of(bool is_stop, bool is_full) const;
    std::string finish();

    const Tokenizer tokenizer_;
    const AnswerLimits limits_;
    TextStream characters_;
    StopText stop_;
    int64_t tokens_ = 0;
    bool has_ended_ = false;
};

} // namespace gnv
