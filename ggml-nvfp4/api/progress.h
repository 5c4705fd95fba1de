// A caller's progress callback, as the library uses it: never from two threads at once, and never again after it asked to
// stop. While it lives it is also asked in the middle of long work, through the engine's threads.
#pragma once

#include "api/handles.h"
#include "core/clock.h"

#include <mutex>
#include <optional>

namespace gnv::api {

class Progress {
  public:
    // `callback` may be NULL: nothing is asked.
    Progress(ThreadPool & threads, gnv_progress_callback callback, void * user);
    explicit operator bool() const { return callback_ != nullptr; }

    // From any thread; `seconds` is filled in. False: stop.
    bool report(const gnv_progress & now);
    // The same for what comes up more often than callbacks should: the first, the last (`complete`), and ten a second.
    bool report_if_due(const gnv_progress & now, bool complete);

  private:
    bool ask(const gnv_progress & now);
    bool ask_again(); // with what was last reported

    const gnv_progress_callback callback_;
    void * const user_;
    const Clock::time_point start_ = Clock::now();
    std::mutex mutex_;
    bool stopped_ = false, told_ = false, complete_ = false;
    gnv_progress last_ = {};
    Clock::time_point last_time_;
    std::optional<ThreadPool::Watch> watch_; // last: it asks what stands above
};

} // namespace gnv::api
