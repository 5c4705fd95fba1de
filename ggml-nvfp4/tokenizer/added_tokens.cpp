#include "tokenizer/added_tokens.h"

#include "core/utf8.h"
#include "tokenizer/unicode.h"

#include <algorithm>

namespace gnv {

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    const auto less = [](const AddedToken & a, const AddedToken & b) { return a.content < b.content; };
    const auto same = [](const AddedToken & a, const AddedToken & b) { return a.content == b.content; };
    std::stable_sort(tokens_.begin(), tokens_.end(), less);
    tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
    for (const AddedToken & token : tokens_) starts_[static_cast<uint8_t>(token.content.front())] = true;
}

AddedTokenFinder::Found AddedTokenFinder::longest_at(std::string_view text, size_t at) const {
    Found found;
    auto begin = tokens_.begin(), end = tokens_.end(); // those that agree with the text so far
    for (size_t depth = 0; begin != end; depth++) {
        if (begin->content.size() == depth) found = {&*begin++, at + depth}; // the shortest one sorts first
        if (at + depth == text.size()) break;
        const auto byte = static_cast<uint8_t>(text[at + depth]);
        const auto before = [&](const AddedToken & t) { return static_cast<uint8_t>(t.content[depth]) < byte; };
        const auto upto = [&](const AddedToken & t) { return static_cast<uint8_t>(t.content[depth]) <= byte; };
        begin = std::partition_point(begin, end, before);
        end = std::partition_point(begin, end, upto);
    }
    return found;
}

// Where the character before `at` begins.
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

void AddedTokenFinder::split(std::string_view text, std::vector<TextPart> & parts) const {
    size_t done = 0; // what the parts so far cover
    for (size_t at = 0; at < text.size();) {
        const Found found = starts_[static_cast<uint8_t>(text[at])] ? longest_at(text, at) : Found();
        if (!found.token) {
            at++;
            continue;
        }
        const AddedToken & token = *found.token;
        size_t begin = at, end = found.end, bytes;
        at = found.end;
        if (token.single_word && !stands_alone(text, begin, end)) continue;
        if (token.strip_left) {
            while (begin > done && is_white_space(utf8_decode(text, character_before(text, begin), bytes)))
                begin = character_before(text, begin);
            begin = std::max(begin, done); // the token before may have taken the same space
        }
        if (token.strip_right) {
            end = std::max(end, done);
            while (end < text.size() && is_white_space(utf8_decode(text, end, bytes))) end += bytes;
        }
        if (begin >= end) continue; // the token before took all of it along
        if (done < begin) parts.push_back({done, begin, no_token});
        parts.push_back({begin, end, token.id});
        done = end;
    }
    if (done < text.size()) parts.push_back({done, text.size(), no_token});
}

} // namespace gnv
