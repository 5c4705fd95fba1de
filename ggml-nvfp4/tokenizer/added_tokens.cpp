#include "tokenizer/added_tokens.h"

#include "core/utf8.h"
#include "tokenizer/unicode.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace gnv {

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    const auto less = [](const AddedToken & a, const AddedToken & b) { return a.content < b.content; };
    const auto same = [](const AddedToken & a, const AddedToken & b) { return a.content == b.content; };
    std::stable_sort(tokens_.begin(), tokens_.end(), less);
    tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
    for (const AddedToken & token : tokens_) starts_[static_cast<uint8_t>(token.content.front())] = true;
}

static constexpr uint64_t looks_between_charges = 1 << 12;

AddedTokenFinder::Found AddedTokenFinder::longest_at(std::string_view text, size_t at, uint64_t & looks) const {
    Found found;
    auto begin = tokens_.begin(), end = tokens_.end(); // those that agree with the text so far
    for (size_t depth = 0; begin != end; depth++) {
        if (begin->content.size() == depth) found = {&*begin++, at + depth}; // the shortest one sorts first
        if (at + depth == text.size()) break;
        const auto byte = static_cast<uint8_t>(text[at + depth]);
        looks += uint64_t(std::bit_width(size_t(end - begin))); // of a binary search
        const auto before = [&](const AddedToken & t) { return static_cast<uint8_t>(t.content[depth]) < byte; };
        const auto upto = [&](const AddedToken & t) { return static_cast<uint8_t>(t.content[depth]) <= byte; };
        begin = std::partition_point(begin, end, before);
        end = std::partition_point(begin, end, upto);
    }
    return found;
}

// The begin of the character before `at`.
static size_t character_before(std::string_view text, size_t at) {
    do at--;
    while ((static_cast<uint8_t>(text[at]) & 0xc0) == 0x80);
    return at;
}

static bool stands_alone(std::string_view text, size_t begin, size_t end) {
    size_t bytes;
    return (begin == 0 || !is_word_character(utf8_decode(text, character_before(text, begin), bytes))) &&
           (end == text.size() || !is_word_character(utf8_decode(text, end, bytes)));
}

// The next token that is not consumed by the one before. Looks charge the comparisons, not the bytes that start no
// token.
bool TextParts::find_token(TextPart & part) {
    while (at_ < text_.size()) {
        if (!finder_.starts_[static_cast<uint8_t>(text_[at_])]) {
            at_++;
            continue;
        }
        const AddedTokenFinder::Found found = finder_.longest_at(text_, at_, looks_);
        if (!found.token) {
            at_++;
            if (looks_ >= looks_between_charges) return false;
            continue;
        }
        const AddedToken & token = *found.token;
        size_t begin = at_, end = found.end, bytes;
        at_ = found.end;
        if (token.single_word && !stands_alone(text_, begin, end)) continue;
        if (token.strip_left) {
            while (begin > done_ && is_white_space(utf8_decode(text_, character_before(text_, begin), bytes)))
                begin = character_before(text_, begin);
            begin = std::max(begin, done_); // the previous token may include the same space
        }
        if (token.strip_right) {
            end = std::max(end, done_);
            while (end < text_.size() && is_white_space(utf8_decode(text_, end, bytes))) end += bytes;
        }
        if (begin >= end) continue; // inside the previous token and its white space
        part = {begin, end, token.id};
        return true;
    }
    return false;
}

Result<bool> TextParts::next(TextPart & part, WorkLimit & work) {
    if (token_.token != no_token) {
        part = std::exchange(token_, TextPart());
        return true;
    }
    while (at_ < text_.size()) {
        TextPart found;
        const bool is_token = find_token(found);
        if (!work.spend(std::exchange(looks_, 0) + 1))
            return work.status().add_context(concat("the search for added tokens gives up at byte ", at_,
                                                    " of a stretch of ", text_.size(), " bytes"));
        if (!is_token) continue;
        const size_t begin = std::exchange(done_, found.end);
        if (begin < found.begin) {
            token_ = found;
            part = {begin, found.begin, no_token};
        } else {
            part = found;
        }
        return true;
    }
    if (done_ >= text_.size()) return false;
    part = {done_, text_.size(), no_token};
    done_ = text_.size();
    return true;
}

} // namespace gnv
