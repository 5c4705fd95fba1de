#include "chat/syntax/lexer.h"

#include "chat/values/unicode_text.h"
#include "core/utf8.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gnv::chat {

std::string describe(const Token & token) {
    if (token.kind == TokenKind::end) return "the end of the template";
    if (token.kind == TokenKind::text) return "text";
    if (token.kind == TokenKind::string) return concat("the string \"", printable(token.text, 40), "\"");
    return concat("'", printable(token.text, 40), "'");
}

std::string normal_source(std::string_view source) {
    std::string out;
    out.reserve(source.size());
    for (size_t at = 0; at < source.size(); at++) {
        const bool is_return = source[at] == '\r';
        if (is_return && source.substr(at + 1, 1) == "\n") at++;
        out += is_return ? '\n' : source[at];
    }
    if (!out.empty() && out.back() == '\n') out.pop_back();
    return out;
}

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || uint8_t(c) >= 0x80;
}

int digit_of(char c) {
    if (is_digit(c)) return c - '0';
    const char small = char(c | 0x20);
    return small >= 'a' && small <= 'z' ? small - 'a' + 10 : 99;
}

class Lexer {
  public:
    Lexer(std::string_view source, std::deque<std::string> & strings) : source_(source), strings_(strings) {}

    Result<std::vector<Token>> cut() {
        while (at_ < source_.size()) GNV_TRY(cut_text());
        add(TokenKind::end, {});
        return std::move(tokens_);
    }

  private:
    template <class... Parts>
    Status fail_at(int line, const Parts &... parts) const {
        return fail(Code::format, line, ": ", parts...);
    }
    char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
    bool looking_at(std::string_view text) const { return source_.substr(at_, text.size()) == text; }
    void move(size_t bytes) {
        line_ += int(std::count(source_.begin() + ptrdiff_t(at_), source_.begin() + ptrdiff_t(at_ + bytes), '\n'));
        at_ += bytes;
    }
    void add(TokenKind kind, std::string_view text) {
        Token token;
        token.kind = kind;
        token.line = line_;
        token.text = text;
        tokens_.push_back(token);
    }
    void skip_space() { move(source_.size() - at_ - strip(source_.substr(at_), true, false).size()); }

    // Text up to the next tag, then the tag.
    Status cut_text() {
        size_t tag = at_;
        for (;; tag++) {
            tag = source_.find('{', tag);
            if (tag == source_.npos || tag + 1 == source_.size()) tag = source_.size();
            if (tag == source_.size() || std::string_view("{%#").find(source_[tag + 1]) != std::string_view::npos)
                break;
        }
        std::string_view text = source_.substr(at_, tag - at_);
        if (tag == source_.size()) {
            add_text(text);
            move(text.size());
            return {};
        }
        const char kind = source_[tag + 1];
        const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
        add_text(kept_before(text, kind != '{', sign));
        move(text.size());
        const bool signed_tag = sign == '-' || sign == '+';
        if (kind == '#') return cut_comment(signed_tag ? 3 : 2);
        if (kind == '%') {
            const size_t raw_end = find_raw(signed_tag ? 3 : 2);
            if (raw_end) return cut_raw(raw_end);
        }
        add(kind == '%' ? TokenKind::block_begin : TokenKind::variable_begin, source_.substr(at_, 2));
        move(signed_tag ? 3 : 2);
        return cut_tag(kind == '%');
    }

    // What the sign of a tag, or lstrip_blocks, leaves of the text before it.
    std::string_view kept_before(std::string_view text, bool is_block, char sign) const {
        if (sign == '-') return strip(text, false, true);
        if (sign == '+' || !is_block) return text;
        const size_t newline = text.rfind('\n');
        const size_t begin = newline == text.npos ? 0 : newline + 1;
        if (begin == 0 && !line_starts_) return text;
        return strip(text.substr(begin), true, false).empty() ? text.substr(0, begin) : text;
    }

    void add_text(std::string_view text) {
        if (!text.empty()) add(TokenKind::text, text);
    }

    // After "-" all white space goes; trim_blocks takes one newline after blocks and comments.
    void end_tag(size_t bytes, char sign, bool trims) {
        const size_t begin = at_;
        move(bytes);
        if (sign == '-') {
            skip_space();
        } else if (trims && sign != '+' && peek() == '\n') {
            move(1);
        }
        line_starts_ = at_ > begin && source_[at_ - 1] == '\n';
    }

