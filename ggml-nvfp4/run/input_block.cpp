#include "run/input_block.h"

#include <cstring>

namespace gnv {

Result<InputBlock> InputBlock::create(Backend & device, uint64_t bytes) {
    InputBlock block;
    block.bytes_ = bytes;
    GNV_ASSIGN(block.host_, device.allocate_host(bytes));
    if (!device.device().has_own_memory()) return block;
    GNV_ASSIGN(block.memory_, device.allocate(bytes));
    return block;
}

const int32_t * InputBlock::add(std::span<const int32_t> numbers) {
    const uint64_t begin = used_;
    used_ += device_aligned(numbers.size_bytes());
    GNV_CHECK(used_ <= bytes_);
    if (!numbers.empty()) memcpy(static_cast<uint8_t *>(host_.get()) + begin, numbers.data(), numbers.size_bytes());
    const void * const there = memory_ ? memory_.get() : host_.get();
    return reinterpret_cast<const int32_t *>(static_cast<const uint8_t *>(there) + begin);
}

void InputBlock::send(Backend & device) {
    if (memory_ && used_ > sent_)
        device.upload(static_cast<uint8_t *>(memory_.get()) + sent_, static_cast<uint8_t *>(host_.get()) + sent_,
                      used_ - sent_);
    sent_ = used_;
}

} // namespace gnv
