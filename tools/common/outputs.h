// Files that a program writes: they are made, or checked to be possible, before the work starts.
#pragma once

#include "process.h"

#include <cstdlib>
#include <ggml-nvfp4.h>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace tools {

// Whether a new file can be made at `path`; leaves none. False with errno.
inline bool can_create(const std::string & path) {
    struct stat info;
    if (lstat(path.c_str(), &info) == 0) errno = EEXIST;
    if (errno != ENOENT) return false;
#ifdef O_TMPFILE
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const int unnamed = open(folder.c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666); // not on all file systems
    if (unnamed >= 0) return close(unnamed) == 0;
#endif
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    close(fd);
    return unlink(path.c_str()) == 0;
}

// A pipe, a device or a link such as /dev/stdout: nothing belongs beside it.
inline bool is_special(const std::string & path) {
    struct stat info;
    return lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
}

// Why a new file cannot be made, which errno tells. False.
inline bool say_cannot_make(const std::string & path) {
    if (errno != EEXIST) {
        say_cannot_write(path);
    } else {
        say_error("%s exists; remove it or choose another name\n", path.c_str());
    }
    return false;
}

// For a new file that the library makes later; "": none. False after printing the reason.
inline bool check_new_file(const std::string & path) {
    return path.empty() || can_create(path) || say_cannot_make(path);
}

// Opens the stream of --events; "": none. False after printing the reason.
inline bool open_events(const std::string & path) {
    return path.empty() || events.open(path.c_str()) || say_cannot_make(path);
}

// The same for --report, whose name tells the form.
inline bool check_report_file(const std::string & path) {
    const auto ends = [&](const std::string & end) {
        return path.size() > end.size() && path.compare(path.size() - end.size(), end.size(), end) == 0;
    };
    if (path.empty() || ends(".html") || ends(".htm") || ends(".json")) return check_new_file(path);
    say_error("--report %s: the name must end in .html (a page) or .json (the same facts)\n", path.c_str());
    return false;
}

// False after naming two outputs with one file.
inline bool check_distinct(std::initializer_list<std::pair<const char *, std::string>> outputs) {
    for (auto a = outputs.begin(); a != outputs.end(); a++)
        for (auto b = a + 1; b != outputs.end(); b++)
            if (!a->second.empty() && a->second == b->second) {
                const bool is_stdout = a->second == "-";
                say_error("%s and %s name the same file, %s\n", a->first, b->first,
                          is_stdout ? "standard output" : a->second.c_str());
                return false;
            }
    return true;
}

// Whether files can be made in `folder`; "": none. False after printing the reason.
inline bool check_scratch_folder(const std::string & folder) {
    struct stat info;
    if (folder.empty()) return true;
    const bool is_other = stat(folder.c_str(), &info) == 0 && !S_ISDIR(info.st_mode);
    if (!is_other && access(folder.c_str(), W_OK | X_OK) == 0) return true;
    if (is_other) errno = ENOTDIR;
    say_error("cannot use the folder %s: %s\n", folder.c_str(), strerror(errno));
    return false;
}

inline std::string_view view(const gnv_text_t * text) { return {gnv_text_data(text), gnv_text_size(text)}; }

inline bool write_text(FILE * file, std::string_view text) {
    return fwrite(text.data(), 1, text.size(), file) == text.size() && fflush(file) == 0;
}
inline bool write_text(FILE * file, const gnv_text_t * text) { return write_text(file, view(text)); }

// To standard output. False after printing the reason.
inline bool print_text(std::string_view text) {
    const bool good = write_text(stdout, text);
    if (!good) say_cannot_write("-");
    return good;
}
inline bool print_text(const gnv_text_t * text) { return print_text(view(text)); }

// The width for gnv_engine_options: that of a terminal which is narrower than the widest tables; 0: as wide as they are.
inline int text_columns() {
    constexpr int wide = 120;
    const int width = width_of(stdout);
    return width < wide ? width : 0;
}

// A text for people to standard output: on a terminal with its width and colours. False after printing the reason.
inline bool show_text(const gnv_text_t * text) {
    if (isatty(STDOUT_FILENO) != 1) return print_text(text);
    const std::string shown =
        dressed({gnv_text_data(text), size_t(gnv_text_size(text))}, size_t(width_of(stdout)), shows_colours(stdout));
    const bool good = fwrite(shown.data(), 1, shown.size(), stdout) == shown.size() && fflush(stdout) == 0;
    if (!good) say_cannot_write("-");
    return good;
}

// A text for a file or, for "-", standard output. An old file keeps its content until the text is written.
class TextOutput {
  public:
    TextOutput() = default;
    ~TextOutput() {
        if (held_ >= 0) close(held_);
    }
    TextOutput(const TextOutput &) = delete;
    TextOutput & operator=(const TextOutput &) = delete;

    // Before the work. `path`: "" for none. False after printing why the path cannot be written.
    bool prepare(const std::string & path) {
        path_ = path;
        if (path.empty() || path == "-" || can_create(path)) return true;
        if (errno == EEXIST) {
            held_ = open(path.c_str(), O_WRONLY | O_CLOEXEC);
            struct stat info;
            if (held_ >= 0 && fstat(held_, &info) == 0) {
                if (S_ISREG(info.st_mode))
                    close(std::exchange(held_, -1)); // pipes and devices stay open: their readers wait
                return true;
            }
        }
        say_cannot_write(path);
        return false;
    }
    // False after printing the reason; removes an incomplete file.
    bool write(const gnv_text_t * text) { return write(view(text)); }
    bool write(std::string_view text) {
        if (path_ == "-") return print_text(text);
        FILE * const file = held_ >= 0 ? fdopen(std::exchange(held_, -1), "w") : fopen(path_.c_str(), "we");
        struct stat info;
        // Removed if it is incomplete: not a pipe, a device or a link.
        const bool is_file = file && lstat(path_.c_str(), &info) == 0 && S_ISREG(info.st_mode);
        std::optional<UnfinishedFile> unfinished;
        if (is_file) unfinished.emplace(path_);
        bool good = file && write_text(file, text);
        const int error_number = errno;
        const bool closed = !file || fclose(file) == 0;
        if (!good) errno = error_number;
        good = good && closed;
        if (!good) say_cannot_write(path_);
        if (!good && is_file) unlink(path_.c_str());
        return good;
    }
    bool is_wanted() const { return !path_.empty(); }
    bool is_standard_output() const { return path_ == "-"; }

  private:
    std::string path_;
    int held_ = -1;
};

} // namespace tools
