#include "core/utf8.h"
#include "tokenizer/split_pattern.h"

#include <algorithm>

namespace gnv {

namespace {

// Classes that the engines fill differently, as items of a [...].
// Oniguruma: \s is White_Space; PCRE2 adds U+180E.
constexpr const char * space_items = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                                     "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
constexpr const char * not_space_items =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
// Oniguruma: letters, marks, decimal and letter numbers, connectors and circled letters.
constexpr const char * word_items =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}"
    "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
// Outside a class its \w also has the superscript digits and fractions of Latin-1.
constexpr const char * latin_numbers = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
constexpr const char * hex_items = "0-9A-Fa-f"; // \h; to PCRE2 a horizontal space

struct Escape {
    char letter;
    const char * inside;    // a class; nullptr where it cannot be said
    const char * outside;   // the items of the class that stands for the escape,
    const char * and_items; // with these,
    bool negated;           // or of all others
};
constexpr Escape escapes[] = {
    {'s', space_items, space_items, "", false},
    {'S', not_space_items, space_items, "", true},
    {'w', word_items, word_items, latin_numbers, false},
    {'W', nullptr, word_items, latin_numbers, true},
    {'h', hex_items, hex_items, "", false},
    {'H', nullptr, hex_items, "", true},
    {'v', "\\x{b}", "\\x{b}", "", false}, // one character; to PCRE2 any vertical space
};
// Escapes that mean the same to both; a letter or digit that is not here is refused. Others stand for themselves.
constexpr std::string_view same_outside = "adDefnrtxAzZ";
constexpr std::string_view same_inside = "abdDefnrtx";

constexpr size_t most_repeats = 1000; // repeated items are passed without being counted

class Translator {
  public:
    explicit Translator(std::string_view pattern) : pattern_(pattern) {}

    Result<std::string> run() {
        while (at_ < pattern_.size()) {
            const char c = pattern_[at_];
            if (c == '\\') {
                GNV_TRY(escape(false));
            } else if (c == '[') {
                GNV_TRY(character_class());
            } else if (c == '(') {
                GNV_TRY(group());
            } else if (c == '{') {
                GNV_TRY(repeat());
            } else {
                copy(1);
            }
        }
        return std::move(out_);
    }

  private:
    bool next_is(std::string_view text) const { return pattern_.substr(at_, text.size()) == text; }
    // An escape that stands for many characters, `ahead` bytes from here.
    bool next_is_set(size_t ahead = 0) const {
        const std::string_view two = pattern_.substr(std::min(at_ + ahead, pattern_.size()), 2);
        return two.size() == 2 && two[0] == '\\' && std::string_view("sSwWhHdDpP").find(two[1]) != two.npos;
    }
    void copy(size_t bytes) {
        out_ += pattern_.substr(at_, bytes);
        at_ += bytes;
    }
    Status refuse(const char * what) const {
        return fail(Code::unsupported, "the pattern \"", printable(pattern_), "\" has ", what, " at byte ", at_,
                    ", which PCRE2 understands in another way or not at all");
    }

