// The limits of reading data: a memory budget, and the caller's request to stop.
//
// Compressed files can hold far more than their size. Memory in proportion to the content is charged before it is
// allocated: windows and pages of compressors, records, waiting texts, and ids. The charges are simple bounds. One
// thread reads and charges.
#pragma once

#include "core/status.h"
#include "core/stop_check.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

namespace gnv {

// The longest line, CSV record, JSON record or text document that a reader accepts. Readers hold one at a time.
inline constexpr uint64_t max_record_bytes = 64 << 20;

// The limit of consecutive blanks or line ends in a text file: more hold no data, however small they are compressed.
inline constexpr uint64_t most_blank_bytes = 100'000'000;
Status too_many_blanks(const std::string & where);

// Ends of messages: what to do about a file of data.
inline constexpr const char * damaged_file = "; if it was damaged or cut, copy or download it again";
inline constexpr const char * split_record = "; split the record, or leave it out";
// With `remedy` behind the message of a failure of the file's form (Code::format).
Status with_remedy(Status status, const char * remedy);

// The memory of a record of `bytes` until it is ids: its bytes in a growing string, a parser's copies, the field, the
// text, the normalized text, and an encoder (Encoder::working_memory). A bound for every format.
constexpr uint64_t record_memory(uint64_t bytes) {
    return 20 * bytes + (6 << 20) + 56 * std::min<uint64_t>(3 * bytes, 1 << 20);
}

class ReadControl {
  public:
    ReadControl() = default; // no budget, no stop
    ReadControl(uint64_t memory_bytes, StopCheck stop);

    // Code::cancelled once the caller asks to stop.
    Status check() const;
    StopCheck stop() const { return state_ ? state_->stop : StopCheck(); }

    uint64_t budget() const { return state_ ? state_->budget : UINT64_MAX; }
    uint64_t left() const { return state_ ? state_->budget - state_->used : UINT64_MAX; }
    uint64_t most_used() const { return state_ ? state_->most_used : 0; }

    // Whether `bytes` can be used for a while, beside the shares.
    bool fits(uint64_t bytes) const {
        if (!state_) return true;
        if (bytes > left()) return false;
        state_->most_used = std::max(state_->most_used, state_->used + bytes);
        return true;
    }
    // The present limit of a record.
    uint64_t longest_record() const;
    // Further charges beside the next record, for the message of a refusal.
    void expect(uint64_t bytes) const {
        if (state_) state_->expected = bytes;
    }
    // Code::out_of_memory: `what`, which starts with the file and the place, needs `bytes` in addition.
    Status too_small(const std::string & what, uint64_t bytes) const;
    // The same for a record of `bytes` at a place in a file, or success.
    Status check_record(const std::string & where, uint64_t bytes, uint64_t more_memory = 0) const;

  private:
    friend class MemoryShare;
    struct State {
        uint64_t budget = 0, used = 0, most_used = 0, expected = 0; // bytes
        StopCheck stop;
    };
    std::shared_ptr<State> state_;
};

// A part of the budget, given back with the share.
class MemoryShare {
  public:
    MemoryShare() = default;
    explicit MemoryShare(const ReadControl & control) : state_(control.state_) {}
    MemoryShare(MemoryShare && other) noexcept;
    MemoryShare & operator=(MemoryShare && other) noexcept;
    ~MemoryShare() { (void)resize(0); }

    // Sets the size of the share; false, and unchanged, beyond the budget.
    bool resize(uint64_t bytes);
    uint64_t bytes() const { return bytes_; }

  private:
    std::shared_ptr<ReadControl::State> state_;
    uint64_t bytes_ = 0;
};

} // namespace gnv
