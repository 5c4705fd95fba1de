// Drafting with the draft head of the model (MTP), and the passes ahead that check what it guessed.
//
//   pass over a prompt, or over t0 d1 d2     the stream of its positions stays in State::hidden
//   follow(next)     the draft head joins each position's stream with the id behind it, and guesses what follows `next`;
//                    from its own stream it goes on guessing
//   run_ahead        next d1 d2 d3 in one pass, each with the bits of a step of its own; results of all rows are kept
//   take_ahead       the text goes on by d1: its result is there already
//   settle           the text goes on by another token: the rest is taken back. Rows of keys and values are written again;
//                    the states of linear attention start from a copy, and its rows are replayed without the other layers
//
// The draft head sees the positions that run with drafting. Those that it does not see are no rows of its caches: it guesses
// worse then. Positions turn by their place in the text, so gaps stay gaps.
#include "core/clock.h"
#include "exec/host_tensor.h"
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

constexpr size_t kept_draft_shapes = 24; // numbers of positions that the draft head sees at once, and its head

static StateExtents one_text(int64_t positions) { return {1, positions, 0}; }

Status TextSession::State::plan_drafting() {
    GNV_CHECK(options.segments == 1);
    Drafting & d = drafting.emplace();
    d.variant = variant;
    d.variant.model = options.draft;
    d.variant.input_scales = nullptr; // they are of the text
    d.block = {embed_stage(*options.draft)};
    for (const Stage & stage : options.draft->block_stages(0)) d.block.push_back(stage);
    d.head = {head_stage(*options.draft)};
    std::vector<WeightRef> own; // the others are those of the text
    for (const std::vector<Stage> * stage_list : {&d.block, &d.head})
        for (const WeightRef & ref : weights_of(*options.draft, *stage_list))
            if (ref.part == options.draft->part()) own.push_back(ref);
    GNV_ASSIGN(d.weights, WeightGroup::plan(*variant.weights, own));
    const DType activation = device().activation_dtype();
    d.bytes = device_aligned(d.weights.bytes()) +
              TextStates::bytes(*options.draft, activation, one_text(options.capacity)) +
              TextStates::bytes(TextStates::fixed_specs_of(model()), activation, one_text(0)) +
              TextStates::bytes(TextStates::replayed_specs_of(model()), activation, one_text(most_drafts + 1)) +
              uint64_t(most_drafts + 1) * uint64_t(model().sizes().vocabulary) * sizeof(float);
    return {};
}

Status TextSession::State::allocate_drafting() {
    Drafting & d = *drafting;
    GNV_ASSIGN(d.states,
               TextStates::create(TextStates::specs_of(*options.draft), device(), one_text(options.capacity)));
    GNV_ASSIGN(d.before, TextStates::create(TextStates::fixed_specs_of(model()), device(), one_text(0)));
    GNV_ASSIGN(d.kept, TextStates::create(TextStates::replayed_specs_of(model()), device(), one_text(most_drafts + 1)));
    StageOptions last = stage_options(false), all = stage_options(true);
    last.largest_logit = all.largest_logit = true;
    d.runner.emplace(device(), last, kept_draft_shapes);
    d.largest_of_all.emplace(device(), all, size_t(most_drafts));
    d.replay.emplace(device(), stage_options(false), size_t(most_drafts) * size_t(model().sizes().layers));

    GNV_ASSIGN(d.memory, device().allocate(d.weights.bytes()));
    d.weights = d.weights.at(d.memory.get());
    return d.weights.read_all(*variant.weights, *variant.files, *threads, nullptr);
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
    GNV_TRY(run_groups(batch, of_pass, all));
    remember(batch, 0);
    d.counts.drafted += batch.shape.positions - 1;
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
    past++;
    next_position.front()++;
    return true;
}

Status TextSession::State::settle() {
    Drafting & d = *drafting;
    if (!d.is_ahead()) return {};
    const int64_t rows = int64_t(d.ids.size());
    states.copy_fixed(d.before);
    BatchInputs batch;
    batch.shape = shape_of(d.taken);
    batch.shape.as_steps = true;
    batch.segments = {0, int32_t(d.taken)};
    GNV_ASSIGN(const DeviceBatch there, places.front().inputs.upload(device(), batch, *threads));
    for (int32_t layer = 0; layer < model().sizes().layers; layer++) {
        if (model().replayed(layer).empty()) continue;
        const std::vector<Stage> stage = {replay_stage(model(), layer)};
        GNV_ASSIGN(const uint64_t bytes, d.replay->arena_bytes(variant, stage, batch.shape));
        GNV_TRY(grow(batch.shape, bytes, ""));
        StageCall call{variant, stage, groups[size_t(layer) + 1], batch.shape, there};
        call.states = &states;
        call.kept_rows = &d.kept;
        GNV_TRY(d.replay->run(call, places.front().arena.get(), arena_bytes));
    }
    for (int64_t axis = 2; axis >= 0; axis--) {
        const auto begin = d.positions.begin() + ptrdiff_t(axis * rows);
        d.positions.erase(begin + ptrdiff_t(d.taken), begin + ptrdiff_t(rows));
    }
    d.ids.resize(size_t(d.taken));
    return {};
}

