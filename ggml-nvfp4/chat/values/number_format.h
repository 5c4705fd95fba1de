// Numbers in the forms that "%5.2f" and "{:>+8,d}" ask for.
#pragma once

#include "chat/values/value.h"

namespace gnv::chat {

struct NumberFormat {
    std::string fill = " "; // one character
    char align = '\0';      // '<' '>' '^' '=': '\0': the type's own
    char sign = '-';        // '+': always, ' ': a blank where there is none
    bool alternate = false; // '#'
    char grouping = '\0';   // ',' or '_' between groups of three digits
    int64_t width = 0;
    int64_t precision = -1; // -1: not given
    char type = '\0';
};

// Pads a text, of a number with its sign first.
Result<std::string> padded(Workspace & work, std::string_view text, const NumberFormat & format, char own_align);
// d, o, x, X, b
Result<std::string> whole_text(Workspace & work, int64_t number, const NumberFormat & format);
// e, E, f, F, g, G, %, or '\0' with a precision
Result<std::string> real_text_of(Workspace & work, double number, const NumberFormat & format);

inline constexpr int64_t widest_format = 1'000'000; // of widths and precisions that formats name

} // namespace gnv::chat
