#include "api/progress.h"

#include <memory>

namespace gnv::api {

Progress::Progress(ThreadPool & threads, gnv_progress_callback callback, void * user) : Progress(callback, user) {
    if (callback_) watch_.emplace(threads, [this] { return goes_on(); });
}

bool Progress::is_due() const {
    constexpr auto interval = std::chrono::milliseconds(100);
    return Clock::now() - last_time_ >= interval;
}

bool Progress::ask(const gnv_progress & now) {
    last_ = now;
    last_.struct_size = sizeof last_;
    last_.seconds = seconds_since(start_);
    last_time_ = Clock::now();
    stopped_ = callback_(user_, &last_) != 0;
    return !stopped_;
}

bool Progress::report(const gnv_progress & now, bool always) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopped_ || !callback_) return !stopped_;
    reported_ = true;
    if (always || is_due()) return ask(now);
    last_ = now;
    return true;
}

bool Progress::goes_on() {
    if (stopped_) return false;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || stopped_) return !stopped_;
    const bool waits = watch_ && !reported_; // totals are unknown before the first report
    return waits || !is_due() || ask(gnv_progress(last_));
}

StopCheck make_stop_check(gnv_progress_callback callback, void * user) {
    if (!callback) return {};
    return [progress = std::make_shared<Progress>(callback, user)] { return !progress->goes_on(); };
}

} // namespace gnv::api
