// Numbers for people, in the forms of the library's texts (report/figure_text.h). Short ones allocate nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace tools {

// "3,986"
inline std::string count_text(uint64_t count) {
    std::string digits = std::to_string(count);
    for (int at = int(digits.size()) - 3; at > 0; at -= 3) digits.insert(size_t(at), ",");
    return digits;
}

// "42 s", "3 min 20 s", "2 h 05 min": without parts of a second, for lines that are rewritten.
inline std::string duration_text(double seconds) {
    char text[32];
    const auto whole = seconds > 0 && seconds < 1e9 ? uint64_t(std::llround(seconds)) : 0;
    const auto hours = static_cast<unsigned>(whole / 3600), minutes = static_cast<unsigned>(whole / 60 % 60),
               rest = static_cast<unsigned>(whole % 60);
    if (whole < 60) {
        snprintf(text, sizeof text, "%u s", rest);
    } else if (whole < 3600) {
        snprintf(text, sizeof text, "%u min %02u s", minutes, rest);
    } else {
        snprintf(text, sizeof text, "%u h %02u min", hours, minutes);
    }
    return text;
}

// "1.50 GB", "268 MB", "17 B"
inline std::string bytes_text(uint64_t bytes) {
    static const char * const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    double value = double(bytes);
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) value /= 1000, unit++;
    char text[32];
    snprintf(text, sizeof text, "%.*f %s", unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2, value, units[unit]);
    return text;
}

} // namespace tools
