#include "text.h"

namespace server {

TextUpdate Text::wait(int milliseconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                      [&] { return state_.is_finished || !state_.piece.empty(); });
    TextUpdate update = state_;
    state_.piece.clear();
    return update;
}

void Text::reuse(uint64_t ids) {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_.reused = ids;
}

void Text::add(const std::string & piece) {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_.piece += piece;
    state_.tokens++;
    changed_.notify_all();
}

void Text::finish(bool reached_the_limit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_.reached_the_limit = reached_the_limit;
    state_.is_finished = true;
    changed_.notify_all();
}

void Text::fail(Failure failure, const std::string & message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_.failure = failure;
    state_.message = message;
    state_.is_finished = true;
    changed_.notify_all();
}

} // namespace server
