// The plan of a session's memory.
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

constexpr size_t kept_shapes = 2;      // a piece of a prompt, and single tokens
constexpr size_t kept_with_drafts = 6; // and passes ahead of several lengths
constexpr size_t kept_steps = 64;      // numbers of texts of the pool that go on together
constexpr int64_t host_piece = 256;
// The largest piece for which a device's activations fit beside everything else. Splitting a text into pieces does not
// change the result.
constexpr int64_t device_pieces[] = {8192, 2048, 512, 128, 64};

Status TextSession::State::cut_groups() {
    stages = {{embed_stage(model())}};
    for (int32_t layer = 0; layer < model().sizes().layers; layer++) stages.push_back(model().block_stages(layer));
    stages.push_back({head_stage(model())});
    groups.clear();
    weight_bytes = largest_group = 0;
    for (const std::vector<Stage> & group : stages) {
        std::vector<WeightRef> refs = weights_of(model(), group);
        if (experts) std::erase_if(refs, is_stack_of_experts);
        GNV_ASSIGN(WeightGroup planned, WeightGroup::plan(*variant.weights, refs));
        const uint64_t bytes = device_aligned(planned.bytes());
        const bool on_device = !is_in_host(groups.size());
        if (on_device) weight_bytes += bytes;
        if (on_device) largest_group = std::max(largest_group, bytes);
        groups.push_back(std::move(planned));
    }
    return {};
}

// They run on the device with the head.
void TextSession::State::make_head_runners() {
    const auto make = [&](bool StageOptions::*result, std::optional<StageRunner> & of_text,
                          std::optional<StageRunner> & of_pool) {
        StageOptions of_head = stage_options(false);
        of_head.*result = true;
        of_text.emplace(*last().device, of_head, kept_shapes);
        of_pool.emplace(*last().device, of_head, kept_steps);
    };
    make(&StageOptions::largest_logit, largest_runner, pool_largest);
    make(&StageOptions::top_logits, top_runner, pool_top);
    make(&StageOptions::draws, draw_runner, pool_draw);
    StageOptions embeds = stage_options(false);
    embeds.embeds = true;
    pool_embeds.emplace(*last().device, embeds, kept_shapes);
}

StateExtents TextSession::State::own_extents() const { return {options.segments, options.capacity, 0}; }

StateExtents TextSession::State::pool_extents() const {
    return TextPool::extents(options.pool_texts, options.pool_positions, options.capacity);
}

BatchShape TextSession::State::shape_in(const StateExtents & extents, int64_t positions, int64_t segments) const {
    BatchShape shape;
    shape.positions = positions;
    shape.segments = segments;
    shape.cached = true;
    shape.capacity = extents.capacity;
    shape.cache = options.cache;
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
    shape.cache = options.cache;
    return shape;
}

BatchShape TextSession::State::largest_piece() const {
    return shape_of(std::min(2 * piece - 1, options.capacity) * options.segments);
}

uint64_t TextSession::State::hidden_bytes_of(const BatchShape & shape) const {
    return tensor_bytes(device().activation_dtype(), {shape.positions, model().sizes().hidden});
}

StageOptions TextSession::State::stage_options(bool all_logits) {
    StageOptions options;
    options.last_position_only = !all_logits;
    return options;
}

Result<uint64_t> TextSession::State::arena_bytes_of(const BatchShape & shape,
                                                    const std::function<StageRunner &(size_t)> & runner_of) {
    GNV_ASSIGN(uint64_t needed, largest_runner->arena_bytes(variant, stages.back(), shape));
    if (!aliases()) {
        for (StageRunner * const runner : {&*top_runner, &*draw_runner}) {
            GNV_ASSIGN(const uint64_t bytes, runner->arena_bytes(variant, stages.back(), shape));
            needed = std::max(needed, bytes);
        }
    }
    for (size_t g = 0; g < stages.size(); g++) {
        GNV_ASSIGN(const uint64_t bytes, runner_of(g).arena_bytes(variant, stages[g], shape_on(g, shape)));
        needed = std::max(needed, bytes);
    }
    return needed;
}

