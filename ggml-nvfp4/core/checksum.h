// A checksum of long data against damage, at the speed of memory. Not for texts that an enemy may choose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace gnv {

class Checksum {
  public:
    // Pieces of any size: the checksum is that of their concatenation.
    void add(const void * data, size_t size) {
        const auto * from = static_cast<const uint8_t *>(data);
        total_ += size;
        if (filled_ > 0) {
            const size_t part = size < sizeof buffer_ - filled_ ? size : sizeof buffer_ - filled_;
            memcpy(buffer_ + filled_, from, part);
            filled_ += part, from += part, size -= part;
            if (filled_ < sizeof buffer_) return;
            mix(buffer_);
            filled_ = 0;
        }
        for (; size >= sizeof buffer_; from += sizeof buffer_, size -= sizeof buffer_) mix(from);
        if (size > 0) memcpy(buffer_, from, size);
        filled_ = size;
    }
    uint64_t finish() {
        memset(buffer_ + filled_, 0, sizeof buffer_ - filled_);
        mix(buffer_);
        uint64_t sum = total_;
        for (const uint64_t lane : lanes_) sum = step(sum, lane);
        return step(sum, 0);
    }

  private:
    // Invertible in `lane`: one changed word changes the result.
    static uint64_t step(uint64_t lane, uint64_t word) {
        lane = (lane ^ word) * 0x9e3779b97f4a7c15;
        return lane ^ (lane >> 32);
    }
    void mix(const uint8_t * block) {
        uint64_t words[4];
        memcpy(words, block, sizeof words);
        for (int i = 0; i < 4; i++) lanes_[i] = step(lanes_[i], words[i]);
    }

    uint64_t lanes_[4] = {1, 2, 3, 4}, total_ = 0;
    uint8_t buffer_[32] = {};
    size_t filled_ = 0;
};

} // namespace gnv
