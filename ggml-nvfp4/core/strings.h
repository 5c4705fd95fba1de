// Text helpers: messages, numbers for people, text that is safe to print.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gnv {

inline void append_part(std::string & out, std::string_view part) { out += part; }
inline void append_part(std::string & out, char part) { out += part; }
void append_part(std::string & out, double part); // shortest text that reads back to the same value
template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
void append_part(std::string & out, Integer part) {
    out += std::to_string(part);
}

// concat("layer ", 3, " of ", n) -> "layer 3 of 40"
template <class... Parts>
std::string concat(const Parts &... parts) {
    std::string out;
    (append_part(out, parts), ...);
    return out;
}

// "[256, 1024, 2048]"
std::string shape_text(const std::vector<int64_t> & shape);
// A number with `digits` significant ones; "nan", "inf", "-inf".
std::string number_text(double value, int digits = 6);
// A number with `decimals` digits after the point.
std::string fixed_text(double value, int decimals);
// "1.50 GB", "268 MB", "17 B": decimal units, three digits
std::string bytes_text(uint64_t bytes);
// "1,045": digits in groups of three
std::string count_text(uint64_t count);
// A name from a file made safe for a terminal and bounded in length: control and non-ASCII bytes become \xNN.
std::string printable(std::string_view text, size_t max_length = 200);
// A line of a message made safe for a terminal: control characters (line breaks included), invalid UTF-8 and
// characters that only control the layout of text become \xNN. Letters of every script stay, so paths stay readable.
std::string printable_line(std::string_view text);
// The same for text of several lines, which are kept.
std::string printable_text(std::string_view text);

// Without the spaces, tabs and ends of lines at both ends.
std::string_view trimmed(std::string_view text);

bool starts_with(std::string_view text, std::string_view prefix);
bool ends_with(std::string_view text, std::string_view suffix);

} // namespace gnv
