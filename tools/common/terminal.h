// The terminal behind a standard stream: its width and its colours. A stream that is no terminal gets plain text.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

namespace tools {

// In characters; 0: no terminal, or an unknown width.
inline int width_of(FILE * stream) {
    winsize size = {};
    return isatty(fileno(stream)) == 1 && ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

// A terminal, unless NO_COLOR (https://no-color.org) or TERM=dumb refuse.
inline bool shows_colours(FILE * stream) {
    const char *const refusal = getenv("NO_COLOR"), *const kind = getenv("TERM");
    return isatty(fileno(stream)) == 1 && !(refusal && *refusal) && kind && *kind && strcmp(kind, "dumb") != 0;
}

enum class Tone { error, warning, good };

// The sequences before and after a coloured word; "" where there are no colours. They allocate nothing.
inline const char * begin_colour(FILE * stream, Tone tone) {
    if (!shows_colours(stream)) return "";
    return tone == Tone::error ? "\033[1;31m" : tone == Tone::warning ? "\033[1;33m" : "\033[1;32m";
}
inline const char * end_colour(FILE * stream) { return shows_colours(stream) ? "\033[0m" : ""; }

// Breaks a line between words, so that no part is longer than `width` where the words permit it; later parts begin with
// `indent` blanks. Without newlines at the end. width 0: as it is.
inline std::string wrapped(std::string_view line, size_t width, size_t indent) {
    const auto characters = [](std::string_view text) { // of UTF-8
        size_t count = 0;
        for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
        return count;
    };
    if (width == 0 || characters(line) <= width) return std::string(line);
    std::string out;
    size_t used = 0, at = 0;
    bool has_word = false; // in this part
    while (at < line.size()) {
        size_t word = line.find_first_not_of(' ', at);
        if (word == line.npos) break;
        const size_t end = std::min(line.find(' ', word), line.size());
        const size_t blanks = word - at, length = characters(line.substr(word, end - word));
        if (has_word && used + blanks + length > width) {
            out += "\n" + std::string(indent, ' ');
            used = indent;
        } else {
            out += std::string(blanks, ' ');
            used += blanks;
        }
        out += line.substr(word, end - word);
        used += length;
        has_word = true;
        at = end;
    }
    return out;
}

// A text of the library for people as a terminal of this width shows it: long lines are wrapped, verdicts and the words
// "error" and "warning" at the begin of lines are coloured.
inline std::string dressed(std::string_view text, size_t width, bool colours) {
    struct Mark {
        std::string_view word;
        const char * colour;
    };
    static constexpr Mark marks[] = {{"Failed", "\033[1;31m"}, {"error", "\033[1;31m"},   {"FAILED", "\033[1;31m"},
                                     {"Passed", "\033[1;32m"}, {"warning", "\033[1;33m"}, {"suspicious", "\033[1;33m"}};
    constexpr size_t indent = 4;
    std::string out;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        std::string line = wrapped(text.substr(0, end), width, indent);
        for (const Mark & mark : marks) {
            const size_t length = mark.word.size();
            const bool starts = colours && line.compare(0, length, mark.word) == 0 && line.size() > length &&
                                (line[length] == ' ' || line[length] == ':');
            if (starts) line = mark.colour + line.substr(0, length) + "\033[0m" + line.substr(length);
        }
        out += line;
        if (end == text.npos) break;
        out += '\n';
        text.remove_prefix(end + 1);
    }
    return out;
}

} // namespace tools
