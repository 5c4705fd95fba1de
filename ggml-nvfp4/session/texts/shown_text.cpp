#include "session/texts/shown_text.h"

#include "core/utf8.h"

#include <algorithm>

namespace gnv {

std::optional<GenerateStop> ShownText::end_of(bool is_stop, bool is_full) const {
    if (is_stop) return GenerateStop::id;
    if (tokens_ == limits_.max_tokens) return GenerateStop::length;
    return is_full ? std::optional(GenerateStop::capacity) : std::nullopt;
}

// What waits, at the end.
std::string ShownText::finish() {
    std::string text = stop_.push(characters_.finish());
    return stop_.found() ? text : text + stop_.finish();
}

Result<GeneratedToken> ShownText::push(int32_t id, bool is_full) {
    GNV_ASSIGN(const std::string bytes, tokenizer_.decode_bytes({&id, 1}));
    tokens_++;
    GeneratedToken token;
    token.id = id;
    token.is_stop = std::find(limits_.stop_ids.begin(), limits_.stop_ids.end(), id) != limits_.stop_ids.end();
    token.end = end_of(token.is_stop, is_full);
    if (token.is_stop) { // its text is no part of the answer
        token.text = finish();
    } else {
        token.text = stop_.push(characters_.push(bytes));
        if (token.end && !stop_.found()) token.text += finish();
    }
    token.answer = token.text.size();
    if (token.is_stop && !stop_.found()) token.text += utf8_lossy(bytes);
    if (stop_.found()) {
        token.end = GenerateStop::text;
        token.stop_text = *stop_.found();
    }
    has_ended_ = token.end.has_value();
    return token;
}

} // namespace gnv
