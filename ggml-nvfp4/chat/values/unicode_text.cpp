#include "chat/values/unicode_text.h"

#include "core/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

namespace gnv::chat {

size_t count_code_points(std::string_view text) {
    return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

size_t bytes_of_code_point(std::string_view text, size_t at) {
    const uint8_t lead = uint8_t(text[at]);
    const size_t bytes = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return std::min(bytes, text.size() - at);
}

size_t offset_of_code_point(std::string_view text, size_t count) {
    size_t at = 0;
    for (; count && at < text.size(); count--) at += bytes_of_code_point(text, at);
    return at;
}

bool is_space(char32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_printable(char32_t c) {
    if (c == ' ') return true;
    switch (utf8proc_category(utf8proc_int32_t(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

std::string_view strip(std::string_view text, bool left, bool right, const std::string_view * chars) {
    const auto goes = [&](std::string_view piece) {
        size_t bytes = 0;
        return chars ? chars->find(piece) != std::string_view::npos : is_space(utf8_decode(piece, 0, bytes));
    };
    while (left && !text.empty()) {
        const size_t bytes = bytes_of_code_point(text, 0);
        if (!goes(text.substr(0, bytes))) break;
        text.remove_prefix(bytes);
    }
    while (right && !text.empty()) {
        size_t at = text.size() - 1;
        while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80) at--;
        if (!goes(text.substr(at))) break;
        text.remove_suffix(text.size() - at);
    }
    return text;
}

// --- Case -----------------------------------------------------------------------------------------------------------------

namespace {

// Characters whose capital form is more than one character (Unicode's SpecialCasing), as upper and as title case.
struct Expansion {
    char32_t from;
    const char32_t * upper;
    const char32_t * title; // "": one character, as utf8proc has it
};
// clang-format off
constexpr Expansion expansions[] = {
    {0x00DF, U"SS", U"Ss"}, {0x0149, U"\u02BCN", U"\u02BCN"}, {0x01F0, U"J\u030C", U"J\u030C"},
    {0x0390, U"\u0399\u0308\u0301", U"\u0399\u0308\u0301"}, {0x03B0, U"\u03A5\u0308\u0301", U"\u03A5\u0308\u0301"},
    {0x0587, U"\u0535\u0552", U"\u0535\u0582"}, {0x1E96, U"H\u0331", U"H\u0331"}, {0x1E97, U"T\u0308", U"T\u0308"},
    {0x1E98, U"W\u030A", U"W\u030A"}, {0x1E99, U"Y\u030A", U"Y\u030A"}, {0x1E9A, U"A\u02BE", U"A\u02BE"},
    {0x1F50, U"\u03A5\u0313", U"\u03A5\u0313"}, {0x1F52, U"\u03A5\u0313\u0300", U"\u03A5\u0313\u0300"},
    {0x1F54, U"\u03A5\u0313\u0301", U"\u03A5\u0313\u0301"}, {0x1F56, U"\u03A5\u0313\u0342", U"\u03A5\u0313\u0342"},
    {0x1F80, U"\u1F08\u0399", U""}, {0x1F81, U"\u1F09\u0399", U""}, {0x1F82, U"\u1F0A\u0399", U""},
    {0x1F83, U"\u1F0B\u0399", U""}, {0x1F84, U"\u1F0C\u0399", U""}, {0x1F85, U"\u1F0D\u0399", U""},
    {0x1F86, U"\u1F0E\u0399", U""}, {0x1F87, U"\u1F0F\u0399", U""}, {0x1F88, U"\u1F08\u0399", U""},
    {0x1F89, U"\u1F09\u0399", U""}, {0x1F8A, U"\u1F0A\u0399", U""}, {0x1F8B, U"\u1F0B\u0399", U""},
    {0x1F8C, U"\u1F0C\u0399", U""}, {0x1F8D, U"\u1F0D\u0399", U""}, {0x1F8E, U"\u1F0E\u0399", U""},
    {0x1F8F, U"\u1F0F\u0399", U""}, {0x1F90, U"\u1F28\u0399", U""}, {0x1F91, U"\u1F29\u0399", U""},
    {0x1F92, U"\u1F2A\u0399", U""}, {0x1F93, U"\u1F2B\u0399", U""}, {0x1F94, U"\u1F2C\u0399", U""},
    {0x1F95, U"\u1F2D\u0399", U""}, {0x1F96, U"\u1F2E\u0399", U""}, {0x1F97, U"\u1F2F\u0399", U""},
    {0x1F98, U"\u1F28\u0399", U""}, {0x1F99, U"\u1F29\u0399", U""}, {0x1F9A, U"\u1F2A\u0399", U""},
    {0x1F9B, U"\u1F2B\u0399", U""}, {0x1F9C, U"\u1F2C\u0399", U""}, {0x1F9D, U"\u1F2D\u0399", U""},
    {0x1F9E, U"\u1F2E\u0399", U""}, {0x1F9F, U"\u1F2F\u0399", U""}, {0x1FA0, U"\u1F68\u0399", U""},
    {0x1FA1, U"\u1F69\u0399", U""}, {0x1FA2, U"\u1F6A\u0399", U""}, {0x1FA3, U"\u1F6B\u0399", U""},
    {0x1FA4, U"\u1F6C\u0399", U""}, {0x1FA5, U"\u1F6D\u0399", U""}, {0x1FA6, U"\u1F6E\u0399", U""},
    {0x1FA7, U"\u1F6F\u0399", U""}, {0x1FA8, U"\u1F68\u0399", U""}, {0x1FA9, U"\u1F69\u0399", U""},
    {0x1FAA, U"\u1F6A\u0399", U""}, {0x1FAB, U"\u1F6B\u0399", U""}, {0x1FAC, U"\u1F6C\u0399", U""},
    {0x1FAD, U"\u1F6D\u0399", U""}, {0x1FAE, U"\u1F6E\u0399", U""}, {0x1FAF, U"\u1F6F\u0399", U""},
    {0x1FB2, U"\u1FBA\u0399", U"\u1FBA\u0345"}, {0x1FB3, U"\u0391\u0399", U""},
    {0x1FB4, U"\u0386\u0399", U"\u0386\u0345"}, {0x1FB6, U"\u0391\u0342", U"\u0391\u0342"},
    {0x1FB7, U"\u0391\u0342\u0399", U"\u0391\u0342\u0345"}, {0x1FBC, U"\u0391\u0399", U""},
    {0x1FC2, U"\u1FCA\u0399", U"\u1FCA\u0345"}, {0x1FC3, U"\u0397\u0399", U""},
    {0x1FC4, U"\u0389\u0399", U"\u0389\u0345"}, {0x1FC6, U"\u0397\u0342", U"\u0397\u0342"},
    {0x1FC7, U"\u0397\u0342\u0399", U"\u0397\u0342\u0345"}, {0x1FCC, U"\u0397\u0399", U""},
    {0x1FD2, U"\u0399\u0308\u0300", U"\u0399\u0308\u0300"}, {0x1FD3, U"\u0399\u0308\u0301", U"\u0399\u0308\u0301"},
    {0x1FD6, U"\u0399\u0342", U"\u0399\u0342"}, {0x1FD7, U"\u0399\u0308\u0342", U"\u0399\u0308\u0342"},
    {0x1FE2, U"\u03A5\u0308\u0300", U"\u03A5\u0308\u0300"}, {0x1FE3, U"\u03A5\u0308\u0301", U"\u03A5\u0308\u0301"},
    {0x1FE4, U"\u03A1\u0313", U"\u03A1\u0313"}, {0x1FE6, U"\u03A5\u0342", U"\u03A5\u0342"},
    {0x1FE7, U"\u03A5\u0308\u0342", U"\u03A5\u0308\u0342"}, {0x1FF2, U"\u1FFA\u0399", U"\u1FFA\u0345"},
    {0x1FF3, U"\u03A9\u0399", U""}, {0x1FF4, U"\u038F\u0399", U"\u038F\u0345"},
    {0x1FF6, U"\u03A9\u0342", U"\u03A9\u0342"}, {0x1FF7, U"\u03A9\u0342\u0399", U"\u03A9\u0342\u0345"},
    {0x1FFC, U"\u03A9\u0399", U""}, {0xFB00, U"FF", U"Ff"}, {0xFB01, U"FI", U"Fi"}, {0xFB02, U"FL", U"Fl"},
    {0xFB03, U"FFI", U"Ffi"}, {0xFB04, U"FFL", U"Ffl"}, {0xFB05, U"ST", U"St"}, {0xFB06, U"ST", U"St"},
    {0xFB13, U"\u0544\u0546", U"\u0544\u0576"}, {0xFB14, U"\u0544\u0535", U"\u0544\u0565"},
    {0xFB15, U"\u0544\u053B", U"\u0544\u056B"}, {0xFB16, U"\u054E\u0546", U"\u054E\u0576"},
    {0xFB17, U"\u0544\u053D", U"\u0544\u056D"},
};
// clang-format on

const Expansion * find_expansion(char32_t c) {
    const Expansion * const found =
        std::lower_bound(std::begin(expansions), std::end(expansions), c,
                         [](const Expansion & row, char32_t wanted) { return row.from < wanted; });
    return found != std::end(expansions) && found->from == c ? found : nullptr;
}

void append_all(std::string & out, const char32_t * text) {
    for (; *text; text++) utf8_append(out, *text);
}

void append_upper(std::string & out, char32_t c) {
    if (const Expansion * const row = find_expansion(c)) return append_all(out, row->upper);
    utf8_append(out, char32_t(utf8proc_toupper(utf8proc_int32_t(c))));
}

void append_title(std::string & out, char32_t c) {
    const Expansion * const row = find_expansion(c);
    if (row && *row->title) return append_all(out, row->title);
    utf8_append(out, char32_t(utf8proc_totitle(utf8proc_int32_t(c))));
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(utf8proc_int32_t(c)); }

bool is_cased(char32_t c) {
    const utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL || kind == UTF8PROC_CATEGORY_LT;
}

// Characters that stand between a sigma and the letters that decide whether it ends its word.
bool is_case_ignorable(char32_t c) {
    const utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
           kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' ||
           c == 0xb7 || c == 0x2019;
}

// Whether the capital sigma at text[at] is the last letter of a word of several.
bool is_final_sigma(std::string_view text, size_t at) {
    size_t bytes = 0, before = at;
    bool letter_before = false;
    while (before > 0 && !letter_before) {
        do before--;
        while (before > 0 && (uint8_t(text[before]) & 0xc0) == 0x80);
        const char32_t c = utf8_decode(text, before, bytes);
        letter_before = is_cased(c);
        if (!letter_before && !is_case_ignorable(c)) break;
    }
    if (!letter_before) return false;
    for (size_t after = at + 2; after < text.size(); after += bytes) {
        const char32_t c = utf8_decode(text, after, bytes);
        if (is_cased(c)) return false;
        if (!is_case_ignorable(c)) break;
    }
    return true;
}

void append_lower(std::string & out, std::string_view text, size_t at, char32_t c) {
    if (c == 0x130) return append_all(out, U"i\u0307");
    if (c == 0x3a3) return utf8_append(out, is_final_sigma(text, at) ? 0x3c2 : 0x3c3);
    utf8_append(out, char32_t(utf8proc_tolower(utf8proc_int32_t(c))));
}

template <class Visit>
void for_each_code_point(std::string_view text, const Visit & visit) {
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        const char32_t c = utf8_decode(text, at, bytes);
        visit(at, c);
    }
}

} // namespace

std::string to_lower(std::string_view text) {
    std::string out;
    for_each_code_point(text, [&](size_t at, char32_t c) { append_lower(out, text, at, c); });
    return out;
}

std::string to_upper(std::string_view text) {
    std::string out;
    for_each_code_point(text, [&](size_t, char32_t c) { append_upper(out, c); });
    return out;
}

std::string swap_case(std::string_view text) {
    std::string out;
    for_each_code_point(text, [&](size_t at, char32_t c) {
        if (category(c) == UTF8PROC_CATEGORY_LU) {
            append_lower(out, text, at, c);
        } else if (category(c) == UTF8PROC_CATEGORY_LL) {
            append_upper(out, c);
        } else {
            utf8_append(out, c);
        }
    });
    return out;
}

std::string capitalized(std::string_view text) {
    std::string out;
    for_each_code_point(text, [&](size_t at, char32_t c) {
        if (at == 0) {
            append_title(out, c);
        } else {
            append_lower(out, text, at, c);
        }
    });
    return out;
}

std::string to_title(std::string_view text) {
    std::string out;
    bool in_word = false;
    for_each_code_point(text, [&](size_t at, char32_t c) {
        if (in_word) {
            append_lower(out, text, at, c);
        } else {
            append_title(out, c);
        }
        in_word = is_cased(c);
    });
    return out;
}

// --- Classes --------------------------------------------------------------------------------------------------------------

static bool is_alpha(char32_t c) {
    const utf8proc_category_t kind = category(c);
    return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

static bool is_digit(char32_t c) { // decimal digits, and those in circles or above the line
    return category(c) == UTF8PROC_CATEGORY_ND || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}

static bool is_numeric(char32_t c) {
    const utf8proc_category_t kind = category(c);
    if (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO) return true;
    static constexpr std::u32string_view words = U"〇一二三四五六七八九十百千万億兆";
    return words.find(c) != std::u32string_view::npos;
}

bool all_of_class(std::string_view text, CharacterClass wanted) {
    bool all = true;
    for_each_code_point(text, [&](size_t, char32_t c) {
        switch (wanted) {
        case CharacterClass::alpha: all = all && is_alpha(c); break;
        case CharacterClass::alnum: all = all && (is_alpha(c) || is_digit(c) || is_numeric(c)); break;
        case CharacterClass::digit: all = all && is_digit(c); break;
        case CharacterClass::decimal: all = all && category(c) == UTF8PROC_CATEGORY_ND; break;
        case CharacterClass::numeric: all = all && is_numeric(c); break;
        case CharacterClass::space: all = all && is_space(c); break;
        case CharacterClass::ascii: all = all && c < 0x80; break;
        case CharacterClass::printable: all = all && is_printable(c); break;
        }
    });
    const bool empty_counts = wanted == CharacterClass::ascii || wanted == CharacterClass::printable;
    return all && (!text.empty() || empty_counts);
}

static bool is_of_one_case(std::string_view text, utf8proc_category_t wanted) {
    bool all = true, any = false;
    for_each_code_point(text, [&](size_t, char32_t c) {
        any = any || category(c) == wanted;
        all = all && (!is_cased(c) || category(c) == wanted);
    });
    return all && any;
}

bool is_lower_text(std::string_view text) { return is_of_one_case(text, UTF8PROC_CATEGORY_LL); }
bool is_upper_text(std::string_view text) { return is_of_one_case(text, UTF8PROC_CATEGORY_LU); }

bool is_title_text(std::string_view text) {
    bool all = true, any = false, in_word = false;
    for_each_code_point(text, [&](size_t, char32_t c) {
        if (is_cased(c)) all = all && (category(c) == UTF8PROC_CATEGORY_LL) == in_word;
        in_word = is_cased(c);
        any = any || in_word;
    });
    return all && any;
}

bool is_identifier(std::string_view text) {
    bool all = !text.empty();
    for_each_code_point(text, [&](size_t at, char32_t c) {
        const utf8proc_category_t kind = category(c);
        const bool later = kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_MN ||
                           kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_PC;
        all = all && (is_alpha(c) || c == '_' || kind == UTF8PROC_CATEGORY_NL || (at > 0 && later));
    });
    return all;
}

size_t line_end_at(std::string_view text, size_t at) {
    const char c = text[at];
    if (c == '\r') return text.substr(at, 2) == "\r\n" ? 2 : 1;
    if ((c >= '\n' && c <= '\f') || (c >= 0x1c && c <= 0x1e)) return 1;
    if (text.substr(at, 2) == "\xc2\x85") return 2;
    const std::string_view three = text.substr(at, 3);
    return three == "\xe2\x80\xa8" || three == "\xe2\x80\xa9" ? 3 : 0;
}

} // namespace gnv::chat
