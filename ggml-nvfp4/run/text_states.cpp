#include "run/text_states.h"

namespace gnv {

// [S, ...] with the capacity filled in
static Shape whole_shape(const StateSpec & spec, int64_t segments, int64_t capacity) {
    Shape shape;
    shape.dims[shape.rank++] = segments;
    for (int i = 0; i < spec.shape.rank; i++) shape.dims[shape.rank++] = spec.shape[i] < 0 ? capacity : spec.shape[i];
    return shape;
}

static DType dtype_of(const StateSpec & spec, DType activation) { return spec.is_activation ? activation : DType::f32; }

uint64_t TextStates::bytes(const TextModel & model, DType activation, int64_t segments, int64_t capacity) {
    uint64_t sum = 0;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++)
        for (const StateSpec & spec : model.states(layer))
            sum += device_aligned(tensor_bytes(dtype_of(spec, activation), whole_shape(spec, segments, capacity)));
    return sum;
}

Result<TextStates> TextStates::create(const TextModel & model, Backend & device, int64_t segments, int64_t capacity) {
    TextStates states;
    states.device_ = &device;
    states.capacity_ = capacity;
    states.segments_ = segments;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++) {
        states.layers_.emplace_back();
        for (const StateSpec & spec : model.states(layer)) {
            const Entry entry = {dtype_of(spec, device.activation_dtype()), whole_shape(spec, segments, capacity),
                                 states.bytes_};
            states.layers_.back().push_back(entry);
            states.bytes_ += device_aligned(tensor_bytes(entry.dtype, entry.shape));
        }
    }
    Result<DeviceMemory> memory = device.allocate(states.bytes_);
    if (!memory.ok())
        return fail(memory.status().code(), "caches of ", capacity, " positions: ", memory.status().message(),
                    "; ask for fewer positions");
    states.memory_ = memory.take();
    states.reset();
    return states;
}

void TextStates::reset() { device_->clear(memory_.get(), bytes_); }

Tensor TextStates::find(int32_t layer, int32_t index) const {
    const Entry & entry = layers_[size_t(layer)][size_t(index)];
    Tensor tensor;
    tensor.dtype = entry.dtype;
    tensor.shape = entry.shape;
    tensor.data = static_cast<uint8_t *>(memory_.get()) + entry.offset;
    return tensor;
}

} // namespace gnv
