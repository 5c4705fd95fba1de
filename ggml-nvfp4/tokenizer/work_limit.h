// The limit of work for encoding one text: hostile patterns and tokens can make the time grow with the square of the
// text, or faster; honest ones never read a byte more than a few times.
#pragma once

#include "core/status.h"
#include "core/stop_check.h"

#include <cstdint>

namespace gnv {

// Counts work in looks at a byte: one for each byte that is passed, in either direction, and one for each attempt.
class WorkLimit {
  public:
    // Measured: up to 4 looks for each byte, for published patterns and texts that are slow for them (long runs of
    // blanks).
    static constexpr uint64_t looks_per_byte = 64;

    // For a text of `bytes` and `passes` patterns and searches. `stop` may be empty.
    void start(uint64_t bytes, uint64_t passes, const StopCheck & stop) {
        limit_ = looks_per_byte * (bytes + 1024) * (passes + 1);
        stop_ = stop ? &stop : nullptr;
        used_ = 0, stopped_ = false;
        set_next_check();
    }
    // False, from then on always, beyond the limit or after a request to stop: see status().
    bool spend(uint64_t looks) {
        used_ += looks;
        return used_ < next_check_ || check();
    }
    uint64_t used() const { return used_; }
    bool is_spent() const { return stopped_ || used_ >= limit_; }

    // After spend() was false.
    Status status() const {
        if (stopped_) return Status(Code::cancelled, "stopped while a text was encoded");
        return fail(Code::unsupported, "looked ", limit_, " times at the bytes of the text, ", looks_per_byte,
                    " times at each for every pattern, which no published tokenizer needs: get the file from its "
                    "publisher, or simplify the pattern");
    }

  private:
    static constexpr uint64_t looks_between_checks = 1 << 20; // some milliseconds

    void set_next_check() {
        next_check_ = limit_ - used_ < looks_between_checks ? limit_ : used_ + looks_between_checks;
    }
    bool check() {
        stopped_ = stopped_ || (stop_ && (*stop_)());
        if (is_spent()) return false;
        set_next_check();
        return true;
    }

    uint64_t used_ = 0, limit_ = 0, next_check_ = 0;
    const StopCheck * stop_ = nullptr;
    bool stopped_ = false;
};

} // namespace gnv
