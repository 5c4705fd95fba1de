// A stream of events for supervisors (--events FILE): JSON lines, one for each phase, layer, message and finding, each
// written at once (docs/json.md). The library calls back from its own threads, which exceptions must not reach: to write
// allocates nothing.
#pragma once

#include "terminal.h"

#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <initializer_list>
#include <mutex>
#include <string_view>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

namespace tools {

// A member of an event.
struct EventField {
    enum class Type { text, count, number } type;
    const char * key;
    std::string_view text;
    uint64_t count = 0;
    double number = 0;

    EventField(const char * name, std::string_view value) : type(Type::text), key(name), text(value) {}
    EventField(const char * name, const char * value) : EventField(name, std::string_view(value)) {}
    EventField(const char * name, uint64_t value) : type(Type::count), key(name), count(value) {}
    EventField(const char * name, double value) : type(Type::number), key(name), number(value) {}
};

// While it lives, a write of this thread that fails raises neither SIGPIPE nor SIGXFSZ. The run goes on without its events, and
// its exit status must tell how the run ended (process.h), not how the stream did.
class NoWriteSignals {
  public:
    NoWriteSignals() {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGPIPE);
        sigaddset(&signals_, SIGXFSZ);
        pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    }
    ~NoWriteSignals() {
        const timespec no_time = {};
        while (sigtimedwait(&signals_, nullptr, &no_time) > 0) {
        }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    NoWriteSignals(const NoWriteSignals &) = delete;
    NoWriteSignals & operator=(const NoWriteSignals &) = delete;

  private:
    sigset_t signals_, before_;
};

class EventStream {
  public:
    EventStream() = default;
    ~EventStream() {
        if (file_) fclose(file_);
    }
    EventStream(const EventStream &) = delete;
    EventStream & operator=(const EventStream &) = delete;

    // `path`: a new file, a pipe or /dev/fd/N; "-": standard output. False with errno.
    bool open(const char * path) {
        const int fd = strcmp(path, "-") == 0 ? dup(STDOUT_FILENO) : open_new(path);
        file_ = fd < 0 ? nullptr : fdopen(fd, "w");
        return file_ != nullptr;
    }
    bool is_open() const { return file_ != nullptr; }

    void write(const char * event, std::initializer_list<EventField> fields) {
        if (!file_) return;
        const std::lock_guard<std::mutex> lock(mutex_);
        if (failed_) return;
        const NoWriteSignals no_signals;
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
        fprintf(file_, "{\"event\":\"%s\",\"seconds\":%.3f", event, seconds.count());
        for (const EventField & field : fields) {
            fprintf(file_, ",\"%s\":", field.key);
            if (field.type == EventField::Type::count) {
                fprintf(file_, "%llu", static_cast<unsigned long long>(field.count));
            } else if (field.type == EventField::Type::number) {
                std::isfinite(field.number) ? fprintf(file_, "%.6g", field.number) : fputs("null", file_);
            } else {
                write_text(field.text);
            }
        }
        fputs("}\n", file_);
        if (fflush(file_) == 0 && !ferror(file_)) return;
        failed_ = true; // the run goes on
        fprintf(stderr, "%swarning:%s --events: %s; no more events are written\n", begin_colour(stderr, Tone::warning),
                end_colour(stderr), strerror(errno));
    }

  private:
    static int open_new(const char * path) {
        const int fd = ::open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        struct stat info;
        if (fd >= 0 || errno != EEXIST || stat(path, &info) != 0 || S_ISREG(info.st_mode)) return fd;
        return ::open(path, O_WRONLY | O_CLOEXEC); // a pipe, a device
    }

    // The bytes of a UTF-8 character that begins here; 0: none does.
    static size_t character(std::string_view text) {
        const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
        const size_t size = byte(0) < 0x80       ? 1
                            : byte(0) >> 5 == 6  ? 2
                            : byte(0) >> 4 == 14 ? 3
                            : byte(0) >> 3 == 30 ? 4
                                                 : 0;
        if (size == 0 || size > text.size()) return 0;
        for (size_t i = 1; i < size; i++)
            if (byte(i) >> 6 != 2) return 0;
        return size;
    }
    void write_text(std::string_view text) {
        fputc('"', file_);
        while (!text.empty()) {
            const size_t size = character(text);
            const char c = text[0];
            if (size == 0) {
                fputs("\\ufffd", file_);
            } else if (size == 1 && (c == '"' || c == '\\')) {
                fprintf(file_, "\\%c", c);
            } else if (size == 1 && static_cast<unsigned char>(c) < 0x20) {
                fprintf(file_, "\\u%04x", c);
            } else {
                fwrite(text.data(), 1, size, file_);
            }
            text.remove_prefix(size == 0 ? 1 : size);
        }
        fputc('"', file_);
    }

    FILE * file_ = nullptr;
    std::mutex mutex_;
    bool failed_ = false;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

inline EventStream events; // of the program; closed: none are wanted

} // namespace tools
