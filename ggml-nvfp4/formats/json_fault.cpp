#include "formats/json_fault.h"

#include "core/strings.h"
#include "core/utf8.h"

#include <algorithm>
#include <cctype>

namespace gnv {

size_t json_number_length(std::string_view text) {
    size_t at = 0;
    const auto digits = [&] {
        const size_t begin = at;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9') at++;
        return at - begin;
    };
    const auto is_next = [&](std::string_view any) { return at < text.size() && any.find(text[at]) != any.npos; };
    if (is_next("-")) at++;
    if (is_next("0")) {
        at++;
    } else if (digits() == 0) {
        return 0;
    }
    if (is_next(".") && (at++, digits() == 0)) return 0;
    if (is_next("eE")) {
        at++;
        if (is_next("+-")) at++;
        if (digits() == 0) return 0;
    }
    return at;
}

namespace {

class JsonScan {
  public:
    explicit JsonScan(std::string_view text) : text_(text) {}

    // What is missing at at(); null: nothing.
    const char * run() {
        for (Next next = Next::value;;) {
            skip_blanks();
            if (at_ == text_.size() && next == Next::end) return nullptr;
            if (const char * missing = step(next)) return missing;
        }
    }
    size_t at() const { return at_; }

  private:
    enum class Next { value, value_or_end, key, key_or_end, colon, comma_or_end, end };

    // Reads one token and sets what may follow it.
    const char * step(Next & next) {
        const char c = at_ < text_.size() ? text_[at_] : '\0';
        switch (next) {
        case Next::value_or_end:
            if (c == ']') return close(next);
            [[fallthrough]];
        case Next::value:
            if (c == '{' || c == '[') {
                open_ += c;
                next = c == '{' ? Next::key_or_end : Next::value_or_end;
                at_++;
                return nullptr;
            }
            next = open_.empty() ? Next::end : Next::comma_or_end;
            return c == '"' ? string() : word() || number() ? nullptr : "a value";
        case Next::key_or_end:
            if (c == '}') return close(next);
            [[fallthrough]];
        case Next::key: next = Next::colon; return c == '"' ? string() : "the name of a member";
        case Next::colon: next = Next::value; return take(':') ? nullptr : "\":\"";
        case Next::comma_or_end:
            if (c == (open_.back() == '{' ? '}' : ']')) return close(next);
            next = open_.back() == '{' ? Next::key : Next::value;
            return take(',') ? nullptr : open_.back() == '{' ? "\",\" or \"}\"" : "\",\" or \"]\"";
        case Next::end: break;
        }
        return "the end of the text";
    }
    const char * close(Next & next) {
        at_++;
        open_.pop_back();
        next = open_.empty() ? Next::end : Next::comma_or_end;
        return nullptr;
    }
    const char * string() {
        for (at_++; at_ < text_.size(); at_++) {
            const char c = text_[at_];
            if (c == '"') {
                at_++;
                return nullptr;
            }
            if (static_cast<unsigned char>(c) < 0x20) return "the end of a string, or an escape such as \\n";
            if (c != '\\') continue;
            at_++;
            if (at_ == text_.size()) break;
            if (std::string_view("\"\\/bfnrtu").find(text_[at_]) == std::string_view::npos) return "an escape";
            if (text_[at_] != 'u') continue;
            for (int digit = 0; digit < 4; digit++)
                if (++at_ == text_.size() || !isxdigit(static_cast<unsigned char>(text_[at_]))) return "a hex digit";
        }
        return "the end of a string";
    }
    bool word() {
        for (const std::string_view word : {"true", "false", "null"})
            if (starts_with(text_.substr(at_), word)) {
                at_ += word.size();
                return true;
            }
        return false;
    }
    bool number() {
        const size_t length = json_number_length(text_.substr(at_));
        at_ += length;
        return length > 0;
    }
    bool take(char c) {
        const bool is_next = at_ < text_.size() && text_[at_] == c;
        at_ += is_next;
        return is_next;
    }
    void skip_blanks() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

    const std::string_view text_;
    size_t at_ = 0;
    std::string open_; // brackets
};

} // namespace

std::string describe_json_fault(std::string_view text) {
    JsonScan scan(text);
    const char * missing = scan.run();
    size_t at = missing ? scan.at() : text.size();
    const size_t valid = utf8_valid_prefix(text);
    if (valid < at) at = valid, missing = "UTF-8";
    if (!missing) return "";
    const auto line = std::count(text.begin(), text.begin() + ptrdiff_t(at), '\n') + 1;
    return concat("at byte ", at, ", line ", line, ": expected ", missing, ", ",
                  at < text.size() ? concat("found '", printable(std::string(1, text[at])), "'") : "the text ends");
}

} // namespace gnv