    Status escape(bool in_class) {
        if (at_ + 1 == pattern_.size()) return refuse("a backslash with nothing after it");
        const char letter = pattern_[at_ + 1];
        for (const Escape & known : escapes) {
            if (known.letter != letter) continue;
            if (in_class && !known.inside) return refuse("an escape inside [...]");
            out_ += in_class ? known.inside : concat(known.negated ? "[^" : "[", known.outside, known.and_items, "]");
            at_ += 2;
            return {};
        }
        if (letter == 'p' || letter == 'P') return property();
        if (letter == 'u') return code_unit();
        // No tokenizer has one, and its comparisons cannot be counted.
        if (letter >= '1' && letter <= '9' && !in_class) return refuse("a back reference");
        const bool is_word = (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') ||
                             (letter >= 'a' && letter <= 'z') || static_cast<unsigned char>(letter) >= 0x80;
        const std::string_view same = in_class ? same_inside : same_outside;
        if (is_word && same.find(letter) == same.npos) return refuse("an escape");
        copy(2);
        return {};
    }

    // \p{L}: one or two letters name a general category. Longer names are scripts, which PCRE2 would extend by the
    // characters that a script shares with others.
    Status property() {
        const size_t close = pattern_.find('}', at_);
        if (pattern_.substr(at_ + 2, 1) != "{" || close == pattern_.npos) return refuse("a property without {...}");
        std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
        copy(3);
        if (name.substr(0, 1) == "^") {
            copy(1);
            name.remove_prefix(1);
        }
        static constexpr std::string_view not_scripts[] = {"Any", "Alphabetic", "Lowercase", "Uppercase",
                                                           "White_Space"};
        const bool is_script =
            name.size() > 2 && std::find(std::begin(not_scripts), std::end(not_scripts), name) == std::end(not_scripts);
        if (is_script) out_ += "sc:";
        copy(close + 1 - at_);
        return {};
    }

    // \u4e00
    Status code_unit() {
        const std::string_view digits = pattern_.substr(at_ + 2, 4);
        if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos)
            return refuse("\\u without four hexadecimal digits");
        out_ += concat("\\x{", digits, "}");
        at_ += 6;
        return {};
    }

    Status character_class() {
        copy(1);
        if (next_is("^")) copy(1);
        if (next_is("]")) copy(1);
        while (at_ < pattern_.size() && pattern_[at_] != ']') {
            if (next_is("[")) return refuse("a [ inside [...]");
            if (next_is("&&")) return refuse("an intersection of classes");
            const bool is_set = next_is_set();
            if (next_is("\\")) {
                GNV_TRY(escape(true));
            } else {
                copy(1);
            }
            if (next_is("-") && !next_is("-]") && (is_set || next_is_set(1))) return refuse("a range of sets");
        }
        if (at_ == pattern_.size()) return refuse("a [ without ]");
        copy(1);
        return {};
    }

    // (...), (?:...), (?=...), (?i:...) and the like. Other flags, verbs, conditions and calls differ.
    Status group() {
        if (next_is("(*")) return refuse("(*");
        if (!next_is("(?")) {
            copy(1);
            return {};
        }
        for (const std::string_view kind : {":", "=", "!", ">", "<=", "<!", "i:", "-i:", "i)"}) {
            if (pattern_.substr(at_ + 2, kind.size()) != kind) continue;
            if (kind == "i)" && at_ > 0) break; // the engines disagree about the alternatives that follow
            copy(2 + kind.size());
            return {};
        }
        return refuse("a group of an unknown kind");
    }

    // {2}, {2,}, {2,5} and the reluctant {2,5}?. Oniguruma reads {2,5}+ as a repeat of a repeat and {2}? as an option.
    Status repeat() {
        size_t end = at_ + 1;
        size_t most = 0; // of the repeats asked for
        const auto digits = [&] {
            const size_t first = end;
            size_t count = 0;
            for (; end < pattern_.size() && pattern_[end] >= '0' && pattern_[end] <= '9'; end++)
                count = std::min(count * 10 + size_t(pattern_[end] - '0'), most_repeats + 1);
            most = std::max(most, count);
            return end > first;
        };
        bool range = false;
        if (!digits()) return refuse("a { that does not begin a repeat");
        if (pattern_.substr(end, 1) == ",") {
            range = true;
            end++;
            (void)digits();
        }
        if (pattern_.substr(end, 1) != "}") return refuse("a { that does not begin a repeat");
        if (most > most_repeats) return refuse("a repeat of more than 1,000 times");
        const std::string_view after = pattern_.substr(end + 1, 1);
        if (after == "+" || (after == "?" && !range)) return refuse("a repeat of a repeat");
        copy(end + 1 - at_);
        return {};
    }

    std::string_view pattern_;
    std::string out_;
    size_t at_ = 0;
};

} // namespace

Result<std::string> translate_pattern(std::string_view pattern) { return Translator(pattern).run(); }

} // namespace gnv
