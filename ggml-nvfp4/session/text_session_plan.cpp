// What a session needs memory for, and whether there is as much.
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

constexpr int64_t host_piece = 256;
// Of a device: the largest at which activations fit beside everything else. A text in more pieces is no other text.
constexpr int64_t device_pieces[] = {2048, 512, 128, 64};

Status TextSession::State::cut_groups() {
    stages.push_back({Stage{StageKind::embed}});
    for (int32_t layer = 0; layer < model().sizes().layers; layer++) stages.push_back(model().block_stages(layer));
    stages.push_back({Stage{StageKind::head}});
    for (const std::vector<Stage> & group : stages) {
        GNV_ASSIGN(WeightGroup planned, WeightGroup::plan(*variant.weights, weights_of(model(), group)));
        const uint64_t bytes = device_aligned(planned.bytes());
        weight_bytes += bytes;
        largest_group = std::max(largest_group, bytes);
        groups.push_back(std::move(planned));
    }
    return {};
}

BatchShape TextSession::State::shape_of(int64_t positions) const {
    BatchShape shape;
    shape.positions = positions;
    shape.segments = options.segments;
    shape.cached = true;
    shape.capacity = options.capacity;
    return shape;
}

BatchShape TextSession::State::largest_piece() const {
    return shape_of(std::min(2 * piece - 1, options.capacity) * options.segments);
}

uint64_t TextSession::State::hidden_bytes_of(const BatchShape & shape) const {
    return tensor_bytes(device->activation_dtype(), {shape.positions, model().sizes().hidden});
}

StageOptions TextSession::State::stage_options(bool all_logits) {
    StageOptions options;
    options.last_position_only = !all_logits;
    return options;
}

Result<uint64_t> TextSession::State::arena_bytes_of(const BatchShape & shape, StageRunner & runner) const {
    uint64_t needed = 0;
    for (const std::vector<Stage> & group : stages) {
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(variant, group, shape));
        needed = std::max(needed, bytes);
    }
    return needed;
}

uint64_t TextSession::State::device_bytes_with(uint64_t of_arena, uint64_t of_hidden, uint64_t of_inputs) const {
    return device_context_bytes + (stay ? weight_bytes : largest_group) +
           TextStates::bytes(model(), device->activation_dtype(), options.segments, options.capacity) + of_arena +
           of_hidden + of_inputs;
}

// In host memory activations are not part of the budget.
Status TextSession::State::choose_plan() {
    GNV_TRY(cut_groups());
    if (is_remote()) return choose_remote_plan();
    piece = host_piece;
    budget = options.ram_bytes > 0 ? options.ram_bytes : available_memory() / 5 * 4;
    const uint64_t caches = TextStates::bytes(model(), device->activation_dtype(), options.segments, options.capacity);
    if (largest_group + caches > budget)
        return fail(Code::out_of_memory, "a memory budget of ", bytes_text(budget),
                    " is too small to run this model with ", options.capacity, " positions: at least ",
                    largest_group + caches, " bytes and the activations are needed");
    stay = weight_bytes + caches <= budget;
    return {};
}

Status TextSession::State::choose_remote_plan() {
    if (device->activation_dtype() == DType::bf16 && variant.precision != Precision::bf16)
        return fail(Code::unsupported, device->device().name, " computes in BF16: use precision bf16, or the CPU");
    const uint64_t host_budget = options.ram_bytes > 0 ? options.ram_bytes : available_memory() / 5 * 4;
    if (largest_group > host_budget)
        return fail(Code::out_of_memory, "a memory budget of ", bytes_text(host_budget),
                    " is too small for the weights on their way to ", device->device().name, ": at least ",
                    largest_group, " bytes are needed");
    GNV_ASSIGN(const uint64_t available, device->free_bytes());
    budget = options.device_bytes > 0 ? std::min(options.device_bytes, available) : available;
    uint64_t smallest = UINT64_MAX;
    StageRunner planner(*device, stage_options(false));
    for (const bool all : {true, false}) {
        for (const int64_t positions : device_pieces) {
            stay = all;
            piece = positions;
            const BatchShape shape = largest_piece();
            GNV_ASSIGN(arena_bytes, arena_bytes_of(shape, planner));
            hidden_bytes = hidden_bytes_of(shape);
            const uint64_t needed = device_bytes_with(arena_bytes, hidden_bytes, DeviceInputs::bytes(shape));
            smallest = std::min(smallest, needed);
            if (needed <= budget) return {};
        }
    }
    return fail(Code::out_of_memory, "a budget of ", bytes_text(budget), " of the memory of ", device->device().name,
                " is too small to run this model with ", options.capacity, " positions: at least ", smallest,
                " bytes are needed");
}

