// The progress line, whose callback also passes requests to stop on.
#pragma once

#include "process.h"

#include <cstdio>
#include <ggml-nvfp4.h>
#include <string>
#include <unistd.h>

namespace tools {

inline std::string duration_text(double seconds) {
    char text[32];
    if (seconds < 60) {
        snprintf(text, sizeof text, "%.0f s", seconds);
    } else if (seconds >= 3600) {
        snprintf(text, sizeof text, "%d:%02d h", int(seconds / 3600), int(seconds / 60) % 60);
    } else {
        snprintf(text, sizeof text, "%d:%02d min", int(seconds) / 60, int(seconds) % 60);
    }
    return text;
}

// A line that is rewritten on a terminal; elsewhere a plain line every ten seconds.
class ProgressLine {
  public:
    // `passes`: the name of work that is counted in positions alone.
    explicit ProgressLine(bool quiet, const char * passes = "forward passes")
        : passes_(passes), quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}
    ~ProgressLine() { end_progress_line(); }

    static int callback(void * user, const gnv_progress * progress) {
        static_cast<ProgressLine *>(user)->show(*progress);
        return stop_request();
    }

  private:
    // The library calls from its own threads, which exceptions must not reach: this code does not allocate.
    void print(const char * line, const char * more, bool complete) {
        const bool stays_open = terminal_ && !complete;
        const int printed =
            fprintf(stderr, "%s%s%s%s", terminal_ ? "\r\033[K" : "", line, more, stays_open ? "" : "\n");
        line_is_open = stays_open;
        if ((printed < 0 || fflush(stderr) != 0) && first_signal) stop_wanted = true; // the reader has ended
    }

    void show_passes(const gnv_progress & now) { // forward passes only
        const bool complete = now.positions == now.positions_total;
        if (quiet_ || complete_ || (!terminal_ && !complete && now.seconds < next_)) return;
        complete_ = complete;
        next_ = now.seconds + 10;
        const double share = complete ? 1 : now.share;
        if (first_share_ < 0) first_share_ = share;
        char line[64];
        snprintf(line, sizeof line, "%s %.0f %%", passes_, 100 * share);
        char left[64] = "";
        if (complete) {
            snprintf(left, sizeof left, ", %s", duration_text(now.seconds).c_str());
        } else if (now.seconds > 1 && share > first_share_) {
            snprintf(left, sizeof left, ", %s left", duration_text(time_left(now.seconds, share)).c_str());
        }
        print(line, left, complete);
    }

    void show(const gnv_progress & now) {
        if (now.bytes_total == 0 && now.positions_total > 0) return show_passes(now);
        const bool complete = now.tensors == now.tensors_total;
        if (quiet_ || complete_ || (!terminal_ && !complete && now.seconds < next_)) return;
        complete_ = complete;
        next_ = now.seconds + 10;
        const double rate = now.seconds > 0 ? double(now.bytes) / now.seconds : 0;
        char line[160], speed[64] = "";
        const int length = snprintf(
            line, sizeof line, "%llu of %llu tensors, %.1f of %.1f GB", static_cast<unsigned long long>(now.tensors),
            static_cast<unsigned long long>(now.tensors_total), double(now.bytes) / 1e9, double(now.bytes_total) / 1e9);
        const bool calibrating = now.positions < now.positions_total;
        if (calibrating && first_share_ < 0) first_share_ = now.share;
        if (calibrating && length > 0)
            snprintf(line + length, sizeof line - size_t(length), ", calibration %.0f %%", 100 * now.share);
        constexpr double some = 0.001; // an embedding tells nothing
        if (calibrating && now.seconds > 1 && now.share > first_share_ + some) {
            const double left = time_left(now.seconds, now.share);
            snprintf(speed, sizeof speed, ", %s left", duration_text(left).c_str());
        } else if (calibrating) {
            speed[0] = 0;
        } else if (complete) {
            snprintf(speed, sizeof speed, ", %.2f GB/s, %s", rate / 1e9, duration_text(now.seconds).c_str());
        } else if (now.seconds > 1 && rate > 0) { // earlier rates are noise
            const double left = double(now.bytes_total - now.bytes) / rate;
            snprintf(speed, sizeof speed, ", %.2f GB/s, %s left", rate / 1e9, duration_text(left).c_str());
        }
        print(line, speed, complete);
    }

    // By the operations that this run has done: one that goes on with a stopped run begins in the middle.
    double time_left(double seconds, double share) const { return seconds * (1 - share) / (share - first_share_); }

    const char * const passes_;
    bool quiet_, terminal_, complete_ = false;
    double first_share_ = -1; // of the first report
    double next_ = 10;        // seconds
};

} // namespace tools