    Status cut_comment(size_t begin) {
        const int line = line_;
        const size_t end = source_.find("#}", at_ + begin);
        if (end == source_.npos) return fail_at(line, "the comment {# has no end #}");
        const bool has_sign = end > at_ + begin && (source_[end - 1] == '-' || source_[end - 1] == '+');
        end_tag(end + 2 - at_, has_sign ? source_[end - 1] : '\0', true);
        return {};
    }

    size_t after_space(size_t at) const { return source_.size() - strip(source_.substr(at), true, false).size(); }

    // Whether a block tag at `at`, after its two or three first bytes, is WORD and nothing else. Where it ends, or 0.
    size_t find_word_tag(size_t after, std::string_view word, char & sign) const {
        size_t at = after_space(after);
        if (source_.substr(at, word.size()) != word) return 0;
        at = after_space(at + word.size());
        sign = at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
        at += sign != '\0';
        return source_.substr(at, 2) == "%}" ? at + 2 : 0;
    }
    size_t find_raw(size_t skip) {
        const size_t end = find_word_tag(at_ + skip, "raw", raw_sign_);
        return raw_sign_ == '+' ? 0 : end;
    }

    Status cut_raw(size_t begin_end) {
        const int line = line_;
        end_tag(begin_end - at_, raw_sign_, false);
        for (size_t tag = source_.find("{%", at_); tag != source_.npos; tag = source_.find("{%", tag + 1)) {
            const char before = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
            char after = '\0';
            const size_t end = find_word_tag(tag + (before == '-' || before == '+' ? 3 : 2), "endraw", after);
            if (!end) continue;
            const std::string_view text = source_.substr(at_, tag - at_);
            add_text(kept_before(text, true, before));
            move(text.size());
            end_tag(end - at_, after, true);
            return {};
        }
        return fail_at(line, "the block raw has no endraw");
    }

    // The tokens of one tag, its end included.
    Status cut_tag(bool is_block) {
        const int line = line_;
        std::string brackets;
        const std::string_view end = is_block ? "%}" : "}}";
        for (;;) {
            skip_space();
            if (at_ >= source_.size()) return fail_at(line, "the tag has no end ", end);
            const size_t sign = peek() == '-' || (is_block && peek() == '+') ? 1 : 0;
            if (brackets.empty() && source_.substr(at_ + sign, 2) == end) {
                add(is_block ? TokenKind::block_end : TokenKind::variable_end, end);
                end_tag(sign + 2, sign ? peek() : '\0', is_block);
                return {};
            }
            GNV_TRY(cut_token(brackets));
        }
    }

    Status cut_token(std::string & brackets) {
        const char c = peek();
        if (is_digit(c)) return cut_number();
        if (is_word(c)) return cut_name();
        if (c == '\'' || c == '"') return cut_string(c);
        static constexpr std::string_view symbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                       "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                       ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
        for (const std::string_view symbol : symbols) {
            if (!looking_at(symbol)) continue;
            if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
            if (c == ')' || c == ']' || c == '}') {
                if (brackets.empty() || brackets.back() != c) return fail_at(line_, "unexpected '", c, "'");
                brackets.pop_back();
            }
            add(TokenKind::symbol, source_.substr(at_, symbol.size()));
            move(symbol.size());
            return {};
        }
        return fail_at(line_, "unexpected character '", printable(source_.substr(at_, 1)), "'");
    }

    Status cut_name() {
        size_t end = at_;
        while (end < source_.size() && is_word(source_[end])) end++;
        const std::string_view name = source_.substr(at_, end - at_);
        if (!is_identifier(name)) return fail_at(line_, "invalid character in the name '", printable(name), "'");
        add(TokenKind::name, name);
        move(name.size());
        return {};
    }

    // Digits with single "_" between them; where they end.
    size_t after_digits(size_t at, int base) const {
        const auto is_one = [&](size_t i) { return i < source_.size() && digit_of(source_[i]) < base; };
        while (is_one(at) || (at < source_.size() && source_[at] == '_' && is_one(at + 1))) at++;
        return at;
    }