Status TextSession::State::allocate() {
    constexpr size_t kept_shapes = 2; // a piece of a prompt, and single tokens
    for (const bool all_logits : {false, true})
        runners[all_logits].emplace(*device, stage_options(all_logits), kept_shapes * groups.size());
    const auto take = [&](uint64_t bytes, const char * what, DeviceMemory & to) -> Status {
        Result<DeviceMemory> memory = device->allocate(bytes);
        if (!memory.ok()) return memory.take_status().add_context(what);
        to = memory.take();
        return {};
    };
    GNV_ASSIGN(states, TextStates::create(model(), *device, options.segments, options.capacity));
    if (is_remote()) { // all of it is planned
        GNV_TRY(take(arena_bytes, "activations", arena));
        GNV_TRY(take(hidden_bytes, "hidden states", hidden));
        GNV_ASSIGN(inputs, DeviceInputs::create(*device, DeviceInputs::bytes(largest_piece())));
        GNV_TRY(inputs.allocate_host(*device));
        GNV_ASSIGN(reader, WeightReader::create(*device, largest_group, threads->size()));
    }
    weights.resize(stay ? groups.size() : 1);
    for (size_t g = 0; g < weights.size(); g++)
        GNV_TRY(take(stay ? groups[g].bytes() : largest_group, "weights", weights[g]));
    return stay ? load_weights() : Status();
}

Status TextSession::State::load_weights() {
    SessionLoad load = {0, 0, 0, groups.size()};
    for (const WeightGroup & group : groups) load.bytes_total += group.bytes();
    const auto tell = [&]() -> Status {
        const bool go_on = !options.on_load || options.on_load(load);
        return go_on ? Status() : Status(Code::cancelled, "stopped on request");
    };
    for (const WeightGroup & group : groups) {
        GNV_TRY(tell());
        GNV_TRY(bring(load.groups, tell));
        load.groups++;
        load.bytes += group.bytes();
    }
    GNV_TRY(tell());
    GNV_TRY(device->synchronize());
    reader.reset();
    return {};
}

// Arena, hidden states and inputs for a batch of this shape. Nothing is queued when it is called.
Status TextSession::State::make_room(const BatchShape & shape, bool all_logits) {
    const auto key = std::make_tuple(shape.positions, shape.masked, all_logits);
    if (roomy.count(key) > 0) return {};
    GNV_ASSIGN(const uint64_t arena_wanted, arena_bytes_of(shape, *runners[all_logits]));
    const uint64_t arena_needed = std::max(arena_wanted, arena_bytes);
    const uint64_t hidden_needed = std::max(hidden_bytes_of(shape), hidden_bytes);
    const uint64_t inputs_needed = std::max(DeviceInputs::bytes(shape), inputs.bytes());
    if (is_remote()) {
        const uint64_t needed = device_bytes_with(arena_needed, hidden_needed, inputs_needed);
        if (needed > budget)
            return fail(Code::out_of_memory, "a pass over ", shape.positions, " positions",
                        all_logits ? " with the logits of all" : "", " needs ", needed, " bytes of the memory of ",
                        device->device().name, ", the budget is ", budget, ": give the text in shorter pieces");
    }
    if (arena_needed > arena_bytes || !arena) {
        arena.reset();
        GNV_ASSIGN(arena, device->allocate(arena_needed));
        arena_bytes = arena_needed;
    }
    if (hidden_needed > hidden_bytes || !hidden) {
        hidden.reset();
        GNV_ASSIGN(hidden, device->allocate(hidden_needed));
        hidden_bytes = hidden_needed;
    }
    if (inputs_needed > inputs.bytes()) {
        GNV_ASSIGN(inputs, DeviceInputs::create(*device, inputs_needed));
        GNV_TRY(inputs.allocate_host(*device));
    }
    roomy.insert(key);
    return {};
}

} // namespace gnv
