// A caller's progress callback, as the library uses it: from one thread at a time, some ten times a second, and never again
// after it asked to stop. The library's only clock of progress: whatever works reports as often as it likes.
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
    // `callback` may be NULL: nothing is asked.
    Progress(gnv_progress_callback callback, void * user) : callback_(callback), user_(user) {}
    // While it lives the callback is also asked in the middle of long work, through the engine's threads.
    Progress(ThreadPool & threads, gnv_progress_callback callback, void * user);
    explicit operator bool() const { return callback_ != nullptr; }

    // From any thread; `seconds` is filled in. The callback gets the first report, those that are due, and those with
    // `always`. False: stop.
    bool report(const gnv_progress & now, bool always = false);
    // Asks again with the last report, if that is due (zeros where there was none). From any thread, thousands of times a second.
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
    std::optional<ThreadPool::Watch> watch_; // last: it asks what stands above
};

// For readers and encoders, which know of no numbers. Empty where `callback` is NULL.
StopCheck make_stop_check(gnv_progress_callback callback, void * user);

} // namespace gnv::api
