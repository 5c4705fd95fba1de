// Experts in host memory, for a device that has room for all other weights of a model.
//
//   host memory                     all experts of a layer, as a group of weights; the device reads it (Backend::reads_host)
//   memory of the device, a layer   scales of all experts; a cache of the experts that are chosen most, and its table
//   memory of the device            one or two buffers of a whole layer
//
// A step over few positions brings the experts that it chooses to the cache (graph/ops.h: expert_fetch). A kernel does that, so
// that no thread waits for a choice and the step stays one recording. A pass over many positions needs nearly all experts: it
// copies a layer to a buffer, with two of them beside the work with the layer before.
#pragma once

#include "model/text_model.h"
#include "run/weight_group.h"

#include <memory>
#include <vector>

namespace gnv {

inline bool is_stack_of_experts(const WeightRef & ref) { return ref.expert_count > 0; }

class HostExperts {
  public:
    // The experts of all layers; reads nothing. Null: the model has none.
    static Result<std::unique_ptr<HostExperts>> plan(const TextModel & model, const WeightCatalog & catalog);
    ~HostExperts();
    HostExperts(const HostExperts &) = delete;
    HostExperts & operator=(const HostExperts &) = delete;

    // --- The plan.

    struct Size {
        int64_t places = 0; // of each layer's cache
        int64_t buffers = 1;
    };
    int64_t experts() const { return experts_; } // of a layer
    uint64_t host_bytes() const;
    uint64_t device_bytes(const Size & size) const;
    // The size that takes at most so many bytes of the device's memory: with two buffers where many experts fit besides. No
    // places: there is no room for `least` of them.
    Size size_within(uint64_t bytes, int64_t least) const;
    void set_size(const Size & size) { size_ = size; }
    const Size & size() const { return size_; }
    // The places with which a batch runs (BatchShape::expert_places); 0: it takes whole layers.
    int64_t places_for(const BatchShape & shape) const;

    // --- Memory.

    Status allocate(Backend & device); // that of the device
    // Gets host memory for a layer's experts and reads them.
    Status load(int32_t layer, const FolderFiles & files, ThreadPool & threads);

    // --- A pass.

    bool has(int32_t layer) const { return layer >= 0 && size_t(layer) < layers_.size(); }
    const WeightGroup & in_host(int32_t layer) const { return layers_[size_t(layer)].group; }
    // Queues the copy of a layer to a buffer; computation that is queued later finds it there.
    const WeightGroup & bring(int32_t layer);
    bool holds(const WeightRef & ref) const; // a stack of experts
    // The cache of a stack [places, N, K], whose global scales are those of all experts; without a role the layer's table.
    Tensor find(const WeightRef & ref) const;
    Tensor input_scale(const WeightRef & ref) const; // F32 [E]

  private:
    struct Stack { // of the experts' weights of one role
        WeightRef ref;
        WeightSpec spec;
        uint64_t expert_bytes = 0, scale_bytes = 0; // of one expert: codes or numbers; block scales
        uint64_t global_bytes = 0, input_bytes = 0; // of all
        uint64_t offset = 0;                        // in memory_
    };
    struct Layer {
        WeightGroup group; // in host memory, once it is loaded
        HostMemory host;
        WeightGroup in_buffer;
        std::vector<Stack> stacks;
        uint64_t table = 0; // offset in memory_
    };
    struct Buffer {
        DeviceMemory memory;
        int32_t layer = -1;
        std::unique_ptr<Fence> arrived;
    };
    // Where the parts of a stack lie behind its offset.
    struct Places {
        uint64_t codes, scales, globals, inputs, end;
    };
    Places places_of(const Stack & stack, int64_t places) const;
    uint64_t table_bytes(int64_t places) const;
    uint64_t layer_bytes(const Layer & layer, int64_t places) const;
    const Stack * find_stack(const WeightRef & ref) const; // null: none
    const Stack & stack_of(const WeightRef & ref) const;
    uint8_t * at(uint64_t offset) const { return static_cast<uint8_t *>(memory_.get()) + offset; }
    void send(int32_t layer);

    HostExperts(const WeightCatalog & catalog) : catalog_(catalog) {}
    const WeightCatalog & catalog_;
    Backend * device_ = nullptr;
    int64_t experts_ = 0, chosen_ = 0; // of a layer, of a position
    uint64_t largest_layer_ = 0;
    Size size_;
    std::vector<Layer> layers_;
    DeviceMemory memory_;
    std::vector<Buffer> buffers_;
};

} // namespace gnv
