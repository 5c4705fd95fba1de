// Tokens that are found in the text as they are written, before anything else happens to it: control strings such as
// "<|im_end|>", and whatever else was added to a vocabulary after its training.
#pragma once

#include "tokenizer/tokenizer.h"
#include "tokenizer/work_limit.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

struct AddedToken {
    TokenId id = no_token;
    std::string content;
    bool special = false;
    bool normalized = false;  // looked for in the normalized text
    bool single_word = false; // only where no word character touches it
    bool strip_left = false;  // takes the white space before it along
    bool strip_right = false; // and after it
};

// Stretches of a text in order; together they cover it.
struct TextPart {
    size_t begin = 0, end = 0; // bytes
    TokenId token = no_token;  // no_token: ordinary text
};

// Finds a set of tokens in texts: leftmost first and, at one place, the longest.
class AddedTokenFinder {
  public:
    AddedTokenFinder() = default;
    // Contents are not empty, those of normalized tokens normalized already. The first token of a content counts.
    explicit AddedTokenFinder(std::vector<AddedToken> tokens);
    bool empty() const { return tokens_.empty(); }

  private:
    friend class TextParts;
    struct Found {
        const AddedToken * token = nullptr;
        size_t end = 0;
    };
    // Adds the tokens that it compares with to `looks`.
    Found longest_at(std::string_view text, size_t at, uint64_t & looks) const;

    std::vector<AddedToken> tokens_;    // by content
    std::array<bool, 256> starts_ = {}; // bytes with which a content starts
};

// The parts of a text, valid UTF-8, one after another. Those of ordinary text are not empty.
class TextParts {
  public:
    // Keeps views of both.
    TextParts(const AddedTokenFinder & finder, std::string_view text) : finder_(finder), text_(text) {}
    // False after the last one. Fails when `work` is spent: every token that the text might hold costs looks.
    Result<bool> next(TextPart & part, WorkLimit & work);

  private:
    bool find_token(TextPart & part);
    const AddedTokenFinder & finder_;
    std::string_view text_;
    size_t at_ = 0;      // where to look next
    size_t done_ = 0;    // what the parts so far cover
    uint64_t looks_ = 0; // not charged yet
    TextPart token_;     // that follows the part last returned, where its token is one
};

} // namespace gnv