uint64_t TextSession::State::cache_bytes(size_t group, const StateExtents & extents) const {
    if (group == 0 || group + 1 == groups.size()) return 0; // embedding, head
    return TextStates::layer_bytes(model().states(int32_t(group) - 1, options.cache), device().activation_dtype(),
                                   extents);
}

void TextSession::State::take_groups(SessionPlace & place, size_t first, size_t end) const {
    place.first = first, place.end = end;
    place.weight_bytes = place.cache_bytes = place.pool_bytes = 0;
    for (size_t g = first; g < end; g++) {
        if (!is_in_host(g)) place.weight_bytes += device_aligned(groups[g].bytes());
        place.cache_bytes += cache_bytes(g, own_extents());
        if (options.pool_texts > 0) place.pool_bytes += cache_bytes(g, pool_extents());
    }
}

bool TextSession::State::divide_groups() {
    // Consecutive groups for each device, up to a share of what its budget leaves for them. False: some are left.
    const auto fill = [&](double share) {
        size_t next_group = 0;
        for (SessionPlace & place : places) {
            const uint64_t left = with(place, arena_bytes, hidden_bytes, inputs_bytes).left();
            size_t end = next_group;
            for (; end < groups.size(); end++) {
                take_groups(place, next_group, end + 1);
                if (double(place.weight_bytes + place.cache_bytes + place.pool_bytes) > share * double(left)) break;
            }
            take_groups(place, next_group, end);
            next_group = end;
        }
        return next_group == groups.size();
    };
    if (!fill(1)) return false;
    double low = 0, high = 1;
    for (int step = 0; step < 20; step++) {
        const double middle = (low + high) / 2;
        (fill(middle) ? high : low) = middle;
    }
    return fill(high);
}

std::vector<Backend *> TextSession::State::layer_devices() const {
    std::vector<Backend *> list;
    for (const SessionPlace & place : places)
        for (size_t g = place.first; g < place.end; g++)
            if (g > 0 && g + 1 < groups.size()) list.push_back(place.device);
    return list;
}

Budget TextSession::State::with(const SessionPlace & place, uint64_t of_arena, uint64_t of_hidden,
                                uint64_t of_inputs) const {
    Budget all = place.budget;
    all.reserve("driver, libraries", device_context_bytes);
    all.reserve("activations", of_arena + of_hidden);
    all.reserve("inputs", of_inputs + device_aligned(uint64_t(model().sizes().vocabulary))); // the ids that are allowed
    return all;
}

Budget TextSession::State::with_groups(const SessionPlace & place, uint64_t of_arena, uint64_t of_hidden,
                                       uint64_t of_inputs) const {
    Budget all = with(place, of_arena, of_hidden, of_inputs);
    all.reserve("weights", stay ? place.weight_bytes : largest_group);
    if (experts) all.reserve("experts", experts->device_bytes(experts->size()));
    all.reserve("caches", place.cache_bytes);
    if (options.pool_texts > 0) all.reserve("caches of texts", place.pool_bytes);
    if (drafting) all.reserve("draft head", drafting->bytes);
    if (pool_drafting) all.reserve("drafting of texts", pool_drafting->bytes);
    return all;
}

// In host memory activations are not part of the budget.
Status TextSession::State::choose_host_plan(const std::string & purpose) {
    piece = host_piece;
    SessionPlace & place = places.front();
    take_groups(place, 0, groups.size());
    place.budget = Budget::of_host(options.ram_bytes);
    place.budget.reserve("caches", place.cache_bytes);
    if (options.pool_texts > 0) place.budget.reserve("caches of texts", place.pool_bytes);
    if (options.draft) {
        GNV_TRY(plan_drafting());
        place.budget.reserve("draft head", drafting->bytes);
    }
    if (options.pool_drafts > 0) {
        GNV_TRY(plan_pool_drafting());
        place.budget.reserve("drafting of texts", pool_drafting->bytes);
    }
    stay = options.draft || weight_bytes <= place.budget.left();
    place.budget.reserve("weights", stay ? weight_bytes : largest_group);
    if (place.budget.fits()) return {};
    return Status(Code::out_of_memory,
                  concat(place.budget.refusal(purpose, place.budget.used()), ", and the activations"));
}

