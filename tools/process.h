// How a program starts and ends: its standard streams, signals, and the exit status.
//
// A signal that asks a program to end (Ctrl-C, SIGTERM, SIGHUP, ...) makes the callbacks of a call stop it in good order; where
// no call with a callback is in progress, the program ends at once. The exit status is 128 + the signal's number either way.
// A write that fails with SIGPIPE or SIGXFSZ fails like any other: whoever wrote says which file it was. Signals that are
// ignored from the start (nohup) stay so.
#pragma once

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <new>
#include <string>
#include <unistd.h>

namespace tools {

// failure: usage, input, output. 128 + signal: ended by it.
enum ExitCode { exit_ok = 0, exit_findings = 1, exit_failure = 2, exit_signal = 128 };

// --- State that signal handlers see ----------------------------------------------------------------------------------------

inline std::atomic<int> first_signal{0}; // that asked to end, or that a write met; 0: none
inline std::atomic<bool> stop_wanted{false};
inline std::atomic<int> stoppable_calls{0};
inline std::atomic<bool> line_is_open{false};              // a progress line without its newline is on the terminal
inline std::atomic<const char *> unfinished_file{nullptr}; // that goes with a program that ends at once
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<const char *>::is_always_lock_free);

// For callbacks of the library: not 0 asks to stop.
inline int stop_request() { return stop_wanted; }

// For a call with a callback that the library asks several times a second: signals wait for that.
class StoppableCall {
  public:
    StoppableCall() { stoppable_calls++; }
    ~StoppableCall() { stoppable_calls--; }
    StoppableCall(const StoppableCall &) = delete;
    StoppableCall & operator=(const StoppableCall &) = delete;
};

// A file that is removed when a signal ends the program at once. One at a time.
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
    bool once;            // the next one ends the program whatever it does
    bool may_be_ignored;  // stays ignored if it is
    bool tells_of_writes; // the failing write tells, too
};

inline constexpr EndingSignal ending_signals[] = {
    {SIGINT, "SIGINT", true, false, false},  {SIGTERM, "SIGTERM", true, false, false},
    {SIGHUP, "SIGHUP", false, true, false},  {SIGPIPE, "SIGPIPE", false, true, true},
    {SIGXFSZ, "SIGXFSZ", false, true, true},
};

// Only what a signal handler may do.
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

// Where one is closed, a file that is opened later would get its number, and with it what is printed.
inline void open_standard_streams() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0) // takes the lowest number free
            (void)!open("/", O_RDONLY); // no /dev: the number is taken, too
}

// Ends a progress line that is on the terminal; comes before every message.
inline void end_progress_line() {
    if (line_is_open.exchange(false)) fputc('\n', stderr);
}

// Says that `path` ("-": standard output) cannot be written, with what errno tells. Not where a reader went away: programs
// before it in a pipe end quietly.
inline void say_cannot_write(const std::string & path) {
    const int error_number = errno;
    if (path == "-" && first_signal == SIGPIPE) return;
    end_progress_line();
    fprintf(stderr, "error: cannot write %s: %s\n", path == "-" ? "to standard output" : path.c_str(),
            strerror(error_number));
}

// --- The program --------------------------------------------------------------------------------------------------------------

// The exit status, once everything is printed.
inline int finish(int code) {
    errno = 0;
    const bool printed = fflush(stdout) == 0 && !ferror(stdout);
    if (!printed && code != exit_failure) {
        if (errno == 0) errno = EIO;
        say_cannot_write("-");
        code = exit_failure;
    }
    return code == exit_failure && first_signal ? exit_signal + first_signal : code;
}

// Runs a program's body; what its option parser or containers throw ends it with a message, too.
inline int guarded(int (*body)(int argc, char ** argv), int argc, char ** argv) {
    open_standard_streams();
    catch_signals();
    int code = exit_failure;
    try {
        code = body(argc, argv);
    } catch (const std::bad_alloc &) {
        end_progress_line();
        fputs("error: out of memory\n", stderr);
    } catch (const std::exception & error) {
        end_progress_line();
        fprintf(stderr, "error: %s\n", error.what());
    }
    return finish(code);
}

} // namespace tools
