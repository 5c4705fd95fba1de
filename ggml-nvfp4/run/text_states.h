// The caches of texts (keys and values, convolution, Gated DeltaNet): state tensors of graphs in one block of memory of each
// device that runs layers.
#pragma once

#include "core/tensor.h"
#include "exec/backend.h"
#include "model/text_model.h"

#include <span>
#include <vector>

namespace gnv {

// The extents of states.
struct StateExtents {
    int64_t texts = 1;    // entries of states that do not grow
    int64_t capacity = 0; // positions of the caches of attention, of each text; unless there are pages:
    int64_t pages = 0;    // of cache_page positions, in all of a cache; 0: each text has its own capacity
};

class TextStates {
  public:
    using Specs = std::vector<std::vector<StateSpec>>; // of each layer
    // `devices`: of each layer; consecutive layers of one device share a block.
    static Result<TextStates> create(const Specs & specs, const std::vector<Backend *> & devices,
                                     const StateExtents & extents);
    static Result<TextStates> create(const Specs & specs, Backend & device, const StateExtents & extents) {
        return create(specs, std::vector<Backend *>(specs.size(), &device), extents);
    }
    // `activation`: the dtype of the device's activations.
    static uint64_t bytes(const Specs & specs, DType activation, const StateExtents & extents);
    static uint64_t layer_bytes(const std::vector<StateSpec> & layer, DType activation, const StateExtents & extents);
    static Specs specs_of(const TextModel & model, CacheType cache);
    // What has a place for each text and cannot be cut back: states that do not grow.
    static Specs fixed_specs_of(const TextModel & model);
    static Specs replayed_specs_of(const TextModel & model);
    void reset(); // queued: all texts to their start
    Tensor find(int32_t layer, int32_t index) const;
    uint64_t serial() const { return serial_; } // its tensors stay where they are
    const StateExtents & extents() const { return extents_; }
    // Copies the states of `from` that do not grow: one of both has fixed_specs_of() the model of the other, on the same devices.
    void copy_fixed(const TextStates & from); // queued
    // The same of one text each.
    void copy_fixed(int64_t to, const TextStates & from, int64_t from_text);

    // --- Of states with pages. All work is queued.

    void clear_entry(int64_t text); // to the start of a text
    void copy_entry(int64_t to, int64_t from);
    void copy_page(int64_t to, int64_t from);
    // A text of `positions`, whose caches lie in `pages`, as one block of host memory, and back.
    uint64_t text_bytes(int64_t positions) const;
    void download(void * to, int64_t text, std::span<const int32_t> pages, int64_t positions) const;
    void upload(const void * from, int64_t text, std::span<const int32_t> pages, int64_t positions);

  private:
    struct Block { // of a device
        Backend * device = nullptr;
        DeviceMemory memory;
        uint64_t bytes = 0, fixed_bytes = 0; // all, and those of states that do not grow, which lie first
    };
    struct Entry {
        DType dtype = DType::f32;
        Shape shape;
        size_t block = 0;
        uint64_t offset = 0; // in the block
        bool grows = false;
    };
    Backend & device_of(const Entry & entry) const { return *blocks_[entry.block].device; }
    uint8_t * at(const Entry & entry) const {
        return static_cast<uint8_t *>(blocks_[entry.block].memory.get()) + entry.offset;
    }
    // Calls visit(entry) for every state.
    template <class Visit>
    void for_each(const Visit & visit) const {
        for (const std::vector<Entry> & layer : layers_)
            for (const Entry & entry : layer) visit(entry);
    }
    // Calls visit(device, place, bytes) for the pieces of a text in the order of its block of host memory.
    template <class Visit>
    void for_text(int64_t text, std::span<const int32_t> pages, int64_t positions, const Visit & visit) const;

    uint64_t serial_ = 0;
    StateExtents extents_;
    std::vector<std::vector<Entry>> layers_;
    std::vector<Block> blocks_;
};

} // namespace gnv
