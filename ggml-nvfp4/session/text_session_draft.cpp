// Drafting with the draft head of the model (MTP), and the passes ahead that check what it guessed.
//
//   pass over a prompt, or over t0 d1 d2     the stream of its positions stays in State::hidden
//   see_text(next)   the draft head joins each position's stream with the id behind it, and guesses what follows `next`;
//                    from its own stream it goes on guessing (see_own)
//   run_ahead        next d1 d2 d3 in one pass, each with the bits of a step of its own; results of all rows are kept
//   take_ahead       the text goes on by d1: its result is there already
//   settle           the text goes on by another token: the rest is taken back. Rows of keys and values are written again;
//                    the states of linear attention start from a copy, and its rows are replayed without the other layers
//
// On a device settle, the draft head and the pass ahead are queued at once: each reads the ids that the one before guessed where they
// are, and the host waits for the results of the pass alone.
//
// The draft head sees the positions that run with drafting. Those that it does not see are no rows of its caches: it guesses
// worse then. Positions turn by their place in the text, so gaps stay gaps.
#include "core/clock.h"
#include "exec/host_tensor.h"
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

constexpr size_t kept_draft_shapes = 40; // numbers of rows that the draft head sees at once, with its head and without

static StateExtents one_text(int64_t positions) { return {1, positions, 0}; }

Status TextSession::State::plan_drafting() {
    GNV_CHECK(options.segments == 1);
    Drafting & d = drafting.emplace();
    d.variant = variant;
    d.variant.model = options.draft;
    d.variant.input_scales = nullptr; // they are of the text
    d.block = {embed_stage(*options.draft)};
    for (const Stage & stage : options.draft->block_stages(0)) d.block.push_back(stage);
    d.guessing = d.block;
    d.guessing.push_back(head_stage(*options.draft));
    std::vector<WeightRef> own; // the others are those of the text
    for (const WeightRef & ref : weights_of(*options.draft, d.guessing))
        if (ref.part == options.draft->part()) own.push_back(ref);
    GNV_ASSIGN(d.weights, WeightGroup::plan(*variant.weights, own));
    const DType activation = device().activation_dtype();
    d.bytes =
        device_aligned(d.weights.bytes()) +
        TextStates::bytes(TextStates::specs_of(*options.draft, options.cache), activation, one_text(options.capacity)) +
        TextStates::bytes(TextStates::fixed_specs_of(model()), activation, one_text(0)) +
        TextStates::bytes(TextStates::replayed_specs_of(model()), activation, one_text(DraftInputs::most_rows)) +
        DraftInputs::bytes() + device_aligned(tensor_bytes(activation, {1, model().sizes().hidden}));
    if (aliases()) d.bytes += uint64_t(DraftInputs::most_rows) * uint64_t(model().sizes().vocabulary) * sizeof(float);

    StageOptions last = stage_options(false), all = stage_options(true);
    last.largest_logit = all.largest_logit = true;
    d.runner.emplace(device(), last, kept_draft_shapes);
    d.largest_of_all.emplace(device(), all, size_t(most_drafts));
    d.replay.emplace(device(), stage_options(false), size_t(most_drafts) * size_t(model().sizes().layers));
    for (int64_t step = 0; step < most_drafts; step++) d.own.push_back(std::make_unique<StageRunner>(device(), last));
    return {};
}

BatchShape TextSession::State::draft_shape(int64_t rows, DraftInput draft) const {
    BatchShape shape = shape_of(rows);
    shape.as_steps = rows > 1 && rows <= DraftInputs::most_rows; // weights are read as they lie
    shape.draft = draft;
    return shape;
}

Status TextSession::State::plan_draft_passes() {
    Drafting & d = *drafting;
    StageRunner all(device(), stage_options(true));
    const auto runner_of = [&](size_t) -> StageRunner & { return all; };
    BatchShape ahead = shape_of(DraftInputs::most_rows);
    ahead.as_steps = true;
    GNV_ASSIGN(const uint64_t of_pass, arena_bytes_of(ahead, runner_of));
    GNV_ASSIGN(const uint64_t of_largest, d.largest_of_all->arena_bytes(variant, stages.back(), ahead));
    arena_bytes = std::max({arena_bytes, of_pass, of_largest});
    hidden_bytes = std::max(hidden_bytes, hidden_bytes_of(ahead));
    for (const int64_t rows : {largest_piece().positions, DraftInputs::most_rows}) {
        const BatchShape shape = draft_shape(rows, DraftInput::of_text);
        GNV_ASSIGN(const uint64_t bytes, d.runner->arena_bytes(d.variant, d.guessing, shape));
        arena_bytes = std::max(arena_bytes, bytes);
        inputs_bytes = std::max(inputs_bytes, LaneInputs::bytes(shape, device().activation_dtype()));
    }
    return {};
}