    Status cut_number() {
        const size_t whole_end = after_digits(at_, 10);
        size_t end = whole_end;
        const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
        if (!after_dot && end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1]))
            end = after_digits(end + 1, 10);
        if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
            const size_t sign =
                end + 1 < source_.size() && (source_[end + 1] == '-' || source_[end + 1] == '+') ? 1 : 0;
            if (end + 1 + sign < source_.size() && is_digit(source_[end + 1 + sign]))
                end = after_digits(end + 1 + sign, 10);
        }
        if (end == whole_end) return cut_integer();
        std::string digits(source_.substr(at_, end - at_));
        std::erase(digits, '_');
        add(TokenKind::real, source_.substr(at_, end - at_));
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), tokens_.back().real);
        if (parsed.ec == std::errc::result_out_of_range) tokens_.back().real = strtod(digits.c_str(), nullptr);
        move(end - at_);
        return {};
    }

    Status cut_integer() {
        const char second = char(peek(1) | 0x20);
        const int base = peek() != '0' ? 10 : second == 'x' ? 16 : second == 'o' ? 8 : second == 'b' ? 2 : 10;
        const size_t begin = base == 10 ? at_ : at_ + 2;
        size_t end = after_digits(begin, base);
        if (base == 10 && peek() == '0') // zeros alone: "07" are two numbers, which no grammar joins
            for (end = at_; end < source_.size() && (source_[end] == '0' || source_[end] == '_'); end++) {
            }
        std::string digits(source_.substr(begin, end - begin));
        std::erase(digits, '_');
        add(TokenKind::integer, source_.substr(at_, end - at_));
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), tokens_.back().integer, base);
        if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size())
            return fail_at(line_, "the number ", printable(source_.substr(at_, end - at_), 40),
                           " is not supported: it needs more than 64 bits, or has no digits");
        move(end - at_);
        return {};
    }

    Status cut_string(char quote) {
        const int line = line_;
        size_t end = at_ + 1;
        bool has_escape = false;
        for (; end < source_.size() && source_[end] != quote; end++) {
            if (source_[end] != '\\') continue;
            has_escape = true;
            end++;
        }
        if (end >= source_.size()) return fail_at(line, "the string has no end ", quote);
        std::string_view text = source_.substr(at_ + 1, end - at_ - 1);
        if (has_escape) {
            std::string plain;
            GNV_TRY(unescape(text, plain));
            text = strings_.emplace_back(std::move(plain));
        }
        add(TokenKind::string, text);
        move(end + 1 - at_);
        return {};
    }

    Status unescape(std::string_view text, std::string & out) const {
        static constexpr std::string_view plain = "abfnrtv\\'\"", meanings = "\a\b\f\n\r\t\v\\'\"";
        for (size_t at = 0; at < text.size(); at++) {
            if (text[at] != '\\') {
                out += text[at];
                continue;
            }
            const char c = text[++at];
            const size_t place = plain.find(c);
            if (place != plain.npos) {
                out += meanings[place];
            } else if (c == 'x' || c == 'u' || c == 'U') {
                const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
                GNV_TRY(append_escaped(text.substr(at + 1, digits), digits, 16, out));
                at += digits;
            } else if (c >= '0' && c <= '7') {
                size_t digits = 1;
                while (digits < 3 && at + digits < text.size() && digit_of(text[at + digits]) < 8) digits++;
                GNV_TRY(append_escaped(text.substr(at, digits), digits, 8, out));
                at += digits - 1;
            } else if (c == 'N') {
                return fail_at(line_, "the escape \\N is not supported: write the character itself");
            } else if (c != '\n') { // which joins two lines
                out += '\\';
                out += c;
            }
        }
        return {};
    }

    Status append_escaped(std::string_view digits, size_t count, int base, std::string & out) const {
        uint32_t code = 0;
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
        const bool whole = digits.size() == count && parsed.ec == std::errc() && parsed.ptr == digits.data() + count;
        if (!whole || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
            return fail_at(line_, "the escape \\", printable(digits), " in a string is no character");
        utf8_append(out, code);
        return {};
    }

    const std::string_view source_;
    std::deque<std::string> & strings_;
    std::vector<Token> tokens_;
    size_t at_ = 0;
    int line_ = 1;
    bool line_starts_ = true; // what comes next stands at the beginning of a line
    char raw_sign_ = '\0';
};

} // namespace

Result<std::vector<Token>> cut_tokens(std::string_view source, std::deque<std::string> & strings) {
    return Lexer(source, strings).cut();
}

} // namespace gnv::chat
