// What reading data may take: a budget of memory, and the caller's wish to stop.
//
// Compressed files can hold far more than their size. Whatever is in proportion to the content is charged before it is
// allocated: windows and pages of compressors, records, texts that wait, and ids. The charges are bounds, simple ones.
// One thread reads and charges.
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

// Blanks, or line ends, that may follow each other in a text file: more hold no data, however few bytes they are
// compressed.
inline constexpr uint64_t most_blank_bytes = 100'000'000;
Status too_many_blanks(const std::string & where);

// What a record of `bytes` takes until it is ids: its bytes in a string that grows, a parser's copies, the field, the text,
// the normalized text, and an encoder (Encoder::working_memory). A bound for every format.
constexpr uint64_t record_memory(uint64_t bytes) {
    return 20 * bytes + (6 << 20) + 56 * std::min<uint64_t>(3 * bytes, 1 << 20);
}

class ReadControl {
  public:
    ReadControl() = default; // no budget, no stop
    ReadControl(uint64_t memory_bytes, StopCheck stop);

    // Code::cancelled once the caller wants to stop.
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
    // How long a record may be for now.
    uint64_t longest_record() const;
    // What else will be charged beside the record that is read next: only refusals speak of it.
    void expect(uint64_t bytes) const {
        if (state_) state_->expected = bytes;
    }
    // Code::out_of_memory: `what`, which starts with the file and the place, takes `bytes` more than are used now.
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

    // Makes the share `bytes` large; false, and as it was, where the budget has no more.
    bool resize(uint64_t bytes);
    uint64_t bytes() const { return bytes_; }

  private:
    std::shared_ptr<ReadControl::State> state_;
    uint64_t bytes_ = 0;
};

} // namespace gnv
