// The start and the end of a program: standard streams, signals, and the exit status.
//
// A signal that ends a program (Ctrl-C, SIGTERM, SIGHUP, ...) makes the callback of a running call stop it in good
// order; without such a call the program ends at once. The exit status is 128 + the signal's number in both cases. A
// write that fails with SIGPIPE or SIGXFSZ fails like any other, with a message of the writer. Signals that are ignored
// from the start (nohup) stay ignored.
#pragma once

#include "events.h"
#include "terminal.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <new>
#include <string>
#include <unistd.h>

namespace tools {

// failure: of the request (options, names, places), or a kind that is found out later. 128 + signal: ended by a signal.
enum ExitCode {
    exit_ok = 0,
    exit_findings = 1,
    exit_failure = 2,
    exit_input = 3,
    exit_machine = 4,
    exit_internal = 5,
    exit_signal = 128
};

// What a program that ends with exit_failure ends with: the kind of the last failure that was reported.
inline std::atomic<int> failure_kind{exit_failure};

// --- State that signal handlers see ----------------------------------------------------------------------------------------

inline std::atomic<int> first_signal{0}; // the first that arrived, also from a write; 0: none
inline std::atomic<bool> stop_wanted{false};
inline std::atomic<int> stoppable_calls{0};
inline std::atomic<bool> line_is_open{false};              // a progress line without its newline is on the terminal
inline std::atomic<const char *> unfinished_file{nullptr}; // removed if the program ends at once
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<const char *>::is_always_lock_free);

// For callbacks of the library: other than 0 asks to stop.
inline int stop_request() { return stop_wanted; }

// For a call with a callback, which the library calls several times a second: signals wait for it.
class StoppableCall {
  public:
    StoppableCall() { stoppable_calls++; }
    ~StoppableCall() { stoppable_calls--; }
    StoppableCall(const StoppableCall &) = delete;
    StoppableCall & operator=(const StoppableCall &) = delete;
};

// A file to remove if a signal ends the program at once. One at a time.
class UnfinishedFile {
  public:
    explicit UnfinishedFile(std::string path) : path_(std::move(path)) { unfinished_file = path_.c_str(); }
    ~UnfinishedFile() { unfinished_file = nullptr; }
    UnfinishedFile(const UnfinishedFile &) = delete;
    UnfinishedFile & operator=(const UnfinishedFile &) = delete;

  private:
    const std::string path_;
};

// --- Signals ----------------------------------------------------------------------------------------------------------------

struct EndingSignal {
    int number;
    const char * name;
    bool once;            // a second one ends the program in any case
    bool may_be_ignored;  // stays ignored if it was
    bool tells_of_writes; // the failing write reports it too
};

inline constexpr EndingSignal ending_signals[] = {
    {SIGINT, "SIGINT", true, false, false},  {SIGTERM, "SIGTERM", true, false, false},
    {SIGHUP, "SIGHUP", false, true, false},  {SIGPIPE, "SIGPIPE", false, true, true},
    {SIGXFSZ, "SIGXFSZ", false, true, true},
};

// Only calls that are allowed in a signal handler.
inline void end_at_once(const EndingSignal & signal) {
    const auto say = [](const char * text) { (void)!write(STDERR_FILENO, text, strlen(text)); };
    if (line_is_open) say("\n");
    say("error: stopped by ");
    say(signal.name);
    say("\n");
    if (const char * const path = unfinished_file) unlink(path);
    _exit(exit_signal + signal.number);
}

inline void on_signal(int number, siginfo_t * info, void *) {
    const int error_number = errno;
    int none = 0;
    first_signal.compare_exchange_strong(none, number);
    for (const EndingSignal & signal : ending_signals) {
        if (signal.number != number || (signal.tells_of_writes && info->si_pid == getpid())) continue;
        stop_wanted = true;
        if (stoppable_calls == 0) end_at_once(signal);
    }
    errno = error_number;
}

inline void catch_signals() {
    for (const EndingSignal & signal : ending_signals) {
        struct sigaction action = {}, before = {};
        if (signal.may_be_ignored && sigaction(signal.number, nullptr, &before) == 0 && before.sa_handler == SIG_IGN)
            continue;
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | (signal.once ? int(SA_RESETHAND) : 0);
        sigaction(signal.number, &action, nullptr);
    }
}

// After a call that SIGINT stopped: the program goes on, and the next one is heard again. False where something else asked to end.
inline bool forget_interrupt() {
    if (first_signal != SIGINT) return false;
    first_signal = 0;
    stop_wanted = false;
    catch_signals();
    return true;
}

// --- Standard streams ---------------------------------------------------------------------------------------------------------

// A file that is opened while a standard stream is closed would get its number, and the printed text.
inline void open_standard_streams() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0) // takes the lowest number free
            (void)!open("/", O_RDONLY); // without /dev: another file takes the number
}

// Ends a progress line on the terminal, before every message.
inline void end_progress_line() {
    if (line_is_open.exchange(false)) fputc('\n', stderr);
}

// Prints "error: " and a text as printf() does. It allocates nothing of its own.
__attribute__((format(printf, 1, 2))) inline void say_error(const char * format, ...) {
    end_progress_line();
    fprintf(stderr, "%serror:%s ", begin_colour(stderr, Tone::error), end_colour(stderr));
    va_list arguments;
    va_start(arguments, format);
    if (events.is_open()) {
        char text[1024]; // a longer message ends early
        va_list again;
        va_copy(again, arguments);
        const int length = vsnprintf(text, sizeof text, format, again);
        va_end(again);
        std::string_view message(text, length < 0 ? 0 : strlen(text));
        while (!message.empty() && message.back() == '\n') message.remove_suffix(1);
        events.write("error", {{"message", message}});
    }
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

// Prints that `path` ("-": standard output) cannot be written, with the text of errno; not after SIGPIPE: a program in
// a pipe ends quietly when its reader has ended.
inline void say_cannot_write(const std::string & path) {
    const int error_number = errno;
    const bool is_request = error_number == ENOENT || error_number == EEXIST || error_number == EACCES ||
                            error_number == ENOTDIR || error_number == EISDIR;
    failure_kind = is_request ? exit_failure : exit_machine;
    if (path == "-" && first_signal == SIGPIPE) return;
    end_progress_line();
    say_error("cannot write %s: %s\n", path == "-" ? "to standard output" : path.c_str(), strerror(error_number));
}

// --- The program --------------------------------------------------------------------------------------------------------------

// The exit status, after all output.
inline int finish(int code) {
    errno = 0;
    const bool printed = fflush(stdout) == 0 && !ferror(stdout);
    if (!printed && code != exit_failure) {
        if (errno == 0) errno = EIO;
        say_cannot_write("-");
        code = exit_failure;
    }
    if (code == exit_failure) code = first_signal ? exit_signal + first_signal : int(failure_kind);
    events.write("end", {{"exit_status", uint64_t(code)}});
    return code;
}

// Runs a program's body; an exception of the option parser or of containers becomes a message.
inline int guarded(int (*body)(int argc, char ** argv), int argc, char ** argv) {
    open_standard_streams();
    catch_signals();
    int code = exit_failure;
    try {
        code = body(argc, argv);
    } catch (const std::bad_alloc &) {
        failure_kind = exit_machine;
        say_error("out of memory\n");
    } catch (const std::exception & error) {
        say_error("%s\n", error.what());
    }
    return finish(code);
}

} // namespace tools
