#include "answer_parts.h"

#include <algorithm>

namespace server {

static const std::string think = "<think>", think_end = "</think>", call_begin = "<tool_call>",
                         call_end = "</tool_call>";
static constexpr const char * blanks = " \t\r\n";

// Bytes at the end of `text` that may be the beginning of `tag`.
static size_t begun(const std::string & text, const std::string & tag) {
    for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; size--)
        if (text.compare(text.size() - size, size, tag, 0, size) == 0) return size;
    return 0;
}

// Moves text up to `end_tag` ("": there is none) from pending_ to `text`, but what may belong to the tag, and the blanks before
// it. True if the tag was there; it is removed.
bool AnswerParts::take_text(const std::string & end_tag, bool is_last, std::string & text) {
    if (skips_blanks_) {
        pending_.erase(0, std::min(pending_.find_first_not_of(blanks), pending_.size()));
        if (pending_.empty()) return false;
    }
    const size_t tag = end_tag.empty() ? std::string::npos : pending_.find(end_tag);
    const bool found = tag != std::string::npos;
    size_t end = pending_.size();
    if (found) end = tag;
    if (!found && !is_last && !end_tag.empty()) end -= begun(pending_, end_tag);
    if (end > 0 && (found || (!is_last && !end_tag.empty()))) end = pending_.find_last_not_of(blanks, end - 1) + 1;
    if (end > 0) skips_blanks_ = false;
    text += pending_.substr(0, end);
    gap_ = found ? pending_.substr(end, tag - end) : "";
    pending_.erase(0, found ? tag + end_tag.size() : end);
    return found;
}

// False if the end of the call has not arrived.
bool AnswerParts::take_call(AnswerDelta & delta) {
    const size_t end = pending_.find(call_end, searched_);
    if (end == std::string::npos) {
        searched_ = pending_.size() - std::min(pending_.size(), call_end.size());
        return false;
    }
    const std::string body = pending_.substr(0, end);
    pending_.erase(0, end + call_end.size());
    searched_ = 0;
    place_ = Place::content;
    if (auto call = parse_tool_call(body, tools_)) {
        delta.calls.push_back(std::move(*call));
        calls_++;
        skips_blanks_ = true;
    } else {
        delta.content += gap_ + call_begin + body + call_end;
    }
    return true;
}

// False if more text is needed.
bool AnswerParts::step(bool is_last, AnswerDelta & delta) {
    switch (place_) {
    case Place::begin: { // an answer may begin with <think> itself
        const size_t first = std::min(pending_.find_first_not_of(blanks), pending_.size());
        const std::string head = pending_.substr(first, think.size());
        if (!is_last && head.size() < think.size() && think.compare(0, head.size(), head) == 0) return false;
        const bool thinks = head == think;
        if (thinks) pending_.erase(0, first + think.size());
        place_ = thinks ? Place::reasoning : Place::content;
        skips_blanks_ = thinks;
        return true;
    }
    case Place::reasoning:
        if (!take_text(think_end, is_last, delta.reasoning)) return false;
        place_ = Place::content;
        skips_blanks_ = true;
        return true;
    case Place::content:
        if (!take_text(tools_.is_null() ? "" : call_begin, is_last, delta.content)) return false;
        place_ = Place::call;
        return true;
    case Place::call:
        if (take_call(delta)) return true;
        if (is_last) delta.content += gap_ + call_begin + pending_;
        if (is_last) pending_.clear();
        return false;
    }
    return false;
}

AnswerDelta AnswerParts::read(bool is_last) {
    AnswerDelta delta;
    while (step(is_last, delta)) {
    }
    return delta;
}

AnswerDelta AnswerParts::push(const std::string & piece) {
    pending_ += piece;
    return read(false);
}

AnswerDelta AnswerParts::finish() { return read(true); }

} // namespace server
