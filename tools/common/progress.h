// The progress line, whose callback also passes requests to stop on.
#pragma once

#include "figures.h"
#include "process.h"

#include <cstdio>
#include <ggml-nvfp4.h>
#include <string>
#include <unistd.h>

namespace tools {

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

    // "layer 3 of 40, 36 %, 1,900 tokens/s, 1 min 17 s left"
    void show_passes(const char * what, const gnv_progress & now, bool complete) {
        const double share = complete ? 1 : now.share;
        if (first_share_ < 0) first_share_ = share;
        char line[96], more[96] = "";
        if (now.layer > 0 && !complete) {
            snprintf(line, sizeof line, "%s: layer %llu of %llu, %.0f %%", what, wide(now.layer), wide(now.layers),
                     100 * share);
        } else {
            snprintf(line, sizeof line, "%s %.0f %%", what, 100 * share);
        }
        const double done = share - first_share_;
        if (complete) {
            snprintf(more, sizeof more, ", %s", duration_text(now.seconds).c_str());
        } else if (now.seconds > 1 && done > some) {
            const double rate = done * double(now.tokens) / now.seconds; // of the whole model
            snprintf(more, sizeof more, ", %s tokens/s, %s left", count_text(uint64_t(rate)).c_str(),
                     duration_text(time_left(now.seconds, share)).c_str());
        }
        print(line, more, complete);
    }

    void show_bytes(const gnv_progress & now, bool complete) {
        char line[160], more[96] = "";
        const double rate = now.seconds > 0 ? double(now.bytes) / now.seconds : 0;
        if (complete) {
            snprintf(line, sizeof line, "%s tensors, %s", count_text(now.tensors_total).c_str(),
                     bytes_text(now.bytes_total).c_str());
            snprintf(more, sizeof more, ", %s", duration_text(now.seconds).c_str());
            return print(line, more, true);
        }
        snprintf(line, sizeof line, "%s of %s tensors, %s of %s", count_text(now.tensors).c_str(),
                 count_text(now.tensors_total).c_str(), bytes_text(now.bytes).c_str(),
                 bytes_text(now.bytes_total).c_str());
        if (now.seconds > 1 && rate > 0) { // earlier rates are noise
            const double left = double(now.bytes_total - now.bytes) / rate;
            snprintf(more, sizeof more, ", %s/s, %s left", bytes_text(uint64_t(rate)).c_str(),
                     duration_text(left).c_str());
        }
        print(line, more, false);
    }

    // One for each phase and layer, and every second.
    void tell(const gnv_progress & now, const char * phase, bool is_pass, bool complete) {
        const bool is_new = phase != told_phase_ || (is_pass && now.layer != told_layer_) || complete != told_complete_;
        if (!events.is_open() || (!is_new && now.seconds < told_seconds_ + 1)) return;
        told_phase_ = phase, told_layer_ = now.layer, told_seconds_ = now.seconds, told_complete_ = complete;
        const EventField name = {"phase", phase}, state = {"complete", uint64_t(complete)};
        if (!is_pass)
            return events.write("progress", {name,
                                             state,
                                             {"bytes", now.bytes},
                                             {"bytes_total", now.bytes_total},
                                             {"tensors", now.tensors},
                                             {"tensors_total", now.tensors_total}});
        if (first_share_ < 0) first_share_ = now.share;
        const double done = now.share - first_share_;
        events.write("progress", {name,
                                  state,
                                  {"layer", now.layer},
                                  {"layers", now.layers},
                                  {"share", now.share},
                                  {"tokens", now.tokens},
                                  {"seconds_left", done > some ? time_left(now.seconds, now.share) : NAN}});
    }

    void show(const gnv_progress & now) {
        const bool passes_only = now.bytes_total == 0 && now.positions_total > 0;
        const bool complete = passes_only ? now.positions == now.positions_total : now.tensors == now.tensors_total;
        const bool is_pass = passes_only || now.positions < now.positions_total;
        tell(now, passes_only ? passes_ : is_pass ? "calibration" : "weights", is_pass, complete);
        if (quiet_ || complete_ || (!terminal_ && !complete && now.seconds < next_)) return;
        complete_ = complete;
        next_ = now.seconds + 10;
        if (passes_only) return show_passes(passes_, now, complete);
        if (is_pass) return show_passes("calibration", now, false);
        show_bytes(now, complete);
    }

    static unsigned long long wide(uint64_t value) { return value; }

    // By the operations that this run has done: one that goes on with a stopped run begins in the middle.
    double time_left(double seconds, double share) const { return seconds * (1 - share) / (share - first_share_); }

    static constexpr double some = 0.001; // of all operations: an embedding tells nothing

    const char * const passes_;
    const char * told_phase_ = nullptr; // what the last event was about
    uint64_t told_layer_ = 0;
    double told_seconds_ = 0;
    bool told_complete_ = false;
    bool quiet_, terminal_, complete_ = false;
    double first_share_ = -1; // of the first report
    double next_ = 10;        // seconds
};

} // namespace tools
