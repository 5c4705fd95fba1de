// The plan of a session's memory.
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

constexpr size_t kept_shapes = 2; // a piece of a prompt, and single tokens
constexpr size_t kept_steps = 64; // numbers of texts of the pool that go on together
constexpr int64_t host_piece = 256;
// The largest piece for which a device's activations fit beside everything else. Splitting a text into pieces does not
// change the result.
constexpr int64_t device_pieces[] = {8192, 2048, 512, 128, 64};

Status TextSession::State::cut_groups() {
    stages.push_back({embed_stage(model())});
    for (int32_t layer = 0; layer < model().sizes().layers; layer++) stages.push_back(model().block_stages(layer));
    stages.push_back({head_stage(model())});
    for (const std::vector<Stage> & group : stages) {
        GNV_ASSIGN(WeightGroup planned, WeightGroup::plan(*variant.weights, weights_of(model(), group)));
        const uint64_t bytes = device_aligned(planned.bytes());
        weight_bytes += bytes;
        largest_group = std::max(largest_group, bytes);
        groups.push_back(std::move(planned));
    }
    StageOptions largest = stage_options(false);
    largest.largest_logit = true;
    largest_runner.emplace(*device, largest, kept_shapes);
    pool_largest.emplace(*device, largest, kept_steps);
    StageOptions embeds = stage_options(false);
    embeds.embeds = true;
    pool_embeds.emplace(*device, embeds, kept_shapes);
    return {};
}

StateExtents TextSession::State::own_extents() const { return {options.segments, options.capacity, 0}; }

StateExtents TextSession::State::pool_extents() const {
    return TextPool::extents(options.pool_texts, options.pool_positions, options.capacity);
}

BatchShape TextSession::State::pool_shape(int64_t positions, int64_t segments) const {
    const StateExtents extents = pool_extents();
    BatchShape shape;
    shape.positions = positions;
    shape.segments = segments;
    shape.cached = true;
    shape.capacity = extents.capacity;
    shape.slots = extents.texts;
    shape.pages = extents.pages;
    return shape;
}

std::vector<BatchShape> TextSession::State::planned_shapes() const {
    std::vector<BatchShape> shapes = {largest_piece()};
    if (options.pool_texts == 0) return shapes;
    const int64_t texts = options.pool_texts, positions = std::max(piece + 1, int64_t(2));
    shapes.push_back(pool_shape(texts, texts));
    shapes.push_back(pool_shape(positions, std::min(texts, positions / 2)));
    return shapes;
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

Result<uint64_t> TextSession::State::arena_bytes_of(const BatchShape & shape, StageRunner & runner) {
    GNV_ASSIGN(uint64_t needed, largest_runner->arena_bytes(variant, stages.back(), shape));
    for (const std::vector<Stage> & group : stages) {
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(variant, group, shape));
        needed = std::max(needed, bytes);
    }
    return needed;
}

Budget TextSession::State::with(uint64_t of_arena, uint64_t of_hidden, uint64_t of_inputs) const {
    Budget all = budget;
    all.reserve("driver, libraries", device_context_bytes);
    all.reserve("weights", stay ? weight_bytes : largest_group);
    all.reserve("caches", TextStates::bytes(model(), device->activation_dtype(), own_extents()));
    if (options.pool_texts > 0)
        all.reserve("caches of texts", TextStates::bytes(model(), device->activation_dtype(), pool_extents()));
    all.reserve("activations", of_arena + of_hidden);
    all.reserve("inputs", of_inputs + device_aligned(uint64_t(model().sizes().vocabulary))); // the ids that are allowed
    return all;
}

// In host memory activations are not part of the budget.
Status TextSession::State::choose_host_plan(const std::string & purpose) {
    piece = host_piece;
    budget = Budget::of_host(options.ram_bytes);
    budget.reserve("caches", TextStates::bytes(model(), device->activation_dtype(), own_extents()));
    if (options.pool_texts > 0)
        budget.reserve("caches of texts", TextStates::bytes(model(), device->activation_dtype(), pool_extents()));
    stay = weight_bytes <= budget.left();
    budget.reserve("weights", stay ? weight_bytes : largest_group);
    if (budget.fits()) return {};
    return Status(Code::out_of_memory, concat(budget.refusal(purpose, budget.used()), ", and the activations"));
}

