#include "run/host_experts.h"

#include <algorithm>

namespace gnv {

// --- The plan -----------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<HostExperts>> HostExperts::plan(const TextModel & model, const WeightCatalog & catalog) {
    std::unique_ptr<HostExperts> made(new HostExperts(catalog));
    made->experts_ = model.sizes().experts, made->chosen_ = model.sizes().experts_per_token;
    if (made->experts_ == 0) return std::unique_ptr<HostExperts>();
    for (int32_t l = 0; l < model.sizes().layers; l++) {
        std::vector<WeightRef> refs;
        for (const Stage & stage : model.block_stages(l))
            if (stage.kind == StageKind::experts)
                for (const WeightRef & ref : model.stage_weights(stage))
                    if (is_stack_of_experts(ref)) refs.push_back(ref);
        Layer layer;
        GNV_ASSIGN(layer.group, WeightGroup::plan(catalog, refs));
        for (const WeightRef & ref : refs) {
            Stack stack;
            stack.ref = ref;
            GNV_ASSIGN(stack.spec, catalog.spec(ref));
            GNV_ASSIGN(const WeightParts parts, catalog.parts(ref));
            const Shape one = {stack.spec.shape[1], stack.spec.shape[2]};
            stack.expert_bytes = tensor_bytes(stack.spec.dtype, one);
            if (stack.spec.dtype == DType::f4) {
                const Format & format = *stack.spec.format;
                stack.scale_bytes = uint64_t(one.elements() / format.block);
                stack.global_bytes = parts.sections[size_t(format.unit_component())].bytes;
                if (stack.spec.has_input_scale())
                    stack.input_bytes = parts.sections[size_t(format.input_component())].bytes;
            }
            layer.stacks.push_back(std::move(stack));
        }
        made->largest_layer_ = std::max(made->largest_layer_, device_aligned(layer.group.bytes()));
        made->layers_.push_back(std::move(layer));
    }
    return made;
}

HostExperts::~HostExperts() {
    if (device_) (void)device_->synchronize(Queue::upload);
}

HostExperts::Places HostExperts::places_of(const Stack & stack, int64_t places) const {
    Places at = {};
    at.scales = device_aligned(uint64_t(places) * stack.expert_bytes);
    at.globals = at.scales + device_aligned(uint64_t(places) * stack.scale_bytes);
    at.inputs = at.globals + device_aligned(stack.global_bytes);
    at.end = at.inputs + device_aligned(stack.input_bytes);
    return at;
}

uint64_t HostExperts::table_bytes(int64_t places) const { return uint64_t(experts_ + places) * sizeof(int32_t); }

uint64_t HostExperts::layer_bytes(const Layer & layer, int64_t places) const {
    uint64_t bytes = device_aligned(table_bytes(places));
    for (const Stack & stack : layer.stacks) bytes += places_of(stack, places).end;
    return bytes;
}

uint64_t HostExperts::host_bytes() const {
    uint64_t bytes = 0;
    for (const Layer & layer : layers_) bytes += device_aligned(layer.group.bytes());
    return bytes;
}

uint64_t HostExperts::device_bytes(const Size & size) const {
    uint64_t bytes = uint64_t(size.buffers) * largest_layer_;
    for (const Layer & layer : layers_) bytes += layer_bytes(layer, size.places);
    return bytes;
}

HostExperts::Size HostExperts::size_within(uint64_t bytes, int64_t least) const {
    const int64_t many = std::max(least, experts_ / 4);
    Size size = {many, 2};
    if (device_bytes(size) > bytes) size = {least, 1};
    if (device_bytes(size) > bytes) return {0, 1};
    int64_t too_many = experts_ + 1;
    while (size.places + 1 < too_many) {
        const int64_t middle = size.places + (too_many - size.places) / 2;
        (device_bytes({middle, size.buffers}) <= bytes ? size.places : too_many) = middle;
    }
    return size;
}

int64_t HostExperts::places_for(const BatchShape & shape) const {
    const int64_t most = std::min(experts_, shape.positions * chosen_); // that the batch can choose
    return shape.has_few_rows() && most <= size_.places ? size_.places : 0;
}

// --- Memory -------------------------------------------------------------------------------------------------------------------

