#include "run/text_states.h"

#include "core/serial.h"

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

static DType dtype_of(const StateSpec & spec, DType activation) { return spec.is_activation ? activation : spec.dtype; }

uint64_t TextStates::layer_bytes(const std::vector<StateSpec> & layer, DType activation, const StateExtents & extents) {
    uint64_t sum = 0;
    for (const StateSpec & spec : layer)
        sum += device_aligned(tensor_bytes(dtype_of(spec, activation), whole_shape(spec, extents)));
    return sum;
}

TextStates::Specs TextStates::specs_of(const TextModel & model, CacheType cache) {
    Specs specs;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++) specs.push_back(model.states(layer, cache));
    return specs;
}

TextStates::Specs TextStates::fixed_specs_of(const TextModel & model) {
    Specs specs = specs_of(model, CacheType::activations); // of what grows
    for (std::vector<StateSpec> & layer : specs)
        std::erase_if(layer, [](const StateSpec & s) { return s.grows_with_text; });
    return specs;
}

TextStates::Specs TextStates::replayed_specs_of(const TextModel & model) {
    Specs specs;
    for (int32_t layer = 0; layer < model.sizes().layers; layer++) specs.push_back(model.replayed(layer));
    return specs;
}

uint64_t TextStates::bytes(const Specs & specs, DType activation, const StateExtents & extents) {
    uint64_t sum = 0;
    for (const std::vector<StateSpec> & layer : specs) sum += layer_bytes(layer, activation, extents);
    return sum;
}

Result<TextStates> TextStates::create(const Specs & specs, const std::vector<Backend *> & devices,
                                      const StateExtents & extents) {
    GNV_CHECK(devices.size() == specs.size());
    TextStates states;
    states.serial_ = next_serial();
    states.extents_ = extents;
    for (size_t layer = 0; layer < specs.size(); layer++) {
        Backend * const device = devices[layer];
        if (states.blocks_.empty() || states.blocks_.back().device != device) states.blocks_.push_back({device, {}});
        Block & block = states.blocks_.back();
        states.layers_.emplace_back();
        for (const StateSpec & spec : specs[layer]) {
            const Entry entry = {dtype_of(spec, device->activation_dtype()), whole_shape(spec, extents),
                                 states.blocks_.size() - 1, 0, spec.grows_with_text};
            states.layers_.back().push_back(entry);
            if (!entry.grows) block.fixed_bytes += device_aligned(tensor_bytes(entry.dtype, entry.shape));
        }
    }
    for (Block & block : states.blocks_) block.bytes = block.fixed_bytes;
    std::vector<uint64_t> fixed_so_far(states.blocks_.size());
    for (std::vector<Entry> & layer : states.layers_)
        for (Entry & entry : layer) {
            uint64_t & end = entry.grows ? states.blocks_[entry.block].bytes : fixed_so_far[entry.block];
            entry.offset = end;
            end += device_aligned(tensor_bytes(entry.dtype, entry.shape));
        }
    for (Block & block : states.blocks_) {
        Result<DeviceMemory> memory = block.device->allocate(block.bytes);
        if (!memory.ok())
            return fail(memory.status().code(), "caches of ",
                        extents.pages > 0 ? extents.pages * cache_page : extents.capacity,
                        " positions: ", memory.status().message(), "; ask for fewer positions");
        block.memory = memory.take();
    }
    if (extents.pages == 0) states.reset(); // with pages a text clears its own when it begins
    return states;
}

void TextStates::reset() {
    for (const Block & block : blocks_) block.device->clear(block.memory.get(), block.bytes);
}

void TextStates::copy_fixed(const TextStates & from) {
    GNV_CHECK(blocks_.size() == from.blocks_.size());
    for (size_t b = 0; b < blocks_.size(); b++) {
        GNV_CHECK(blocks_[b].fixed_bytes == from.blocks_[b].fixed_bytes);
        blocks_[b].device->copy(blocks_[b].memory.get(), from.blocks_[b].memory.get(), blocks_[b].fixed_bytes);
    }
}

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
        if (!entry.grows) device_of(entry).clear(at(entry) + uint64_t(text) * bytes, bytes);
    });
}

void TextStates::copy_entry(int64_t to, int64_t from) {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (!entry.grows)
            device_of(entry).copy(at(entry) + uint64_t(to) * bytes, at(entry) + uint64_t(from) * bytes, bytes);
    });
}

void TextStates::copy_fixed(int64_t to, const TextStates & from, int64_t from_text) {
    GNV_CHECK(layers_.size() == from.layers_.size());
    for (size_t layer = 0; layer < layers_.size(); layer++) {
        auto source = from.layers_[layer].begin();
        for (const Entry & entry : layers_[layer]) {
            if (entry.grows) continue;
            while (source != from.layers_[layer].end() && source->grows) ++source;
            GNV_CHECK(source != from.layers_[layer].end());
            const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
            GNV_CHECK(bytes == bytes_of_one(source->dtype, source->shape));
            device_of(entry).copy(at(entry) + uint64_t(to) * bytes, from.at(*source) + uint64_t(from_text) * bytes,
                                  bytes);
            ++source;
        }
    }
}

void TextStates::copy_page(int64_t to, int64_t from) {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (entry.grows)
            device_of(entry).copy(at(entry) + uint64_t(to) * bytes, at(entry) + uint64_t(from) * bytes, bytes);
    });
}

template <class Visit>
void TextStates::for_text(int64_t text, std::span<const int32_t> pages, int64_t positions, const Visit & visit) const {
    for_each([&](const Entry & entry) {
        const uint64_t bytes = bytes_of_one(entry.dtype, entry.shape);
        if (!entry.grows) return visit(device_of(entry), at(entry) + uint64_t(text) * bytes, bytes);
        for (int64_t first = 0; first < positions; first += cache_page) {
            const int64_t count = std::min(cache_page, positions - first);
            visit(device_of(entry), at(entry) + uint64_t(pages[size_t(first / cache_page)]) * bytes,
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
    for_text(text, pages, positions, [&](Backend & device, const uint8_t * place, uint64_t bytes) {
        device.download(next, place, bytes);
        next += bytes;
    });
}

void TextStates::upload(const void * from, int64_t text, std::span<const int32_t> pages, int64_t positions) {
    const auto * next = static_cast<const uint8_t *>(from);
    for_text(text, pages, positions, [&](Backend & device, uint8_t * place, uint64_t bytes) {
        device.upload(place, next, bytes);
        next += bytes;
    });
}

} // namespace gnv
