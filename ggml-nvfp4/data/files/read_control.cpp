#include "data/files/read_control.h"

#include <utility>

namespace gnv {

ReadControl::ReadControl(uint64_t memory_bytes, StopCheck stop) : state_(std::make_shared<State>()) {
    state_->budget = memory_bytes;
    state_->stop = std::move(stop);
}

Status ReadControl::check() const {
    if (!state_ || !state_->stop || !state_->stop()) return {};
    return Status(Code::cancelled, "stopped while data was read");
}

uint64_t ReadControl::longest_record() const {
    const uint64_t memory = left();
    if (record_memory(max_record_bytes) <= memory) return max_record_bytes;
    uint64_t low = 0, high = max_record_bytes; // low fits, or is 0; high does not
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        (record_memory(middle) <= memory ? low : high) = middle;
    }
    return low;
}

// A sixteenth is for waiting texts: with less left, encoding them makes no room for a record.
Status ReadControl::too_small(const std::string & what, uint64_t bytes) const {
    const uint64_t least = (state_ ? state_->used + state_->expected : 0) + bytes;
    return fail(Code::out_of_memory, what, ": a memory budget of ", bytes_text(budget()), " (", budget(),
                " bytes) is too small for it: the smallest sufficient one is ", least + least / 15, " bytes (",
                bytes_text(least + least / 15), ")");
}

Status ReadControl::check_record(const std::string & where, uint64_t bytes, uint64_t more_memory) const {
    const uint64_t memory = record_memory(bytes) + more_memory;
    return fits(memory) ? Status() : too_small(concat(where, ": a record of ", bytes_text(bytes)), memory);
}

Status with_remedy(Status status, const char * remedy) {
    return status.code() == Code::format ? Status(status.code(), status.message() + remedy) : std::move(status);
}

Status too_many_blanks(const std::string & where) {
    return fail(Code::format, where, ": nothing but blanks for more than ", bytes_text(most_blank_bytes),
                "; if records follow, remove the blanks, else leave the file out");
}

MemoryShare::MemoryShare(MemoryShare && other) noexcept
    : state_(std::move(other.state_)), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryShare & MemoryShare::operator=(MemoryShare && other) noexcept {
    if (this == &other) return *this;
    (void)resize(0);
    state_ = std::move(other.state_);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
}

bool MemoryShare::resize(uint64_t bytes) {
    if (!state_) return true;
    if (bytes > bytes_ && bytes - bytes_ > state_->budget - state_->used) return false;
    state_->used += bytes - bytes_;
    state_->most_used = std::max(state_->most_used, state_->used);
    bytes_ = bytes;
    return true;
}

} // namespace gnv
