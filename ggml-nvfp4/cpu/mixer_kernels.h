// Shared code of the token mixers (rope, attention, causal_conv, gated_delta_net) on the CPU.
#pragma once

#include "cpu/kernels.h"

#include <cstring>

namespace gnv::cpu {

// The same kernels with given loops; for tests.
struct Loops;
Status rope_with(const Loops & loops, KernelCall & call);
Status attention_with(const Loops & loops, KernelCall & call);
Status causal_conv_with(const Loops & loops, KernelCall & call);
Status gated_delta_net_with(const Loops & loops, KernelCall & call);

// Pieces of a kernel's scratch memory, one after another, each aligned to 64 bytes. From null it counts bytes.
class ScratchCursor {
  public:
    explicit ScratchCursor(void * begin = nullptr) : begin_(static_cast<char *>(begin)) {}
    template <class T>
    T * take(int64_t count) {
        T * piece = begin_ ? reinterpret_cast<T *>(begin_ + bytes_) : nullptr;
        bytes_ += (uint64_t(count) * sizeof(T) + 63) / 64 * 64;
        return piece;
    }
    uint64_t bytes() const { return bytes_; }

  private:
    char * begin_;
    uint64_t bytes_ = 0;
};

// An element of a weight in F32 or BF16.
inline float weight_element(const Tensor & weight, int64_t i) {
    if (weight.dtype == DType::f32) return weight.as<const float>()[i];
    const uint32_t bits = uint32_t(weight.as<const uint16_t>()[i]) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace gnv::cpu
