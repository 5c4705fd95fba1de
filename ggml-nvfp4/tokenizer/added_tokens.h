// Tokens that are matched literally in the text before all other steps: control strings such as "<|im_end|>", and other
// tokens that were added to a vocabulary after its training.
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
    bool normalized = false;  // matched in the normalized text
    bool single_word = false; // only between characters that are not part of words
    bool strip_left = false;  // includes the white space before it
    bool strip_right = false; // and after it
};

// Consecutive parts of a text that cover it.
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
    // Adds the number of compared tokens to `looks`.
    Found longest_at(std::string_view text, size_t at, uint64_t & looks) const;

    std::vector<AddedToken> tokens_;    // by content
    std::array<bool, 256> starts_ = {}; // bytes with which a content starts
};

// The parts of a text, valid UTF-8, in order. Parts of ordinary text are not empty.
class TextParts {
  public:
    // Keeps views of both.
    TextParts(const AddedTokenFinder & finder, std::string_view text) : finder_(finder), text_(text) {}
    // False after the last one. Fails when `work` is spent: every candidate token costs looks.
    Result<bool> next(TextPart & part, WorkLimit & work);

  private:
    bool find_token(TextPart & part);
    const AddedTokenFinder & finder_;
    std::string_view text_;
    size_t at_ = 0;      // of the next search
    size_t done_ = 0;    // the end of the parts so far
    uint64_t looks_ = 0; // not charged yet
    TextPart token_;     // follows the last returned part, if its token is one
};

} // namespace gnv
