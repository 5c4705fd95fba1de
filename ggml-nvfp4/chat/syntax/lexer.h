// Cuts the source of a template into tokens, with Jinja's control of white space: trim_blocks and lstrip_blocks are on.
#pragma once

#include "core/status.h"

#include <deque>
#include <string_view>
#include <vector>

namespace gnv::chat {

enum class TokenKind : uint8_t {
    text,           // between tags
    variable_begin, // {{
    variable_end,
    block_begin, // {%
    block_end,
    name,
    string, // without quotes and escapes
    integer,
    real,
    symbol, // an operator or bracket
    end
};

struct Token {
    TokenKind kind = TokenKind::end;
    int line = 0;
    std::string_view text; // as written; of strings: what they mean
    int64_t integer = 0;
    double real = 0;

    bool is(TokenKind wanted, std::string_view content) const { return kind == wanted && text == content; }
    bool is_symbol(std::string_view content) const { return is(TokenKind::symbol, content); }
    bool is_name(std::string_view content) const { return is(TokenKind::name, content); }
};
std::string describe(const Token & token); // for messages

// A newline at the end of the source does not count, and all line ends are read as "\n".
std::string normal_source(std::string_view source);

// `source` is normal and valid UTF-8; it and `strings`, which receives texts that are not in it as they are, must outlive
// the tokens. The last token is TokenKind::end. A failure begins with "LINE: ".
Result<std::vector<Token>> cut_tokens(std::string_view source, std::deque<std::string> & strings);

} // namespace gnv::chat
