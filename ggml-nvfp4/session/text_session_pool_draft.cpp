// Drafting for texts of the pool: text_session_draft.cpp for many texts at once, beside others without.
//
//   feed(a, t0) feed(b, u0) feed(c, v0)     a and b draft, c does not
//   settle        the states of a and b are taken back to what came of their last pass ahead
//   see_in_pool   the draft heads of a and b see the rows that came, and guess: a1 a2, b1 b2; each step is one run for both
//   run_pool      t0 a1 a2 | u0 b1 b2 | v0 in one pass, each row with the bits of a step of its own
//   feed(a, a1)   its result is there: no step
//
// Rows of the stream wait in a place of each text until the ids behind them are known, because passes of others come between. Rows
// for replays lie where the pass made them, so all texts that are ahead settle before the next pass ahead.
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

// --- Texts --------------------------------------------------------------------------------------------------------------------

TextPool * TextSession::head_pool() { return state_->pool_drafting ? &state_->pool_drafting->heads : nullptr; }

DraftUse TextSession::draft_use() const {
    if (!state_->pool_drafting) return {};
    const PoolDrafting & d = *state_->pool_drafting;
    return {d.places - int64_t(d.free_places.size()), d.places, d.bytes};
}

Result<std::unique_ptr<TextDraft>> TextSession::begin_draft(const PooledText & text, const DraftOptions & options) {
    auto draft = std::make_unique<TextDraft>();
    PoolDrafting & d = *state_->pool_drafting;
    if (d.free_places.empty())
        return fail(Code::out_of_memory, "all ", d.places,
                    " texts draft that the model was opened for: end drafting of one, or open the model for more");
    draft->place = d.free_places.back();
    d.free_places.pop_back();
    draft->slot = text.slot;
    draft->begin(options);
    return draft;
}

void TextSession::forget_draft(TextDraft & draft) {
    std::erase(state_->pool_drafting->ahead, &draft);
    draft.forget();
}

void TextSession::end_draft(std::unique_ptr<TextDraft> & draft) {
    if (!draft) return;
    forget_draft(*draft);
    state_->pool_drafting->free_places.push_back(draft->place);
    draft.reset();
}

bool TextSession::take_ahead(PooledText & text, TextDraft & draft, int32_t id, TextWant want, LargestLogit & largest,
                             std::vector<float> & logits) {
    const auto row = size_t(draft.taken);
    if (!draft.is_ahead() || row >= draft.ids.size() || draft.ids[row] != id) return false;
    switch (want) {
    case TextWant::none: break;
    case TextWant::largest:
        if (draft.largest.empty()) return false;
        largest = draft.largest[row];
        break;
    case TextWant::logits:
    case TextWant::pick: {
        if (draft.logits.empty()) return false;
        const auto columns = vocabulary();
        const auto begin = draft.logits.begin() + draft.taken * columns;
        logits.assign(begin, begin + columns);
        break;
    }
    default: return false;
    }
    draft.taken++;
    draft.tokens++;
    draft.counts.accepted++;
    draft.counts.timed_tokens += draft.is_timed;
    text.past++;
    return true;
}

Status TextSession::settle(TextDraft & draft) {
    if (!draft.is_ahead()) return {};
    GNV_TRY(state_->synchronize());
    state_->pool_drafting->inputs.clear();
    TextDraft * const list[] = {&draft};
    return state_->settle_in_pool(list);
}

// --- Before a pass ------------------------------------------------------------------------------------------------------------

// Memory of activations; what is queued uses it.
Status TextSession::State::grow_idle(const BatchShape & shape, uint64_t arena_wanted) {
    if (arena_wanted > arena_bytes || hidden_bytes_of(shape) > hidden_bytes || !places.front().arena)
        GNV_TRY(synchronize());
    return grow(shape, arena_wanted, "");
}