// --- The draft head -----------------------------------------------------------------------------------------------------------

// `rows_of`: the stream's rows of the batch, in and out.
Status TextSession::State::run_draft(BatchInputs & batch, uint8_t * rows_of, bool with_head, LargestLogit & largest) {
    Drafting & d = *drafting;
    const int64_t count = batch.shape.positions;
    batch.shape.segments = 1;
    batch.shape.cached = true;
    batch.shape.capacity = options.capacity;
    batch.shape.as_steps = count > 1 && count <= most_drafts + 1; // weights are read as they lie
    batch.segments = {0, int32_t(count)};
    batch.last_positions = {0};
    batch.pairs.resize(2 * size_t(count));
    for (int32_t t = 0; t < int32_t(count); t++)
        batch.pairs[2 * size_t(t)] = t, batch.pairs[2 * size_t(t) + 1] = -1 - t;
    BatchShape last = batch.shape; // of the head
    last.positions = 1;
    last.as_steps = false;
    last.draft = DraftInput::own;
    GNV_ASSIGN(const uint64_t of_block, d.runner->arena_bytes(d.variant, d.block, batch.shape));
    GNV_ASSIGN(const uint64_t of_head, d.runner->arena_bytes(d.variant, d.head, last));
    GNV_TRY(grow(batch.shape, std::max(of_block, of_head), ""));
    GNV_ASSIGN(DeviceBatch there, places.front().inputs.upload(device(), batch, *threads));
    there.allowed = allowed.place();
    StageCall call{d.variant, d.block, d.weights, batch.shape, there};
    call.fields[hidden_field] = rows_of;
    call.states = &d.states;
    call.more_weights = groups;
    GNV_TRY(d.runner->run(call, places.front().arena.get(), arena_bytes));
    if (!with_head) return {};
    StageCall head{d.variant, d.head, d.weights, last, there};
    head.fields[hidden_field] =
        rows_of + uint64_t(count - 1) * tensor_bytes(device().activation_dtype(), {1, model().sizes().hidden});
    head.states = &d.states;
    head.more_weights = groups;
    head.on_largest = [&](const Tensor & ids, const Tensor & logits) -> Status {
        device().download(&largest.id, ids.data, sizeof largest.id);
        device().download(&largest.logit, logits.data, sizeof largest.logit);
        return device().synchronize();
    };
    return d.runner->run(head, places.front().arena.get(), arena_bytes);
}

Result<std::vector<int32_t>> TextSession::State::follow(int32_t next_id, int64_t count) {
    Drafting & d = *drafting;
    std::vector<int32_t> drafts;
    if (d.ids.empty() || !d.has_stream) return drafts;
    if (allowed.ids.empty()) count = 0; // not known among which
    BatchInputs batch;
    const size_t rows = d.ids.size();
    batch.shape.positions = int64_t(rows);
    batch.shape.draft = DraftInput::of_text;
    batch.ids.assign(d.ids.begin() + 1, d.ids.end());
    batch.ids.push_back(next_id);
    batch.positions = d.positions;
    batch.past = {int32_t(d.past)};
    LargestLogit largest;
    auto * stream_rows = static_cast<uint8_t *>(places.front().hidden.get());
    GNV_TRY(run_draft(batch, stream_rows, count > 0, largest));
    d.past += int64_t(rows);
    if (count > 0 && largest.id >= 0) drafts.push_back(largest.id);
    stream_rows += uint64_t(rows - 1) * tensor_bytes(device().activation_dtype(), {1, model().sizes().hidden});
    std::array<int32_t, 3> at;
    for (size_t axis = 0; axis < 3; axis++) at[axis] = d.positions[axis * rows + rows - 1];
    while (!drafts.empty() && int64_t(drafts.size()) < count) { // rows that the next call writes again
        BatchInputs one;
        one.shape.positions = 1;
        one.shape.draft = DraftInput::own;
        one.ids = {drafts.back()};
        const auto steps = int32_t(drafts.size());
        one.positions = {at[0] + steps, at[1] + steps, at[2] + steps};
        one.past = {int32_t(d.past) + steps - 1};
        largest = {};
        GNV_TRY(run_draft(one, stream_rows, true, largest));
        if (largest.id < 0) break;
        drafts.push_back(largest.id);
    }
    return drafts;
}

} // namespace gnv
