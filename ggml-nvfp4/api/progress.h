// The wrapper of a caller's progress callback: it calls from one thread at a time, some ten times a second, and never
// again after the callback asked to stop. It is the library's only clock of progress: work reports as often as it
// likes.
#pragma once

#include "api/handles.h"
#include "core/clock.h"
#include "core/stop_check.h"

#include <atomic>
#include <mutex>
#include <optional>

namespace gnv::api {

class Progress {
  public:
    // `callback` may be NULL: no calls.
    Progress(gnv_progress_callback callback, void * user) : callback_(callback), user_(user) {}
    // While it lives, the engine's threads also call the callback in the middle of long work.
    Progress(ThreadPool & threads, gnv_progress_callback callback, void * user);
    explicit operator bool() const { return callback_ != nullptr; }

    // From any thread; fills in `seconds`. The callback gets the first report, reports that are due, and those with
    // `always`. False: stop.
    bool report(const gnv_progress & now, bool always = false);
    // Calls again with the last report (zeros before the first), if due. From any thread, thousands of times a second.
    bool goes_on();

  private:
    bool is_due() const;
    bool ask(const gnv_progress & now);

    const gnv_progress_callback callback_;
    void * const user_;
    const Clock::time_point start_ = Clock::now();
    std::mutex mutex_;
    std::atomic<bool> stopped_{false};
    bool reported_ = false;
    gnv_progress last_ = {};
    Clock::time_point last_time_;            // of the last call
    std::optional<ThreadPool::Watch> watch_; // last: it uses the members above
};

// For readers and encoders, which report no numbers. Empty if `callback` is NULL.
StopCheck make_stop_check(gnv_progress_callback callback, void * user);

} // namespace gnv::api