Status TextSession::State::settle_in_pool(std::span<TextDraft * const> drafts) {
    PoolDrafting & d = *pool_drafting;
    std::vector<TextDraft *> back; // of which not all has come
    for (TextDraft * const draft : drafts)
        if (draft->taken < int64_t(draft->ids.size())) back.push_back(draft);
    const auto shape_of_rows = [&](int64_t rows) {
        BatchShape shape = pool_shape(rows, 1);
        shape.as_steps = true;
        return shape;
    };
    uint64_t arena = 0;
    for (const TextDraft * const draft : back)
        for (int32_t layer = 0; layer < model().sizes().layers; layer++) {
            if (model().replayed(layer).empty()) continue;
            const std::vector<Stage> stage = {replay_stage(model(), layer)};
            GNV_ASSIGN(const uint64_t bytes, d.replay->arena_bytes(variant, stage, shape_of_rows(draft->taken)));
            arena = std::max(arena, bytes);
        }
    if (!back.empty()) GNV_TRY(grow_idle(shape_of_rows(1), arena));
    std::vector<DeviceBatch> there(back.size());
    for (size_t i = 0; i < back.size(); i++) {
        const int32_t segments[] = {0, int32_t(back[i]->taken)};
        there[i].segments = d.inputs.add(segments);
        there[i].slots = d.inputs.add({&back[i]->slot, 1});
    }
    d.inputs.send(device());
    for (size_t i = 0; i < back.size(); i++) {
        const TextDraft & draft = *back[i];
        pool.states().copy_fixed(draft.slot, d.before, draft.place);
        GNV_TRY(replay(*d.replay, shape_of_rows(draft.taken), there[i], pool.states(), d.kept, draft.kept_at));
    }
    for (TextDraft * const draft : drafts) {
        draft->ids.resize(size_t(draft->taken));
        draft->logits.clear(), draft->largest.clear();
        draft->kept_at = -1;
        std::erase(d.ahead, draft);
    }
    return {};
}

// Without room the head starts anew: it guesses worse then.
bool TextSession::State::has_head_room(PooledText & head, int64_t positions) {
    TextPool & heads = pool_drafting->heads;
    if (heads.reserve(head, head.past + positions).ok()) return true;
    heads.restart(head);
    return heads.reserve(head, positions).ok();
}

// Below 0: the head does not follow the text. `texts` draft in the pass.
int64_t TextSession::State::pool_guesses(const TextTurn & turn, int64_t texts) {
    TextDraft & draft = *turn.draft;
    PooledText & text = *turn.text;
    if (turn.ids.size() > 1) return draft.plan.end() > 0 ? -1 : 0;
    int64_t count = draft.plan.next(draft.counts, draft.tokens, options.capacity - text.past - 1);
    const bool has_results =
        turn.want == TextWant::largest || turn.want == TextWant::logits || turn.want == TextWant::pick;
    if (count <= 0 || !has_results || draft.ids.empty() || !pool_allowed.any) return std::min<int64_t>(count, 0);
    count = std::min(count, pool_drafting->rows / texts - 1);
    if (pool.reserve(text, text.past + 1 + count).ok()) return count;
    return std::min(count, int64_t(text.pages.size()) * cache_page - text.past - 1); // in the last page
}

Status TextSession::State::draft_in_pool(std::span<const TextTurn> turns, std::vector<std::vector<int32_t>> & guesses) {
    PoolDrafting & d = *pool_drafting;
    GNV_TRY(synchronize()); // before inputs are replaced
    d.inputs.clear();
    const auto texts = int64_t(std::count_if(turns.begin(), turns.end(), [](const TextTurn & t) { return t.draft; }));
    if (texts == 0) return {};
    std::vector<int64_t> counts(turns.size(), -1);
    bool guesses_any = false;
    for (size_t s = 0; s < turns.size(); s++)
        if (turns[s].draft) guesses_any |= (counts[s] = pool_guesses(turns[s], texts)) > 0;
    std::vector<TextDraft *> settles;
    if (guesses_any) settles = d.ahead;
    for (const TextTurn & turn : turns)
        if (!guesses_any && turn.draft && turn.draft->is_ahead()) settles.push_back(turn.draft);
    GNV_TRY(settle_in_pool(settles));

    std::vector<DraftRows> sees[2]; // without guesses, with
    for (size_t s = 0; s < turns.size(); s++) {
        const TextTurn & turn = turns[s];
        if (!turn.draft) continue;
        const auto rows = int64_t(turn.draft->ids.size());
        if (counts[s] < 0 || rows == 0 || !has_head_room(*turn.head, rows + counts[s])) {
            turn.draft->forget();
            continue;
        }
        sees[counts[s] > 0].push_back({turn.draft, turn.head, turn.ids.front(), counts[s], s});
    }
    for (std::vector<DraftRows> & some : sees) // most guesses first: each own step is for the first few
        std::stable_sort(some.begin(), some.end(),
                         [](const auto & a, const auto & b) { return a.guesses > b.guesses; });
    GNV_TRY(see_in_pool(sees[0], guesses));
    return see_in_pool(sees[1], guesses);
}

