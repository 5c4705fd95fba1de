#include "tokenizer/unicode.h"

#include "core/status.h"
#include "core/utf8.h"

#include <algorithm>
#include <span>
#include <utf8proc.h>
#include <vector>

namespace gnv {

namespace {

struct Range {
    char32_t first, last;
};
bool contains(std::span<const Range> ranges, char32_t c) {
    const auto at =
        std::partition_point(ranges.begin(), ranges.end(), [&](const Range & range) { return range.last < c; });
    return at != ranges.end() && at->first <= c;
}

// Characters that NFC never changes and that never combine or swap with characters before them. The list is incomplete,
// but most text needs no normalization with it.
constexpr Range inert_ranges[] = {{0, 0x2ff}, {0x400, 0x482}, {0x3400, 0x9fff}, {0xac00, 0xd7a3}};

// The widest ranges around the combining marks and compositions that Unicode 10 to 18 have added, in which Unicode 9
// has neither.
constexpr Range younger_ranges[] = {{0x5c8, 0x60f},     {0x7f4, 0x815},     {0x85c, 0x8d3},     {0x9e0, 0xa32},
                                    {0xbd8, 0xc45},     {0xcd7, 0xd3d},     {0xeba, 0xec7},     {0x1715, 0x1733},
                                    {0x1abe, 0x1b04},   {0x1df6, 0x1dfa},   {0xa807, 0xa8c3},   {0x1037b, 0x10a0c},
                                    {0x10ae7, 0x11045}, {0x11047, 0x1107e}, {0x112eb, 0x1133b}, {0x11375, 0x11441},
                                    {0x11447, 0x114af}, {0x1172c, 0x11c3e}, {0x11c40, 0x16aef}, {0x16b37, 0x1bc9d},
                                    {0x1bc9f, 0x1d15d}, {0x1d245, 0x1dfff}, {0x1e02b, 0x1e8cf}};

bool is_inert(char32_t c) { return contains(inert_ranges, c) || contains(younger_ranges, c); }

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Appends NFC of `text`. utf8proc's own sorting of combining marks is quadratic, so they are sorted first.
void append_nfc(std::string_view text, std::string & out) {
    constexpr auto options = utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    std::vector<utf8proc_int32_t> code_points;
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        utf8proc_int32_t parts[16];
        int boundary_class = 0;
        const auto c = utf8proc_int32_t(utf8_decode(text, at, bytes));
        const utf8proc_ssize_t count = utf8proc_decompose_char(c, parts, 16, options, &boundary_class);
        GNV_CHECK(count >= 0 && count <= 16);
        code_points.insert(code_points.end(), parts, parts + count);
    }
    const auto by_class = [](auto a, auto b) { return combining_class(a) < combining_class(b); };
    for (auto begin = code_points.begin(); begin != code_points.end();) {
        const auto end = std::find_if(begin, code_points.end(), [](auto c) { return combining_class(c) == 0; });
        std::stable_sort(begin, end, by_class);
        begin = end == code_points.end() ? end : end + 1;
    }
    const auto size = utf8proc_ssize_t(code_points.size());
    const utf8proc_ssize_t composed = utf8proc_normalize_utf32(code_points.data(), size, options);
    GNV_CHECK(composed >= 0 && composed <= size);
    for (utf8proc_ssize_t i = 0; i < composed; i++) utf8_append(out, char32_t(code_points[size_t(i)]));
}

// The first place at or after `at` whose character is inert (or is not, for `inert` = false).
size_t find_character(std::string_view text, size_t at, bool inert) {
    while (at < text.size()) {
        if (static_cast<unsigned char>(text[at]) < 0xcc) { // below U+0300
            if (inert) return at;
            at++;
            continue;
        }
        size_t bytes;
        if (is_inert(utf8_decode(text, at, bytes)) == inert) return at;
        at += bytes;
    }
    return at;
}

} // namespace

std::string_view nfc(std::string_view text, std::string & buffer) {
    size_t at = find_character(text, 0, false);
    if (at == text.size()) return text;
    buffer.clear();
    size_t copied = 0;
    while (at < text.size()) {
        // From the previous character, with which a mark may combine, to the next inert one.
        size_t begin = at, bytes;
        while (begin > copied && is_continuation(text[--begin])) continue;
        if (begin < at && contains(younger_ranges, utf8_decode(text, begin, bytes))) begin = at;
        const size_t end = find_character(text, at, true);
        buffer.append(text.substr(copied, begin - copied));
        append_nfc(text.substr(begin, end - begin), buffer);
        copied = end;
        at = find_character(text, end, false);
    }
    buffer.append(text.substr(copied));
    return buffer;
}

bool is_white_space(char32_t c) {
    return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_word_character(char32_t c) {
    switch (utf8proc_category(utf8proc_int32_t(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
    }
    // joiners, and circled and squared letters, which count as alphabetic
    return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
           (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

} // namespace gnv