Status TextSession::State::allocate_drafting() {
    Drafting & d = *drafting;
    GNV_ASSIGN(d.states, TextStates::create(TextStates::specs_of(*options.draft, options.cache), device(),
                                            one_text(options.capacity)));
    GNV_ASSIGN(d.before, TextStates::create(TextStates::fixed_specs_of(model()), device(), one_text(0)));
    GNV_ASSIGN(d.kept,
               TextStates::create(TextStates::replayed_specs_of(model()), device(), one_text(DraftInputs::most_rows)));
    GNV_ASSIGN(d.memory, device().allocate(d.weights.bytes()));
    GNV_ASSIGN(d.own_stream, device().allocate(tensor_bytes(device().activation_dtype(), {1, model().sizes().hidden})));
    GNV_ASSIGN(d.inputs, DraftInputs::create(device()));
    return {};
}

// --- Passes ahead -------------------------------------------------------------------------------------------------------------

void TextSession::State::remember(const BatchInputs & batch, int64_t taken) {
    drafting->ids = batch.ids;
    drafting->positions = batch.positions;
    drafting->taken = taken;
    drafting->has_stream = true;
}

Status TextSession::State::run_ahead(const BatchInputs & batch, const Request & request, const Results & results) {
    Drafting & d = *drafting;
    d.before.copy_fixed(states);
    d.logits.clear();
    d.largest.clear();
    Request of_pass = request;
    of_pass.all_logits = results.logits != nullptr;
    Results all;
    if (results.logits) all.logits = &d.logits;
    if (results.largest) all.largest = &d.largest;
    DeviceBatch there = d.inputs.of_pass();
    there.allowed = allowed.place();
    GNV_TRY(run_groups(batch, of_pass, all, &there));
    remember(batch, 0);
    const std::span<const int32_t> guesses = d.inputs.fetched(batch.shape.positions - 1);
    std::copy(guesses.begin(), guesses.end(), d.ids.begin() + 1);
    d.counts.drafted += batch.shape.positions - 1;
    d.counts.passes++;
    d.is_timed = is_measure(batch.shape.positions);
    const bool taken = take_ahead(batch.ids.front(), results);
    GNV_CHECK(taken);
    d.counts.accepted--; // it was no draft
    return {};
}

bool TextSession::State::take_ahead(int32_t id, const Results & results) {
    Drafting & d = *drafting;
    if (!d.is_ahead() || d.ids[size_t(d.taken)] != id) return false;
    if (results.largest ? d.largest.empty() : d.logits.empty()) return false;
    if (results.largest) {
        results.largest->push_back(d.largest[size_t(d.taken)]);
    } else {
        const auto row = d.logits.begin() + ptrdiff_t(d.taken * model().sizes().vocabulary);
        results.logits->assign(row, row + ptrdiff_t(model().sizes().vocabulary));
    }
    d.taken++;
    d.counts.accepted++;
    d.counts.timed_tokens += d.is_timed;
    past++;
    next_position.front()++;
    return true;
}

bool TextSession::State::is_measure(int64_t positions) {
    return drafting->runs[size_t(positions)]++ >= 2 || !device().device().has_own_memory();
}

Status TextSession::State::settle(int64_t rows) {
    Drafting & d = *drafting;
    states.copy_fixed(d.before);
    BatchShape shape = shape_of(rows);
    shape.as_steps = true;
    return replay(*d.replay, shape, d.inputs.of_replay(), states, d.kept, 0);
}

Status TextSession::State::replay(StageRunner & runner, const BatchShape & shape, const DeviceBatch & there,
                                  TextStates & of, TextStates & kept, int64_t kept_begin) {
    for (int32_t layer = 0; layer < model().sizes().layers; layer++) {
        if (model().replayed(layer).empty()) continue;
        const std::vector<Stage> stage = {replay_stage(model(), layer)};
        StageCall call{variant, stage, groups[size_t(layer) + 1], shape, there};
        call.states = &of;
        call.kept_rows = &kept;
        call.kept_begin = kept_begin;
        GNV_TRY(runner.run(call, places.front().arena.get(), arena_bytes));
    }
    return {};
}

// --- The draft head -----------------------------------------------------------------------------------------------------------

int64_t TextSession::State::guesses_for(int64_t most) const {
    const Drafting & d = *drafting;
    return d.ids.empty() || !d.has_stream || !allowed.any ? 0 : std::max<int64_t>(most, 0);
}

