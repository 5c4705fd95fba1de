// Tokens that are found in the text as they are written, before anything else happens to it: control strings such as
// "<|im_end|>", and whatever else was added to a vocabulary after its training.
#pragma once

#include "tokenizer/tokenizer.h"

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

    // Appends the parts of `text`, valid UTF-8. Parts of ordinary text are not empty.
    void split(std::string_view text, std::vector<TextPart> & parts) const;

  private:
    struct Found {
        const AddedToken * token = nullptr;
        size_t end = 0;
    };
    Found longest_at(std::string_view text, size_t at) const;

    std::vector<AddedToken> tokens_;    // by content
    std::array<bool, 256> starts_ = {}; // bytes with which a content starts
};

} // namespace gnv
