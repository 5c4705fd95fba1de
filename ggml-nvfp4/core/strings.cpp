#include "core/strings.h"

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

std::string bytes_text(uint64_t bytes) {
    static const char * const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    double value = double(bytes);
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) value /= 1000, unit++;
    char text[32];
    const int decimals = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    snprintf(text, sizeof text, "%.*f %s", decimals, value, units[unit]);
    return text;
}

std::string count_text(uint64_t count) {
    std::string digits = std::to_string(count);
    for (int at = int(digits.size()) - 3; at > 0; at -= 3) digits.insert(size_t(at), ",");
    return digits;
}

std::string printable(std::string_view text, size_t max_length) {
    std::string out;
    for (const char c : text) {
        if (out.size() >= max_length) return out + "...";
        if (c >= 0x20 && c < 0x7f) {
            out += c;
        } else {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\x%02x", unsigned(static_cast<unsigned char>(c)));
            out += escaped;
        }
    }
    return out;
}

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

bool ends_with(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

} // namespace gnv
