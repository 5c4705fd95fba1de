// A caller's progress callback as the library's readers and encoders ask it: any thread, thousands of times a second.
#pragma once

#include "core/clock.h"
#include "core/stop_check.h"
#include "ggml-nvfp4.h"

#include <atomic>
#include <memory>
#include <mutex>

namespace gnv::api {

// Calls `progress` some twenty times a second, from one thread at a time, until it is not 0; from then on the check is true.
// Empty where `progress` is NULL.
inline StopCheck make_stop_check(gnv_progress_callback progress, void * user) {
    if (!progress) return {};
    struct Poll {
        gnv_progress_callback progress;
        void * user;
        Clock::time_point start = Clock::now();
        std::mutex mutex;
        double next = 0; // seconds since the start
        std::atomic<bool> stopped{false};
    };
    const auto poll = std::make_shared<Poll>();
    poll->progress = progress;
    poll->user = user;
    return [poll] {
        constexpr double seconds_between_calls = 0.05;
        if (poll->stopped) return true;
        const std::unique_lock<std::mutex> lock(poll->mutex, std::try_to_lock);
        if (!lock.owns_lock()) return false;
        gnv_progress now = {};
        now.struct_size = sizeof now;
        now.seconds = seconds_since(poll->start);
        if (now.seconds < poll->next) return false;
        poll->next = now.seconds + seconds_between_calls;
        if (poll->progress(poll->user, &now) != 0) poll->stopped = true;
        return poll->stopped.load();
    };
}

} // namespace gnv::api
