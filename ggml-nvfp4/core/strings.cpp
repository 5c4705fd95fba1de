#include "core/strings.h"

#include "core/utf8.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace gnv {

void append_part(std::string & out, double part) {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, part).ptr;
    out.append(digits, end);
}

std::string shape_text(const std::vector<int64_t> & shape) {
    std::string out = "[";
    for (size_t i = 0; i < shape.size(); i++) {
        if (i) out += ", ";
        out += std::to_string(shape[i]);
    }
    return out + "]";
}

static std::string printed(const char * format, int precision, double value) {
    char text[400]; // the largest double has 309 digits before the point
    snprintf(text, sizeof text, format, precision, value);
    return text;
}

std::string number_text(double value, int digits) { return printed("%.*g", digits, value); }
std::string fixed_text(double value, int decimals) { return printed("%.*f", decimals, value); }

std::string bytes_text(uint64_t bytes) {
    static const char * const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    double value = double(bytes);
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) value /= 1000, unit++;
    return concat(fixed_text(value, unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2), " ", units[unit]);
}

std::string count_text(uint64_t count) {
    std::string digits = std::to_string(count);
    for (int at = int(digits.size()) - 3; at > 0; at -= 3) digits.insert(size_t(at), ",");
    return digits;
}

static void append_escaped(std::string & out, std::string_view bytes) {
    for (const char c : bytes) {
        char escaped[8];
        snprintf(escaped, sizeof escaped, "\\x%02x", unsigned(static_cast<unsigned char>(c)));
        out += escaped;
    }
}

std::string printable(std::string_view text, size_t max_length) {
    std::string out;
    for (const char & c : text) {
        if (out.size() >= max_length) return out + "...";
        if (c >= 0x20 && c < 0x7f) {
            out += c;
        } else {
            append_escaped(out, {&c, 1});
        }
    }
    return out;
}

// Control characters of terminals, and characters that move or hide other characters.
static bool is_steering(char32_t c) {
    struct Range {
        char32_t first, last;
    };
    static constexpr Range ranges[] = {
        {0, 0x1f},                            // C0
        {0x7f, 0x9f},                         // DEL, C1
        {0x061c, 0x061c},   {0x200b, 0x200f}, // marks of direction, joiners
        {0x2028, 0x202e},   {0x2060, 0x206f}, // line separators, embeddings, isolates
        {0xfeff, 0xfeff},   {0xfff9, 0xfffb}, // byte order mark, annotations
        {0xe0000, 0xe007f},                   // tags
    };
    return std::any_of(std::begin(ranges), std::end(ranges),
                       [c](const Range & range) { return c >= range.first && c <= range.last; });
}

std::string printable_line(std::string_view text) {
    if (std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; })) return std::string(text);
    std::string out;
    while (!text.empty()) {
        const size_t valid = utf8_valid_prefix(text);
        for (size_t at = 0, bytes = 0; at < valid; at += bytes) {
            const bool steers = is_steering(utf8_decode(text, at, bytes));
            const std::string_view character = text.substr(at, bytes);
            if (steers) {
                append_escaped(out, character);
            } else {
                out += character;
            }
        }
        text.remove_prefix(valid);
        if (text.empty()) break;
        append_escaped(out, text.substr(0, 1));
        text.remove_prefix(1);
    }
    return out;
}

std::string printable_text(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        out += printable_line(text.substr(at, end - at));
        if (end < text.size()) out += '\n';
        at = end + 1;
    }
    return out;
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    const size_t begin = text.find_first_not_of(blanks);
    return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

bool ends_with(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

} // namespace gnv
