// All tokens of a tokenizer: id -> bytes, and back.
#pragma once

#include "core/status.h"
#include "tokenizer/tokenizer.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv {

// Ids bound memory, so a file's ids are limited. The largest published vocabularies have a quarter of this.
inline constexpr int64_t largest_token_id = (1 << 22) - 1;

class Vocabulary {
  public:
    // `written` as in the file: in the byte-level alphabet or, for added tokens, possibly not. Fails when the id is out
    // of range or another token has it; adding the same token again does nothing.
    Status add(int64_t id, std::string_view written);
    // Replaces the bytes of a known token.
    void set_written(TokenId id, std::string_view written);
    void set_special(TokenId id, bool special) { tokens_[size_t(id)].special = special; }

    size_t count() const { return by_written_.size(); }
    TokenId size() const { return TokenId(tokens_.size()); } // one more than the largest id
    bool contains(TokenId id) const { return id >= 0 && id < size() && tokens_[size_t(id)].present; }
    bool is_special(TokenId id) const { return contains(id) && tokens_[size_t(id)].special; }
    const std::string & bytes(TokenId id) const { return tokens_[size_t(id)].bytes; }

    TokenId find_written(std::string_view written) const; // no_token: absent
    TokenId find_bytes(std::string_view bytes) const;     // tokens written in the byte-level alphabet only

  private:
    struct Token {
        std::string bytes; // of its text
        bool present = false;
        bool special = false;
    };
    struct Hash { // for lookups by view
        using is_transparent = void;
        size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
    };
    std::vector<Token> tokens_; // by id
    std::unordered_map<std::string, TokenId, Hash, std::equal_to<>> by_written_;
};

} // namespace gnv