Status HostExperts::allocate(Backend & device) {
    device_ = &device;
    uint64_t bytes = 0;
    for (Layer & layer : layers_) {
        layer.table = bytes;
        bytes += device_aligned(table_bytes(size_.places));
        for (Stack & stack : layer.stacks) {
            stack.offset = bytes;
            bytes += places_of(stack, size_.places).end;
        }
    }
    Result<DeviceMemory> memory = device.allocate(bytes);
    if (!memory.ok()) return memory.take_status().add_context("cached experts");
    memory_ = memory.take();
    buffers_.resize(size_t(size_.buffers));
    for (Buffer & buffer : buffers_) {
        memory = device.allocate(largest_layer_);
        if (!memory.ok()) return memory.take_status().add_context("experts of a layer");
        buffer.memory = memory.take();
    }
    for (size_t l = 0; l < layers_.size(); l++)
        layers_[l].in_buffer = layers_[l].group.at(buffers_[l % buffers_.size()].memory.get());
    return {};
}

Status HostExperts::load(int32_t layer, const FolderFiles & files, ThreadPool & threads) {
    Layer & here = layers_[size_t(layer)];
    Result<HostMemory> memory = device_->allocate_host(here.group.bytes());
    if (!memory.ok()) return memory.take_status().add_context("experts in host memory");
    here.host = memory.take();
    here.group = here.group.at(here.host.get());
    GNV_TRY(here.group.read_all(catalog_, files, threads, device_->trace()));
    device_->clear(at(here.table), table_bytes(size_.places));
    for (const Stack & stack : here.stacks) {
        const Places parts = places_of(stack, size_.places);
        if (stack.global_bytes > 0)
            device_->upload(at(stack.offset + parts.globals), here.group.find(stack.ref).global_scales,
                            stack.global_bytes);
        if (stack.input_bytes > 0)
            device_->upload(at(stack.offset + parts.inputs), here.group.input_scale(stack.ref).data, stack.input_bytes);
    }
    return {};
}

// --- A pass -------------------------------------------------------------------------------------------------------------------

// All work that uses the buffer is queued: it is that of earlier layers.
void HostExperts::send(int32_t layer) {
    Buffer & buffer = buffers_[size_t(layer) % buffers_.size()];
    if (buffer.layer == layer) return;
    const Layer & here = layers_[size_t(layer)];
    device_->order(Queue::compute, Queue::upload);
    device_->upload(buffer.memory.get(), here.host.get(), here.group.bytes(), Queue::upload);
    buffer.arrived = device_->fence(Queue::upload);
    buffer.layer = layer;
}

const WeightGroup & HostExperts::bring(int32_t layer) {
    send(layer);
    device_->wait(Queue::compute, *buffers_[size_t(layer) % buffers_.size()].arrived);
    if (buffers_.size() > 1 && has(layer + 1)) send(layer + 1);
    return layers_[size_t(layer)].in_buffer;
}

const HostExperts::Stack * HostExperts::find_stack(const WeightRef & ref) const {
    if (!has(ref.layer)) return nullptr;
    for (const Stack & stack : layers_[size_t(ref.layer)].stacks)
        if (stack.ref.key() == ref.key()) return &stack;
    return nullptr;
}

bool HostExperts::holds(const WeightRef & ref) const { return find_stack(ref) != nullptr; }

const HostExperts::Stack & HostExperts::stack_of(const WeightRef & ref) const {
    const Stack * const stack = find_stack(ref);
    GNV_CHECK(stack != nullptr);
    return *stack;
}

Tensor HostExperts::find(const WeightRef & ref) const {
    Tensor tensor;
    if (ref.role == Role::extra) {
        tensor.dtype = DType::i32;
        tensor.shape = {experts_ + size_.places};
        tensor.data = at(layers_[size_t(ref.layer)].table);
        return tensor;
    }
    const Stack & stack = stack_of(ref);
    const Places parts = places_of(stack, size_.places);
    tensor.dtype = stack.spec.dtype;
    tensor.shape = {size_.places, stack.spec.shape[1], stack.spec.shape[2]};
    tensor.data = at(stack.offset + parts.codes);
    if (tensor.dtype != DType::f4) return tensor;
    tensor.block_scales = at(stack.offset + parts.scales);
    tensor.global_scales = reinterpret_cast<const float *>(at(stack.offset + parts.globals));
    tensor.global_scale_rows = tensor.shape[1];
    return tensor;
}

Tensor HostExperts::input_scale(const WeightRef & ref) const {
    const Stack & stack = stack_of(ref);
    Tensor tensor;
    tensor.shape = {experts_};
    tensor.data = at(stack.offset + places_of(stack, size_.places).inputs);
    return tensor;
}

} // namespace gnv