Status TextSession::State::choose_plan() {
    GNV_TRY(cut_groups());
    make_head_runners();
    const std::string purpose =
        concat("to run this model with ", options.capacity, " positions", options.draft ? " and drafting" : "");
    if (options.draft && places.size() > 1)
        return Status(Code::unsupported, "drafting runs on one device: open the model on one, or without drafting");
    if (options.draft && !device().runs_as_steps())
        return fail(Code::unsupported, device().device().name,
                    " cannot draft: it does not give the tokens of one pass the bits of single ones; open the model "
                    "without drafting, or on the CPU");
    if (aliases()) return choose_host_plan(purpose);
    GNV_TRY(choose_device_plan(purpose));
    std::erase_if(places, [](const SessionPlace & place) { return place.first == place.end; });
    make_head_runners();
    return {};
}

Status TextSession::State::choose_device_plan(const std::string & purpose) {
    const std::string & name = device().device().name;
    if (device().activation_dtype() == DType::bf16 && variant.precision != Precision::bf16)
        return fail(Code::unsupported, name, " computes in BF16: use precision bf16, or the CPU");
    const Budget host = Budget::of_host(options.ram_bytes);
    if (options.draft) GNV_TRY(plan_drafting());
    if (largest_load() > host.total())
        return Status(Code::out_of_memory, host.refusal("for the weights on their way to " + name, largest_load()));
    for (SessionPlace & place : places) {
        GNV_ASSIGN(const uint64_t available, place.device->free_bytes());
        place.budget = options.device_bytes;
        place.budget.limit(available, places.size() > 1 ? place.device->device().label() : name);
    }
    uint64_t smallest = UINT64_MAX;
    StageRunner planner(device(), stage_options(false));
    const bool is_divided = places.size() > 1;
    enum class Weights : uint8_t { on_device, experts_in_host, streamed };
    for (const Weights where : {Weights::on_device, Weights::experts_in_host, Weights::streamed}) {
        if (options.draft && where != Weights::on_device) continue;
        stay = where != Weights::streamed;
        if (where == Weights::experts_in_host) {
            if (is_divided) continue;
            GNV_ASSIGN(const bool may, keep_experts_in_host(host));
            if (!may) continue;
        } else if (experts) {
            experts.reset();
            GNV_TRY(cut_groups());
        }
        for (const int64_t positions : device_pieces) {
            piece = positions;
            if (experts) experts->set_size({experts->experts(), 1}); // so many need the most memory for activations
            inputs_bytes = arena_bytes = hidden_bytes = 0;
            for (const BatchShape & shape : planned_shapes()) {
                const auto planner_of = [&](size_t) -> StageRunner & { return planner; };
                GNV_ASSIGN(const uint64_t bytes, arena_bytes_of(shape, planner_of));
                arena_bytes = std::max(arena_bytes, bytes);
                hidden_bytes = std::max(hidden_bytes, hidden_bytes_of(shape));
                inputs_bytes = std::max(inputs_bytes, LaneInputs::bytes(shape, device().activation_dtype()));
            }
            if (drafting) GNV_TRY(plan_draft_passes());
            if (options.pool_drafts > 0) GNV_TRY(plan_pool_drafting()); // by the piece
            if (pool_drafting) GNV_TRY(plan_pool_draft_passes());
            if (is_divided && stay && divide_groups()) return {};
            if (is_divided) continue;
            take_groups(places.front(), 0, groups.size());
            if (experts && !size_experts(positions == std::end(device_pieces)[-1])) continue;
            const Budget needed = with_groups(places.front(), arena_bytes, hidden_bytes, inputs_bytes);
            smallest = std::min(smallest, needed.used());
            if (needed.fits()) return {};
        }
    }
    if (!is_divided) return Status(Code::out_of_memory, places.front().budget.refusal(purpose, smallest));
    return refuse_division(purpose);
}

