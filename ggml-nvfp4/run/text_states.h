// The caches of a text (keys and values, convolution, Gated DeltaNet): state tensors of graphs in one block of a
// device's memory.
#pragma once

#include "core/tensor.h"
#include "exec/backend.h"
#include "model/text_model.h"

#include <vector>

namespace gnv {

class TextStates {
  public:
    // `capacity`: positions of the caches of attention.
    static Result<TextStates> create(const TextModel & model, Backend & device, int64_t segments, int64_t capacity);
    // `activation`: the dtype of the device's activations.
    static uint64_t bytes(const TextModel & model, DType activation, int64_t segments, int64_t capacity);
    void reset(); // queued: to the start of a text
    Tensor find(int32_t layer, int32_t index) const;
    int64_t capacity() const { return capacity_; }
    int64_t segments() const { return segments_; }

  private:
    struct Entry {
        DType dtype = DType::f32;
        Shape shape;
        uint64_t offset = 0;
    };
    Backend * device_ = nullptr;
    int64_t capacity_ = 0, segments_ = 0;
    std::vector<std::vector<Entry>> layers_;
    DeviceMemory memory_;
    uint64_t bytes_ = 0;
};

} // namespace gnv
