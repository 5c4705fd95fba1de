// The plan of the memory for drafting texts of the pool (text_session_pool_draft.cpp).
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

constexpr size_t kept_head_shapes = 64; // numbers of rows and texts that draft heads run

// One page more for each text that drafts: guesses go beyond the text, and the head's pages are shared at other places.
StateExtents TextSession::State::head_extents() const {
    StateExtents extents = pool_extents();
    extents.pages += options.pool_drafts;
    return extents;
}

Status TextSession::State::plan_pool_drafting() {
    GNV_CHECK(drafting && options.pool_drafts <= options.pool_texts);
    PoolDrafting & d = pool_drafting.emplace();
    d.places = options.pool_drafts;
    d.rows = std::min(d.places * DraftInputs::most_rows, std::max(PoolDrafting::most_rows, 2 * d.places));
    const DType activation = device().activation_dtype();
    const StateExtents before = {d.places, 0, 0}, kept = {1, d.rows, 0};
    const int64_t hidden = model().sizes().hidden;
    d.bytes = TextStates::bytes(TextStates::specs_of(*options.draft, options.cache), activation, head_extents()) +
              TextStates::bytes(TextStates::fixed_specs_of(model()), activation, before) +
              TextStates::bytes(TextStates::replayed_specs_of(model()), activation, kept) +
              device_aligned(tensor_bytes(activation, {d.places * DraftInputs::most_rows, hidden})) +
              device_aligned(tensor_bytes(activation, {d.places, hidden})) +
              device_aligned(tensor_bytes(DType::i32, {most_drafts, d.places})) + pool_draft_input_bytes();
    if (aliases())
        d.bytes += uint64_t(d.places * DraftInputs::most_rows) * uint64_t(model().sizes().vocabulary) * sizeof(float);
    StageOptions last = stage_options(false);
    last.largest_logit = true;
    d.runner.emplace(device(), last, kept_head_shapes);
    d.replay.emplace(device(), stage_options(false), size_t(most_drafts) * size_t(model().sizes().layers));
    for (int64_t step = 0; step < most_drafts; step++)
        d.own_runners.push_back(std::make_unique<StageRunner>(device(), last, kept_head_shapes));
    return {};
}

uint64_t TextSession::State::pool_draft_input_bytes() const {
    const PoolDrafting & d = *pool_drafting;
    // Rows of pieces and of steps, each with an id, positions and pairs; of texts pages, slots and the like, and two lists of
    // numbers in each own step.
    const auto rows = uint64_t(d.places * DraftInputs::most_rows + piece + 1), texts = uint64_t(d.places);
    const auto pages = uint64_t(head_extents().capacity / cache_page);
    return InputBlock::bytes(6 * rows + texts * (2 * pages + 32 + 4 * uint64_t(most_drafts)),
                             16 * (texts + 1) + 2 * uint64_t(most_drafts));
}

BatchShape TextSession::State::head_shape(int64_t rows, int64_t texts, DraftInput draft) const {
    BatchShape shape = shape_in(head_extents(), rows, texts);
    shape.as_steps =
        rows > texts && rows <= pool_drafting->places * DraftInputs::most_rows; // weights are read as they lie
    shape.draft = draft;
    return shape;
}

// Of a device with memory of its own.
Status TextSession::State::plan_pool_draft_passes() {
    PoolDrafting & d = *pool_drafting;
    StageRunner last(device(), stage_options(false));
    const auto runner_of = [&](size_t) -> StageRunner & { return last; };
    BatchShape ahead = pool_shape(d.rows + options.pool_texts - d.places, options.pool_texts);
    ahead.as_steps = true;
    ahead.asked = ahead.positions;
    GNV_ASSIGN(const uint64_t of_pass, arena_bytes_of(ahead, runner_of));
    arena_bytes = std::max(arena_bytes, of_pass);
    const auto take = [&](const BatchShape & shape) {
        hidden_bytes = std::max(hidden_bytes, hidden_bytes_of(shape));
        inputs_bytes = std::max(inputs_bytes, LaneInputs::bytes(shape, device().activation_dtype()));
    };
    take(ahead);
    for (const BatchShape & shape :
         {head_shape(d.places * DraftInputs::most_rows, d.places, DraftInput::of_text),
          head_shape(d.places, d.places, DraftInput::own), head_shape(piece + 1, 1, DraftInput::of_text)}) {
        GNV_ASSIGN(const uint64_t bytes, d.runner->arena_bytes(drafting->variant, drafting->guessing, shape));
        arena_bytes = std::max(arena_bytes, bytes);
        take(shape);
    }
    return {};
}

Status TextSession::State::allocate_pool_drafting() {
    PoolDrafting & d = *pool_drafting;
    const DType activation = device().activation_dtype();
    const int64_t hidden = model().sizes().hidden;
    const std::vector<Backend *> here(size_t(options.draft->sizes().layers), &device());
    GNV_ASSIGN(d.heads, TextPool::create(TextStates::specs_of(*options.draft, options.cache), here, head_extents()));
    GNV_ASSIGN(d.before, TextStates::create(TextStates::fixed_specs_of(model()), device(), {d.places, 0, 0}));
    GNV_ASSIGN(d.kept, TextStates::create(TextStates::replayed_specs_of(model()), device(), {1, d.rows, 0}));
    GNV_ASSIGN(d.streams, device().allocate(tensor_bytes(activation, {d.places * DraftInputs::most_rows, hidden})));
    GNV_ASSIGN(d.own, device().allocate(tensor_bytes(activation, {d.places, hidden})));
    GNV_ASSIGN(d.guesses, device().allocate(tensor_bytes(DType::i32, {most_drafts, d.places})));
    GNV_ASSIGN(d.inputs, InputBlock::create(device(), pool_draft_input_bytes()));
    for (int64_t place = d.places; place-- > 0;) d.free_places.push_back(int32_t(place));
    d.ahead.reserve(size_t(d.places));
    return {};
}

} // namespace gnv