Status TextSession::State::make_room_for_drafts(int64_t taken, int64_t rows, int64_t guesses) {
    Drafting & d = *drafting;
    BatchShape largest = shape_of(std::max({taken, rows, int64_t(1)}));
    uint64_t arena = 0;
    const auto need = [&](StageRunner & runner, const TextVariant & of, const std::vector<Stage> & stage_list,
                          const BatchShape & shape) -> Status {
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(of, stage_list, shape));
        arena = std::max(arena, bytes);
        return {};
    };
    BatchShape replayed = shape_of(taken);
    replayed.as_steps = true;
    const bool is_first = taken > 0 && d.replayed.insert(taken).second;
    for (int32_t layer = 0; is_first && layer < model().sizes().layers; layer++)
        if (!model().replayed(layer).empty())
            GNV_TRY(need(*d.replay, variant, {replay_stage(model(), layer)}, replayed));
    if (rows > 0) {
        largest = draft_shape(rows, DraftInput::of_text);
        GNV_TRY(need(*d.runner, d.variant, guesses > 0 ? d.guessing : d.block, largest));
    }
    for (int64_t step = 1; step < guesses; step++)
        GNV_TRY(need(*d.own[size_t(step)], d.variant, d.guessing, draft_shape(1, DraftInput::own)));
    return grow(largest, arena, "");
}

uint64_t TextSession::State::row_bytes() const {
    return tensor_bytes(device().activation_dtype(), {1, model().sizes().hidden});
}

Status TextSession::State::run_head(StageRunner & runner, const BatchShape & shape, const DeviceBatch & there,
                                    TextStates & caches, void * rows_of, int32_t * guesses) {
    Drafting & d = *drafting;
    StageCall call{d.variant, guesses ? d.guessing : d.block, d.weights, shape, there};
    call.fields[hidden_field] = rows_of;
    call.states = &caches;
    call.more_weights = groups;
    call.on_largest = [&](const Tensor & ids, const Tensor &) -> Status {
        device().copy(guesses, ids.data, size_t(ids.shape.elements()) * sizeof(int32_t));
        return {};
    };
    return runner.run(call, places.front().arena.get(), arena_bytes);
}

Status TextSession::State::see_text(int32_t next_id, int32_t * guess) {
    Drafting & d = *drafting;
    const size_t rows = d.ids.size();
    const BatchShape shape = draft_shape(int64_t(rows), DraftInput::of_text);
    void * const rows_of = places.front().hidden.get();
    DeviceBatch there = d.inputs.of_text();
    BatchInputs batch; // of more rows than DraftInputs has
    if (int64_t(rows) > DraftInputs::most_rows) {
        batch.shape = shape;
        batch.ids.assign(d.ids.begin() + 1, d.ids.end());
        batch.ids.push_back(next_id);
        batch.positions = d.positions;
        batch.past = {int32_t(d.past)};
        batch.segments = {0, int32_t(rows)};
        batch.last_positions = {int32_t(rows) - 1};
        for (int32_t t = 0; t < int32_t(rows); t++) batch.pairs.push_back(t), batch.pairs.push_back(-1 - t);
        GNV_ASSIGN(there, places.front().inputs.upload(device(), batch, *threads));
    }
    there.allowed = allowed.place();
    GNV_TRY(run_head(*d.runner, shape, there, d.states, rows_of, guess));
    d.past += int64_t(rows);
    if (!guess) return {};
    device().copy(d.own_stream.get(), static_cast<uint8_t *>(rows_of) + uint64_t(rows - 1) * row_bytes(), row_bytes());
    return {};
}

Status TextSession::State::see_own(int64_t step, int32_t * guess) { // rows that the next call writes again
    Drafting & d = *drafting;
    DeviceBatch there = d.inputs.of_own(step);
    there.allowed = allowed.place();
    return run_head(*d.own[size_t(step)], draft_shape(1, DraftInput::own), there, d.states, d.own_stream.get(), guess);
}

Status TextSession::State::catch_up(const BatchInputs & next_pass, bool follows, bool all_logits) {
    Drafting & d = *drafting;
    const int64_t guesses = next_pass.shape.as_steps ? next_pass.shape.positions - 1 : 0;
    const int64_t taken = d.is_ahead() ? d.taken : 0; // 0: there is nothing to take back
    const bool sees = follows && d.has_stream && !d.ids.empty();
    if (taken == 0 && !sees) {
        d.forget();
        return {};
    }
    GNV_TRY(synchronize()); // before memory is replaced, and inputs
    if (taken > 0) {
        const auto rows = ptrdiff_t(d.ids.size());
        for (ptrdiff_t axis = 2; axis >= 0; axis--) {
            const auto begin = d.positions.begin() + axis * rows;
            d.positions.erase(begin + ptrdiff_t(taken), begin + rows);
        }
        d.ids.resize(size_t(taken));
    }
    GNV_TRY(make_room_for_drafts(taken, sees ? int64_t(d.ids.size()) : 0, guesses));
    if (guesses > 0) GNV_TRY(make_room(next_pass.shape, all_logits));
    d.inputs.send(device(), {d.ids, d.positions, d.past, taken, guesses, next_pass});
    if (taken > 0) GNV_TRY(settle(taken));
    if (sees) GNV_TRY(see_text(next_pass.ids.front(), guesses > 0 ? d.inputs.guess(1) : nullptr));
    for (int64_t step = 1; step < guesses; step++) GNV_TRY(see_own(step, d.inputs.guess(step + 1)));
    d.inputs.fetch(device(), guesses);
    d.forget();
    return {};
}

} // namespace gnv