// With the smallest pieces, which were tried last.
Status TextSession::State::refuse_division(const std::string & purpose) {
    const Budget given = std::min_element(places.begin(), places.end(), [](const auto & a, const auto & b) {
                             return a.budget.total() < b.budget.total();
                         })->budget;
    uint64_t low = 0, high = uint64_t(1) << 60;
    while (low + 1 < high) {
        const uint64_t middle = low + (high - low) / 2;
        for (SessionPlace & place : places) place.budget = middle;
        (divide_groups() ? high : low) = middle;
    }
    return fail(Code::out_of_memory, given.refusal(concat(purpose, " on ", places.size(), " devices"), high),
                " on each. The weights of several devices stay in their memory; one device alone (cuda:N) also runs "
                "what does not fit, and reads weights for each call");
}

Status TextSession::State::allocate() {
    const auto take = [](Backend & from, uint64_t bytes, const char * what, DeviceMemory & to) -> Status {
        Result<DeviceMemory> memory = from.allocate(bytes);
        if (!memory.ok()) return memory.take_status().add_context(what);
        to = memory.take();
        return {};
    };
    for (SessionPlace & place : places)
        for (const bool all_logits : {false, true})
            place.runners[all_logits] = std::make_unique<StageRunner>(
                *place.device, stage_options(all_logits), (drafting ? kept_with_drafts : kept_shapes) * groups.size());
    for (const bool is_step : {false, true})
        for (size_t g = 0; g < groups.size(); g++)
            pool_runners[is_step].push_back(std::make_unique<StageRunner>(*place_of(g).device, stage_options(false),
                                                                          is_step ? kept_steps : kept_shapes));
    const TextStates::Specs specs = TextStates::specs_of(model(), options.cache);
    GNV_ASSIGN(states, TextStates::create(specs, layer_devices(), own_extents()));
    if (options.pool_texts > 0) {
        GNV_ASSIGN(pool, TextPool::create(specs, layer_devices(), pool_extents()));
    }
    if (drafting) GNV_TRY(allocate_drafting());
    if (pool_drafting) GNV_TRY(allocate_pool_drafting());
    next_position.assign(size_t(options.segments), 0);
    for (SessionPlace & place : places) {
        if (place.aliases()) continue; // all memory of others is planned
        GNV_TRY(take(*place.device, arena_bytes, "activations", place.arena));
        GNV_TRY(take(*place.device, hidden_bytes, "hidden states", place.hidden));
        GNV_ASSIGN(place.inputs, LaneInputs::create(*place.device, inputs_bytes));
        GNV_TRY(place.inputs.allocate_host(*place.device));
    }
    const WeightStream::Size size = {aliases() ? 0 : largest_load(), aliases() ? 0 : threads->size()};
    GNV_ASSIGN(stream, WeightStream::create(device(), size, aliases() ? threads : nullptr));
    weights.resize(stay ? groups.size() : 1);
    for (size_t g = 0; g < weights.size(); g++)
        if (!is_in_host(g))
            GNV_TRY(take(*place_of(g).device, stay ? groups[g].bytes() : largest_group, "weights", weights[g]));
    if (experts) GNV_TRY(experts->allocate(device()));
    return stay ? load_weights() : Status();
}

uint64_t TextSession::State::largest_load() const {
    return std::max(largest_group, drafting ? device_aligned(drafting->weights.bytes()) : 0);
}

// Those of the draft head, behind all others.
Status TextSession::State::load_draft(const std::function<Status()> & tell) {
    WeightUpload & upload = *places.front().upload;
    GNV_TRY(upload.expect(*stream));
    void * const memory = drafting->memory.get();
    GNV_TRY(stream->start({{drafting->weights, variant.weights, variant.files}}, aliases() ? memory : nullptr));
    GNV_TRY(stream->wait(tell));
    GNV_TRY(stream->finish());
    drafting->weights = upload.finish(*stream, memory).front();
    return {};
}

Status TextSession::State::arrange_weights(size_t group) {
    Backend & device = *place_of(group).device;
    if (is_in_host(group) || !device.arranges_weights()) return {};
    GNV_ASSIGN(const std::vector<WeightRef> refs, multiplied_weights(variant, stages[group], shape_of(1),
                                                                     stage_options(false), device.activation_dtype()));
    return groups[group].arrange(device, refs);
}

