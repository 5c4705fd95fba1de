#include "run/text_states.h"

#include <algorithm>

namespace gnv {

// [texts, ...] with the capacity filled in, or [pages, cache_page, ...]
static Shape whole_shape(const StateSpec & spec, const StateExtents & extents) {
    const bool paged = spec.grows_with_text && extents.pages > 0;
    Shape shape;
    shape.dims[shape.rank++] = paged ? extents.pages : extents.texts;
    for (int i = 0; i < spec.shape.rank; i++)
        shape.dims[shape.rank++] = spec.shape[i] >= 0 ? spec.shape[i] : paged ? cache_page : extents.capacity;
    return shape;
}

static DType dtype_of(const StateSpec & spec, DType activation) { return spec.is_activation ? activation : DType::f32; }

uint64_t TextStates::bytes(const TextModel & model, DType activation, const StateExtents & extents) {
    uint64_t sum = 0;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++)
        for (const StateSpec & spec : model.states(layer))
            sum += device_aligned(tensor_bytes(dtype_of(spec, activation), whole_shape(spec, extents)));
    return sum;
}

Result<TextStates> TextStates::create(const TextModel & model, Backend & device, const StateExtents & extents) {
    TextStates states;
    states.device_ = &device;
    states.extents_ = extents;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++) {
        states.layers_.emplace_back();
        for (const StateSpec & spec : model.states(layer)) {
            const Entry entry = {dtype_of(spec, device.activation_dtype()), whole_shape(spec, extents), states.bytes_,
                                 spec.grows_with_text};
            states.layers_.back().push_back(entry);
            states.bytes_ += device_aligned(tensor_bytes(entry.dtype, entry.shape));
        }
    }
    Result<DeviceMemory> memory = device.allocate(states.bytes_);
    if (!memory.ok())
        return fail(memory.status().code(), "caches of ",
                    extents.pages > 0 ? extents.pages * cache_page : extents.capacity,
                    " positions: ", memory.status().message(), "; ask for fewer positions");
    states.memory_ = memory.take();
    if (extents.pages == 0) states.reset(); // with pages a text clears its own when it begins
    return states;
}

void TextStates::reset() { device_->clear(memory_.get(), bytes_); }

Tensor TextStates::find(int32_t layer, int32_t index) const {
    const Entry & entry = layers_[size_t(layer)][size_t(index)];
    Tensor tensor;
    tensor.dtype = entry.dtype;
    tensor.shape = entry.shape;
    tensor.data = at(entry);
    return tensor;
}

// --- Of states with pages -----------------------------------------------------------------------------------------------------

// Bytes of one of the first extent: of a text, or of a page.
static uint64_t bytes_of_one(DType dtype, Shape shape) {
    shape.dims[0] = 1;
    return tensor_bytes(dtype, shape);
}

void TextStates::clear_entry(int64_t text) {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (!entry.grows) device_->clear(at(entry) + uint64_t(text) * bytes, bytes);
    });
}

void TextStates::copy_entry(int64_t to, int64_t from) {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (!entry.grows) device_->copy(at(entry) + uint64_t(to) * bytes, at(entry) + uint64_t(from) * bytes, bytes);
    });
}

void TextStates::copy_page(int64_t to, int64_t from) {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (entry.grows) device_->copy(at(entry) + uint64_t(to) * bytes, at(entry) + uint64_t(from) * bytes, bytes);
    });
}

template <class Visit>
void TextStates::for_text(int64_t text, std::span<const int32_t> pages, int64_t positions, const Visit & visit) const {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (!entry.grows) return visit(at(entry) + uint64_t(text) * bytes, bytes);
        for (int64_t first = 0; first < positions; first += cache_page) {
            const int64_t count = std::min(cache_page, positions - first);
            visit(at(entry) + uint64_t(pages[size_t(first / cache_page)]) * bytes,
                  bytes / uint64_t(cache_page) * uint64_t(count));
        }
    });
}

uint64_t TextStates::text_bytes(int64_t positions) const {
    uint64_t sum = 0;
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        sum += entry.grows ? bytes / uint64_t(cache_page) * uint64_t(positions) : bytes;
    });
    return sum;
}

void TextStates::download(void * to, int64_t text, std::span<const int32_t> pages, int64_t positions) const {
    auto * next = static_cast<uint8_t *>(to);
    for_text(text, pages, positions, [&](const uint8_t * place, uint64_t bytes) {
        device_->download(next, place, bytes);
        next += bytes;
    });
}

void TextStates::upload(const void * from, int64_t text, std::span<const int32_t> pages, int64_t positions) {
    const auto * next = static_cast<const uint8_t *>(from);
    for_text(text, pages, positions, [&](uint8_t * place, uint64_t bytes) {
        device_->upload(place, next, bytes);
        next += bytes;
    });
}

} // namespace gnv
