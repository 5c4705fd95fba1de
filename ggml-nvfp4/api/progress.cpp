#include "api/progress.h"

#include <utility>

namespace gnv::api {

static constexpr auto interval = std::chrono::milliseconds(100);

Progress::Progress(ThreadPool & threads, gnv_progress_callback callback, void * user)
    : callback_(callback), user_(user) {
    if (callback_) watch_.emplace(threads, [this] { return ask_again(); });
}

bool Progress::ask(const gnv_progress & now) {
    if (stopped_ || !callback_) return !stopped_;
    last_ = now;
    last_.struct_size = sizeof last_;
    last_.seconds = seconds_since(start_);
    last_time_ = Clock::now();
    told_ = true;
    stopped_ = callback_(user_, &last_) != 0;
    return !stopped_;
}

bool Progress::report(const gnv_progress & now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ask(now);
}

bool Progress::report_if_due(const gnv_progress & now, bool complete) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool completes = complete && !std::exchange(complete_, complete);
    if (told_ && !completes && Clock::now() - last_time_ < interval) {
        last_ = now;
        return !stopped_;
    }
    return ask(now);
}

bool Progress::ask_again() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool due = told_ && Clock::now() - last_time_ >= interval;
    return due ? ask(gnv_progress(last_)) : !stopped_;
}

} // namespace gnv::api
