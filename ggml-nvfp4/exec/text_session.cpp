#include "exec/text_session.h"

#include "core/memory.h"

#include <algorithm>

namespace gnv {

struct TextSession::State {
    TextVariant variant;
    Backend * device = nullptr;
    ThreadPool * threads = nullptr;
    TextStates states;
    int64_t past = 0;

    std::vector<std::vector<Stage>> stages; // by group
    std::vector<WeightGroup> groups;
    std::vector<AlignedBlock> memory; // of each group; of the largest alone when weights do not stay
    bool stay = false;
    AlignedBlock arena;
    uint64_t arena_bytes = 0;

    void cut_groups();
    Status load();
    Status run_group(size_t g, const BatchInputs & inputs, void * hidden, const Request & request,
                     std::vector<float> & logits);
    Status grow_arena(const BatchShape & shape, const StageOptions & options);
};

void TextSession::State::cut_groups() {
    stages.push_back({Stage{StageKind::embed}});
    for (int32_t layer = 0; layer < variant.model->sizes().layers; layer++)
        stages.push_back(variant.model->block_stages(layer));
    stages.push_back({Stage{StageKind::head}});
}

Result<std::unique_ptr<TextSession>> TextSession::create(const TextVariant & variant, Backend & device,
                                                         ThreadPool & threads, int64_t segments, int64_t capacity,
                                                         uint64_t ram_bytes) {
    const TextModel & model = *variant.model;
    if (capacity > model.sizes().max_positions)
        return fail(Code::invalid_argument, capacity, " positions are wanted, the model has ",
                    model.sizes().max_positions);
    std::unique_ptr<State> state(new State);
    state->variant = variant;
    state->device = &device;
    state->threads = &threads;
    state->cut_groups();
    uint64_t sum = 0, largest = 0;
    for (const std::vector<Stage> & group : state->stages) {
        GNV_ASSIGN(WeightGroup planned, WeightGroup::plan(*variant.weights, weights_of(model, group)));
        sum += planned.bytes();
        largest = std::max(largest, planned.bytes());
        state->groups.push_back(std::move(planned));
    }
    const uint64_t budget = ram_bytes > 0 ? ram_bytes : available_memory() / 5 * 4;
    const uint64_t caches = TextStates::bytes(model, segments, capacity);
    if (largest + caches > budget)
        return fail(Code::out_of_memory, "a memory budget of ", bytes_text(budget),
                    " is too small to run this model with ", capacity, " positions: at least ", largest + caches,
                    " bytes and the activations are needed");
    state->stay = sum + caches <= budget;
    GNV_ASSIGN(state->states, TextStates::create(model, segments, capacity));
    GNV_TRY(state->load());
    return std::unique_ptr<TextSession>(new TextSession(std::move(state)));
}

TextSession::TextSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextSession::~TextSession() = default;
bool TextSession::weights_stay() const { return state_->stay; }
int64_t TextSession::past() const { return state_->past; }

void TextSession::reset() {
    state_->states.reset();
    state_->past = 0;
}

Status TextSession::State::load() {
    if (!stay) {
        uint64_t largest = 0;
        for (const WeightGroup & group : groups) largest = std::max(largest, group.bytes());
        GNV_ASSIGN(AlignedBlock block, allocate_block(largest, "weights"));
        memory.push_back(std::move(block));
        return {};
    }
    for (WeightGroup & group : groups) {
        GNV_ASSIGN(AlignedBlock block, allocate_block(group.bytes(), "weights"));
        memory.push_back(std::move(block));
        GNV_TRY(group.load(*variant.weights, *variant.files, memory.back().get(), *threads));
    }
    return {};
}

Status TextSession::State::grow_arena(const BatchShape & shape, const StageOptions & options) {
    uint64_t needed = 0;
    StageRunner runner(*device, options);
    for (const std::vector<Stage> & group : stages) {
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(variant, group, shape));
        needed = std::max(needed, bytes);
    }
    if (needed <= arena_bytes) return {};
    arena.reset();
    GNV_ASSIGN(arena, allocate_block(needed, "activations"));
    arena_bytes = needed;
    return {};
}

Status TextSession::State::run_group(size_t g, const BatchInputs & inputs, void * hidden, const Request & request,
                                     std::vector<float> & logits) {
    if (!stay) GNV_TRY(groups[g].load(*variant.weights, *variant.files, memory.front().get(), *threads));
    StageOptions options;
    options.last_position_only = !request.all_logits;
    StageRunner runner(*device, options);
    StageCall call{variant, stages[g], groups[g], inputs};
    call.fields.hidden = hidden;
    call.states = &states;
    call.on_tap = request.on_tap;
    call.on_logits = [&](const Tensor & tensor) -> Status {
        logits.assign(tensor.as<float>(), tensor.as<float>() + tensor.shape.elements());
        return {};
    };
    return runner.run(call, arena.get(), arena_bytes);
}

Result<std::vector<float>> TextSession::run(const TextSequence & sequence, const Request & request) {
    State & state = *state_;
    const TextModelSizes & sizes = state.variant.model->sizes();
    GNV_TRY(check_sequence(sequence, 0, sizes, state.past));
    BatchInputs inputs = make_batch(&sequence, 1);
    if (inputs.shape.segments != state.states.segments())
        return fail(Code::invalid_argument, "the session runs ", state.states.segments(), " texts, ",
                    inputs.shape.segments, " are given");
    const int64_t length = inputs.shape.positions / inputs.shape.segments;
    if (state.past + length > state.states.capacity())
        return fail(Code::invalid_argument, "the caches hold ", state.states.capacity(), " positions, ",
                    state.past + length, " are needed");
    inputs.shape.cached = true;
    inputs.shape.capacity = state.states.capacity();
    inputs.past.assign(size_t(inputs.shape.segments), int32_t(state.past));
    if (sequence.positions.empty())
        for (int32_t & position : inputs.positions) position += int32_t(state.past);

    StageOptions options;
    options.last_position_only = !request.all_logits;
    GNV_TRY(state.grow_arena(inputs.shape, options));
    GNV_ASSIGN(const AlignedBlock hidden,
               allocate_block(uint64_t(inputs.shape.positions * sizes.hidden) * sizeof(float), "hidden states"));
    std::vector<float> logits;
    for (size_t g = 0; g < state.groups.size(); g++) GNV_TRY(state.run_group(g, inputs, hidden.get(), request, logits));
    state.past += length;
    return logits;
}

} // namespace gnv