// --- After a pass -------------------------------------------------------------------------------------------------------------

Status TextSession::State::keep_drafts(std::span<const TextTurn> turns, const BatchInputs & inputs) {
    PoolDrafting & d = *pool_drafting;
    const auto * const here = static_cast<const uint8_t *>(places.front().hidden.get());
    for (size_t s = 0; s < turns.size(); s++) {
        const TextTurn & turn = turns[s];
        if (!turn.draft || turn.draft->plan.end() > 0) continue;
        TextDraft & draft = *turn.draft;
        const int64_t begin = inputs.segments[s], rows = inputs.segments[s + 1] - begin;
        const bool is_piece = turn.ids.size() > 1;
        if (is_piece && turn.next_id >= 0) continue;   // the head sees all of it
        const int64_t first = is_piece ? rows - 1 : 0; // of those that wait
        const auto ids = inputs.ids.begin() + begin;
        draft.ids.assign(ids + first, ids + rows);
        draft.first = turn.text->past + first;
        draft.taken = 1;
        if (draft.ids.size() > 1) {
            draft.kept_at = begin;
            d.ahead.push_back(&draft);
        }
        device().copy(static_cast<uint8_t *>(d.streams.get()) +
                          uint64_t(draft.place * DraftInputs::most_rows) * row_bytes(),
                      here + uint64_t(begin + first) * row_bytes(), draft.ids.size() * row_bytes());
    }
    for (size_t s = 0; s < turns.size(); s++)
        if (turns[s].draft && turns[s].draft->plan.end() == 0 && turns[s].ids.size() > 1)
            GNV_TRY(see_piece(turns[s], inputs.segments[s]));
    return {};
}

void TextSession::State::keep_states(std::span<const TextTurn> turns, std::span<const std::vector<int32_t>> guesses) {
    for (size_t s = 0; s < turns.size(); s++) {
        if (guesses[s].empty()) continue;
        turns[s].draft->logits.clear(), turns[s].draft->largest.clear();
        pool_drafting->before.copy_fixed(turns[s].draft->place, pool.states(), turns[s].draft->slot);
    }
}

void TextSession::State::count_drafts(std::span<const TextTurn> turns, std::span<const std::vector<int32_t>> guesses,
                                      double seconds, double of_pass) {
    int64_t positions = 0;
    for (const std::vector<int32_t> & of_turn : guesses) positions += 1 + int64_t(of_turn.size());
    // The first two passes of a kind are no measure on a device: see Drafting::runs.
    const bool is_measure = pool_drafting->runs[{positions, int64_t(turns.size())}]++ >= 2 || aliases();
    for (size_t s = 0; s < turns.size(); s++) {
        if (!turns[s].draft) continue;
        TextDraft & draft = *turns[s].draft;
        DraftCounts & counts = draft.counts;
        draft.tokens++;
        draft.is_timed = is_measure && !guesses[s].empty();
        if (draft.is_timed) {
            counts.timed_tokens++;
            counts.draft_seconds += seconds;
        } else if (is_measure && draft.plan.end() == 0) {
            counts.timed_plain++;
            counts.plain_seconds += of_pass;
        }
        counts.drafted += int64_t(guesses[s].size());
        counts.passes += !guesses[s].empty();
    }
}

} // namespace gnv