Status TextSession::State::choose_plan() {
    GNV_TRY(cut_groups());
    const std::string purpose = concat("to run this model with ", options.capacity, " positions");
    if (upload->aliases()) return choose_host_plan(purpose);
    const std::string & name = device->device().name;
    if (device->activation_dtype() == DType::bf16 && variant.precision != Precision::bf16)
        return fail(Code::unsupported, name, " computes in BF16: use precision bf16, or the CPU");
    const Budget host = Budget::of_host(options.ram_bytes);
    if (largest_group > host.total())
        return Status(Code::out_of_memory, host.refusal("for the weights on their way to " + name, largest_group));
    GNV_ASSIGN(const uint64_t available, device->free_bytes());
    budget = options.device_bytes;
    budget.limit(available, name);
    uint64_t smallest = UINT64_MAX;
    StageRunner planner(*device, stage_options(false));
    for (const bool all : {true, false}) {
        for (const int64_t positions : device_pieces) {
            stay = all;
            piece = positions;
            uint64_t inputs_bytes = arena_bytes = hidden_bytes = 0;
            for (const BatchShape & shape : planned_shapes()) {
                GNV_ASSIGN(const uint64_t bytes, arena_bytes_of(shape, planner));
                arena_bytes = std::max(arena_bytes, bytes);
                hidden_bytes = std::max(hidden_bytes, hidden_bytes_of(shape));
                inputs_bytes = std::max(inputs_bytes, LaneInputs::bytes(shape));
            }
            const Budget needed = with(arena_bytes, hidden_bytes, inputs_bytes);
            smallest = std::min(smallest, needed.used());
            if (needed.fits()) return {};
        }
    }
    return Status(Code::out_of_memory, budget.refusal(purpose, smallest));
}

Status TextSession::State::allocate() {
    for (const bool all_logits : {false, true})
        runners[all_logits].emplace(*device, stage_options(all_logits), kept_shapes * groups.size());
    const auto take = [&](uint64_t bytes, const char * what, DeviceMemory & to) -> Status {
        Result<DeviceMemory> memory = device->allocate(bytes);
        if (!memory.ok()) return memory.take_status().add_context(what);
        to = memory.take();
        return {};
    };
    for (const bool is_step : {false, true})
        for (size_t g = 0; g < groups.size(); g++)
            pool_runners[is_step].push_back(
                std::make_unique<StageRunner>(*device, stage_options(false), is_step ? kept_steps : kept_shapes));
    GNV_ASSIGN(states, TextStates::create(model(), *device, own_extents()));
    if (options.pool_texts > 0) {
        GNV_ASSIGN(pool, TextPool::create(model(), *device, pool_extents()));
    }
    next_position.assign(size_t(options.segments), 0);
    const bool aliases = upload->aliases();
    if (!aliases) { // all of its memory is planned
        GNV_TRY(take(arena_bytes, "activations", arena));
        GNV_TRY(take(hidden_bytes, "hidden states", hidden));
        uint64_t inputs_bytes = 0;
        for (const BatchShape & shape : planned_shapes())
            inputs_bytes = std::max(inputs_bytes, LaneInputs::bytes(shape));
        GNV_ASSIGN(inputs, LaneInputs::create(*device, inputs_bytes));
        GNV_TRY(inputs.allocate_host(*device));
    }
    const WeightStream::Size size = {aliases ? 0 : largest_group, aliases ? 0 : threads->size()};
    GNV_ASSIGN(stream, WeightStream::create(*device, size, aliases ? threads : nullptr));
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
    upload = std::make_unique<WeightUpload>(*device); // the last copy from the stream's buffer ends
    stream.reset();
    return {};
}

// Arena, hidden states and inputs for a batch of this shape. The queues must be empty.
Status TextSession::State::make_room(const BatchShape & shape, bool all_logits) {
    const auto key = std::make_tuple(shape.positions, shape.masked, shape.given_rows > 0, all_logits);
    if (roomy.count(key) > 0) return {};
    GNV_ASSIGN(const uint64_t arena_wanted, arena_bytes_of(shape, *runners[all_logits]));
    GNV_TRY(grow(shape, arena_wanted, all_logits ? " with the logits of all" : ""));
    roomy.insert(key);
    return {};
}

Status TextSession::State::grow(const BatchShape & shape, uint64_t arena_wanted, const char * what) {
    const uint64_t arena_needed = std::max(arena_wanted, arena_bytes);
    const uint64_t hidden_needed = std::max(hidden_bytes_of(shape), hidden_bytes);
    BatchShape with_given = shape;
    if (shape.given_rows > 0) with_given.given_rows = shape.positions; // any number of rows
    const uint64_t inputs_needed = std::max(LaneInputs::bytes(with_given), inputs.bytes());
    const Budget needed = with(arena_needed, hidden_needed, inputs_needed);
    if (!upload->aliases() && !needed.fits())
        return fail(Code::out_of_memory, "a pass over ", shape.positions, " positions", what, " needs ", needed.used(),
                    " bytes of the memory of ", device->device().name, ", the budget is ", needed.total(),
                    ": give the text in shorter pieces");
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
        GNV_ASSIGN(inputs, LaneInputs::create(*device, inputs_needed));
        GNV_TRY(inputs.allocate_host(*device));
    }
    return {};
}

} // namespace gnv
