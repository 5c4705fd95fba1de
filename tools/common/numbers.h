// Numbers on the command line: read with their sign and limits; a refusal quotes the text.
#pragma once

#include <CLI/CLI.hpp>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace tools {

inline constexpr uint64_t most_threads = 4096, most_positions = uint64_t(1) << 31; // of the library
inline constexpr uint64_t most_bytes = UINT64_MAX, any_count = UINT64_MAX;

// Decimal digits, or hexadecimal ones after 0x. False for other text and beyond 64 bits.
inline bool parse_count(const std::string & text, uint64_t & out) {
    const bool hexadecimal = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const uint64_t base = hexadecimal ? 16 : 10;
    size_t at = hexadecimal ? 2 : !text.empty() && text[0] == '+' ? 1 : 0;
    if (at == text.size()) return false;
    for (out = 0; at < text.size(); at++) {
        const auto c = static_cast<unsigned char>(text[at]);
        if (!(hexadecimal ? isxdigit(c) : isdigit(c))) return false;
        const uint64_t digit = isdigit(c) ? c - '0' : uint64_t(tolower(c) - 'a') + 10;
        if (__builtin_mul_overflow(out, base, &out) || __builtin_add_overflow(out, digit, &out)) return false;
    }
    return true;
}

[[noreturn]] inline void refuse_number(const std::string & option, const std::string & text, const std::string & why) {
    throw CLI::ValidationError(option + " " + text + ": " + why);
}

// An option with a whole number. T: an integer that holds `most`, or std::optional of one.
template <class T>
CLI::Option * add_count(CLI::App & app, const std::string & name, T & value, uint64_t least, uint64_t most,
                        const std::string & help) {
    const auto take = [=, &value](const CLI::results_t & texts) {
        uint64_t number = 0;
        if (!parse_count(texts.back(), number) || number < least || number > most)
            refuse_number(name, texts.back(),
                          "expected a whole number from " + std::to_string(least) + " to " + std::to_string(most));
        value = static_cast<T>(number);
        return true;
    };
    return app.add_option(name, CLI::callback_t(take), help)->type_name("N");
}

// The same for help that shows the default.
template <class T>
CLI::Option * add_count_with_default(CLI::App & app, const std::string & name, T & value, uint64_t least, uint64_t most,
                                     const std::string & help) {
    return add_count(app, name, value, least, most, help)->default_str(std::to_string(value));
}

enum class Least { included, excluded };
inline constexpr double largest_named = 1e30; // limits above it are those of the type: messages leave them out

// An option with a number. T: a floating-point number, or std::optional of one.
template <class T>
CLI::Option * add_real(CLI::App & app, const std::string & name, T & value, double least, Least bound, double most,
                       const std::string & help) {
    const auto short_text = [](double number) {
        char text[32];
        snprintf(text, sizeof text, "%g", number);
        return std::string(text);
    };
    const std::string range = (bound == Least::excluded ? "above " : "not below ") + short_text(least) +
                              (most < largest_named ? " and at most " + short_text(most) : "");
    const auto take = [=, &value](const CLI::results_t & texts) {
        const std::string & text = texts.back();
        char * end = nullptr;
        const double number = strtod(text.c_str(), &end);
        const bool is_number = !text.empty() && !isspace(static_cast<unsigned char>(text[0])) && *end == '\0';
        if (!is_number || !std::isfinite(number) || number < least || number > most ||
            (bound == Least::excluded && number == least))
            refuse_number(name, text, "expected a number " + range);
        value = static_cast<T>(number);
        return true;
    };
    return app.add_option(name, CLI::callback_t(take), help)->type_name("X");
}

// "5GB", "256MiB", "1000000".
inline bool parse_bytes(const std::string & text, uint64_t & out) {
    size_t digits = 0;
    while (digits < text.size() && isdigit(static_cast<unsigned char>(text[digits]))) digits++;
    size_t at = digits;
    while (at < text.size() && text[at] == ' ') at++;
    std::string unit;
    for (; at < text.size(); at++) unit += char(tolower(static_cast<unsigned char>(text[at])));
    if (digits == 0 || !parse_count(text.substr(0, digits), out)) return false;
    if (unit.empty() || unit == "b") return true;
    const size_t power = std::string("kmgtpe").find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string::npos || (rest != "" && rest != "b" && rest != "i" && rest != "ib")) return false;
    for (size_t i = 0; i <= power; i++)
        if (__builtin_mul_overflow(out, uint64_t(rest[0] == 'i' ? 1024 : 1000), &out)) return false;
    return true;
}

// An option with a number of bytes, at least one.
inline CLI::Option * add_bytes(CLI::App & app, const std::string & name, uint64_t & bytes, const std::string & help) {
    const auto take = [=, &bytes](const CLI::results_t & texts) {
        uint64_t number = 0;
        if (!parse_bytes(texts.back(), number) || number == 0)
            refuse_number(name, texts.back(), "expected a number of bytes, for example 16GB or 16GiB, below 2^64");
        bytes = number;
        return true;
    };
    return app.add_option(name, CLI::callback_t(take), help)->type_name("BYTES");
}

} // namespace tools
