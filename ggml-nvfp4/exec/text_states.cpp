#include "exec/text_states.h"

#include <algorithm>

namespace gnv {

// [S, ...] with the capacity filled in
static Shape whole_shape(const StateSpec & spec, int64_t segments, int64_t capacity) {
    Shape shape;
    shape.dims[shape.rank++] = segments;
    for (int i = 0; i < spec.shape.rank; i++) shape.dims[shape.rank++] = spec.shape[i] < 0 ? capacity : spec.shape[i];
    return shape;
}

Result<TextStates> TextStates::create(const TextModel & model, int64_t segments, int64_t capacity) {
    TextStates states;
    states.capacity_ = capacity;
    states.segments_ = segments;
    Status status = guard_exceptions([&]() -> Status {
        for (int32_t layer = 0; layer < model.sizes().layers; layer++) {
            states.layers_.emplace_back();
            for (const StateSpec & spec : model.states(layer)) {
                const Shape shape = whole_shape(spec, segments, capacity);
                states.layers_.back().push_back({shape, std::vector<float>(size_t(shape.elements()), 0.0f)});
            }
        }
        return {};
    });
    if (!status.ok())
        return fail(status.code(), "cannot allocate ", bytes_text(bytes(model, segments, capacity)),
                    " for the caches of ", capacity, " positions; ask for fewer");
    return states;
}

uint64_t TextStates::bytes(const TextModel & model, int64_t segments, int64_t capacity) {
    uint64_t sum = 0;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++)
        for (const StateSpec & spec : model.states(layer))
            sum += tensor_bytes(DType::f32, whole_shape(spec, segments, capacity));
    return sum;
}

void TextStates::reset() {
    for (std::vector<Entry> & layer : layers_)
        for (Entry & entry : layer) std::fill(entry.data.begin(), entry.data.end(), 0.0f);
}

Tensor TextStates::find(int32_t layer, int32_t index) const {
    const Entry & entry = layers_[size_t(layer)][size_t(index)];
    Tensor tensor;
    tensor.shape = entry.shape;
    tensor.data = const_cast<float *>(entry.data.data());
    return tensor;
}

} // namespace gnv