Status TextSession::State::load_weights() {
    SessionLoad load = {0, 0, 0, groups.size()};
    for (const WeightGroup & group : groups) load.bytes_total += group.bytes();
    if (drafting) load.bytes_total += drafting->weights.bytes();
    if (experts) load.bytes_total += experts->host_bytes();
    const auto tell = [&]() -> Status {
        const bool go_on = !options.on_load || options.on_load(load);
        return go_on ? Status() : Status(Code::cancelled, "stopped on request");
    };
    for (const WeightGroup & group : groups) {
        GNV_TRY(tell());
        if (experts) GNV_TRY(load_to_host(load.groups));
        if (!is_in_host(load.groups)) GNV_TRY(bring(load.groups, tell));
        GNV_TRY(arrange_weights(load.groups));
        load.bytes += group.bytes();
        if (experts && experts->has(int32_t(load.groups) - 1))
            load.bytes += experts->in_host(int32_t(load.groups) - 1).bytes();
        if (drafting && load.groups + 1 == groups.size()) {
            GNV_TRY(load_draft(tell));
            load.bytes += drafting->weights.bytes();
        }
        load.groups++;
    }
    GNV_TRY(tell());
    GNV_TRY(synchronize());
    for (SessionPlace & place : places) // the last copy from the stream's buffer ends
        place.upload = std::make_unique<WeightUpload>(*place.device);
    stream.reset();
    return {};
}

// Arena, hidden states and inputs for a batch of this shape. The queues must be empty.
Status TextSession::State::make_room(const BatchShape & shape, bool all_logits) {
    const auto key = std::make_tuple(shape.positions, shape.masked, shape.given_rows > 0, all_logits, shape.as_steps);
    if (roomy.count(key) > 0) return {};
    const auto runner_of = [&](size_t g) -> StageRunner & { return *place_of(g).runners[all_logits]; };
    GNV_ASSIGN(uint64_t arena_wanted, arena_bytes_of(shape, runner_of));
    if (shape.as_steps) {
        GNV_ASSIGN(const uint64_t bytes, drafting->largest_of_all->arena_bytes(variant, stages.back(), shape));
        arena_wanted = std::max(arena_wanted, bytes);
    }
    GNV_TRY(grow(shape, arena_wanted, all_logits ? " with the logits of all" : ""));
    roomy.insert(key);
    return {};
}

Status TextSession::State::grow(const BatchShape & shape, uint64_t arena_wanted, const char * what) {
    const uint64_t arena_needed = std::max(arena_wanted, arena_bytes);
    const uint64_t hidden_needed = std::max(hidden_bytes_of(shape), hidden_bytes);
    BatchShape with_given = shape;
    if (shape.given_rows > 0) with_given.given_rows = shape.positions; // any number of rows
    const uint64_t inputs_needed = std::max(LaneInputs::bytes(with_given, device().activation_dtype()), inputs_bytes);
    for (const SessionPlace & place : places) {
        const Budget needed = with_groups(place, arena_needed, hidden_needed, inputs_needed);
        if (!place.aliases() && !needed.fits())
            return fail(Code::out_of_memory, "a pass over ", shape.positions, " positions", what, " needs ",
                        needed.used(), " bytes of the memory of ",
                        places.size() > 1 ? place.device->device().label() : device().device().name, ", the budget is ",
                        needed.total(), ": give the text in shorter pieces");
    }
    for (SessionPlace & place : places) {
        if (arena_needed > arena_bytes || !place.arena) {
            place.arena.reset();
            GNV_ASSIGN(place.arena, place.device->allocate(arena_needed));
        }
        if (hidden_needed > hidden_bytes || !place.hidden) {
            place.hidden.reset();
            GNV_ASSIGN(place.hidden, place.device->allocate(hidden_needed));
        }
        if (inputs_needed > place.inputs.bytes()) {
            GNV_ASSIGN(place.inputs, LaneInputs::create(*place.device, inputs_needed));
            GNV_TRY(place.inputs.allocate_host(*place.device));
        }
    }
    arena_bytes = arena_needed, hidden_bytes = hidden_needed, inputs_bytes = inputs_needed;
    return {};
}

} // namespace gnv
