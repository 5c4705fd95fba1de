// A pass over texts of the pool. Linears and experts run on the rows of all texts at once, attention, convolution and Gated
// DeltaNet on each text with its own states. Linears of single positions add in another order than those of longer pieces
// (graph/ops.h: few_rows), so a pass has texts of one kind: then a text's bits do not depend on the others.
#include "core/clock.h"
#include "exec/host_tensor.h"
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

TextPool & TextSession::pool() { return state_->pool; }
int64_t TextSession::pool_capacity() const { return state_->options.capacity; }
Status TextSession::synchronize() { return state_->synchronize(); }

Status TextSession::allow_in_pool(std::span<const uint8_t> ids) {
    GNV_CHECK(int64_t(ids.size()) == vocabulary());
    return state_->pool_allowed.set(*state_->last().device, state_->aliases(), ids);
}

StageRunner & TextSession::State::pool_runner(size_t group, const BatchShape & shape, TextWant want) {
    if (group + 1 == groups.size() && want == TextWant::largest) return *pool_largest;
    if (group + 1 == groups.size() && want == TextWant::pick) return *pool_top;
    if (group + 1 == groups.size() && want == TextWant::draw) return *pool_draw;
    if (group + 1 == groups.size() && want == TextWant::embedding) return *pool_embeds;
    return *pool_runners[shape.has_few_rows()][group];
}

// Slots, pages and positions of the texts; `past` too.
static void add_states(std::span<const TextTurn> turns, BatchInputs & batch) {
    const auto total = size_t(batch.shape.positions);
    for (size_t s = 0; s < turns.size(); s++) {
        const PooledText & text = *turns[s].text;
        batch.past.push_back(int32_t(text.past));
        batch.slots.push_back(text.slot);
        const size_t begin = batch.pages.size();
        batch.pages.insert(batch.pages.end(), text.pages.begin(), text.pages.end());
        batch.pages.resize(begin + size_t(batch.shape.capacity / cache_page)); // pages without rows are never read
        for (size_t axis = 0; axis < 3; axis++)
            for (auto t = size_t(batch.segments[s]); t < size_t(batch.segments[s + 1]); t++)
                batch.positions[axis * total + t] += int32_t(text.past);
    }
}

Status TextSession::State::run_pool_head(const PoolHead & head, const BatchShape & shape, const DeviceBatch & there,
                                         std::span<const TextTurn> turns) {
    const size_t last_group = groups.size() - 1;
    SessionPlace & place = last();
    Backend & here = *place.device;
    StageCall call{variant, stages[last_group], groups[last_group], shape, there};
    call.fields[hidden_field] = place.hidden.get();
    call.states = &pool.states();
    call.on_logits = [&](const Tensor & tensor) -> Status {
        GNV_ASSIGN(const HostTensor host, download_tensor(here, tensor));
        const auto * from = host.tensor.as<const float>();
        const int64_t columns = tensor.shape.last();
        for (const PoolHead::Row & row : head.rows) {
            const TextTurn & turn = turns[row.turn];
            const bool picks = turn.want == TextWant::pick;
            if (row.ahead >= 0) turn.draft->logits.insert(turn.draft->logits.end(), from, from + columns);
            if (picks && row.ahead <= 0) turn.some->ids.clear();
            if (row.ahead <= 0) (picks ? turn.some->logits : *turn.numbers).assign(from, from + columns);
            from += columns;
        }
        return {};
    };
    call.on_largest = [&](const Tensor & ids, const Tensor & logits) -> Status {
        GNV_ASSIGN(const std::vector<LargestLogit> found, chosen_rows.download(here, ids, logits));
        for (size_t i = 0; i < head.rows.size(); i++) {
            const auto & [turn, ahead] = head.rows[i];
            if (ahead >= 0) turns[turn].draft->largest.push_back(found[i]);
            if (ahead <= 0) *turns[turn].largest = found[i];
        }
        return {};
    };
    std::vector<LogitRow> rows;
    for (const PoolHead::Row & row : head.rows) rows.push_back({turns[row.turn].some, &turns[row.turn].is_enough});
    call.on_top = [&](const Tensor & ids, const Tensor & logits, const Tensor & all) {
        return take_logits(here, ids, logits, all, rows);
    };
    return pool_runner(last_group, shape, head.want).run(call, place.arena.get(), arena_bytes);
}

Status TextSession::run_pool(std::span<const TextTurn> turns,
                             const std::function<bool(int64_t done, int64_t total)> & on_progress) {
    State & state = *state_;
    if (state.drafting) state.drafting->has_stream = false; // these texts take its place
    const auto start = Clock::now();
    std::vector<std::vector<int32_t>> guesses(turns.size());
    if (state.pool_drafting) GNV_TRY(state.draft_in_pool(turns, guesses));
    std::vector<TextSequence> sequences(turns.size());
    bool is_ahead = false;
    for (size_t s = 0; s < turns.size(); s++) {
        sequences[s].ids.assign(turns[s].ids.begin(), turns[s].ids.end());
        sequences[s].ids.insert(sequences[s].ids.end(), guesses[s].begin(), guesses[s].end());
        is_ahead |= !guesses[s].empty();
    }
    BatchInputs inputs = make_batch(sequences.data(), sequences.size());
    BatchShape shape = state.pool_shape(inputs.shape.positions, inputs.shape.segments);
    shape.as_steps = is_ahead;
    inputs.shape = shape;
    add_states(turns, inputs);

    // The head runs once for each kind of results, for the texts that want it.
    std::vector<State::PoolHead> heads;
    inputs.last_positions.clear();
    const auto result_of = [&](size_t s) { // logits that are in host memory, or kept for later, need not be few
        const bool all = state.aliases() || !guesses[s].empty();
        return turns[s].want == TextWant::pick && all ? TextWant::logits : turns[s].want;
    };
    for (const TextWant want :
         {TextWant::largest, TextWant::logits, TextWant::pick, TextWant::draw, TextWant::embedding}) {
        State::PoolHead head = {want, {}};
        for (size_t s = 0; s < turns.size(); s++) {
            if (result_of(s) != want) continue;
            const auto rows = int64_t(guesses[s].size()) + 1;
            for (int64_t ahead = 0; ahead < rows; ahead++) {
                head.rows.push_back({s, rows > 1 ? ahead : -1});
                inputs.last_positions.push_back(inputs.segments[s + 1] - int32_t(rows - ahead));
            }
            if (want == TextWant::draw) inputs.draws.push_back(turns[s].draw);
        }
        if (!head.rows.empty()) heads.push_back(std::move(head));
    }
    const auto shape_of = [&](const State::PoolHead & head) {
        BatchShape of_head = shape;
        of_head.asked = int64_t(head.rows.size());
        return of_head;
    };

    const size_t last = state.groups.size() - 1;
    GNV_TRY(state.synchronize()); // before memory is replaced
    uint64_t arena = 0;
    for (size_t g = 0; g < last; g++) {
        StageRunner & runner = state.pool_runner(g, shape, TextWant::none);
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(state.variant, state.stages[g], state.shape_on(g, shape)));
        arena = std::max(arena, bytes);
    }
    for (const State::PoolHead & head : heads) {
        StageRunner & runner = state.pool_runner(last, shape, head.want);
        GNV_ASSIGN(const uint64_t bytes, runner.arena_bytes(state.variant, state.stages[last], shape_of(head)));
        arena = std::max(arena, bytes);
    }
    BatchShape with_rows = shape;
    with_rows.asked = int64_t(inputs.last_positions.size());
    GNV_TRY(state.grow(with_rows, arena, ""));
    if (is_ahead) state.keep_states(turns, guesses);
    const auto pass = Clock::now();
    GNV_ASSIGN(std::vector<DeviceBatch> there, state.upload_inputs(inputs, state.pool_allowed));

    const auto groups = int64_t(state.groups.size()), positions = shape.positions;
    int64_t done = 0; // groups
    const auto tell = [&]() -> Status {
        const bool go_on = !on_progress || on_progress(done * positions, groups * positions);
        return go_on ? Status() : Status(Code::cancelled, "stopped on request");
    };
    for (; done < groups; done++) {
        const auto g = size_t(done);
        GNV_TRY(tell());
        if (g == last && heads.empty()) continue;
        if (!state.stay) GNV_TRY(state.bring(g, tell));
        state.follow_hidden(g, shape);
        if (g == last) break;
        SessionPlace & place = state.place_of(g);
        const DeviceBatch & batch = there[size_t(&place - state.places.data())];
        const BatchShape on_group = state.shape_on(g, shape);
        StageCall call{state.variant, state.stages[g], state.groups[g], on_group, batch};
        state.give_experts(g, call);
        call.fields[hidden_field] = place.hidden.get();
        call.states = &state.pool.states();
        if (is_ahead) call.kept_rows = &state.pool_drafting->kept;
        GNV_TRY(state.pool_runner(g, on_group, TextWant::none).run(call, place.arena.get(), state.arena_bytes));
    }
    for (const State::PoolHead & head : heads) {
        GNV_TRY(state.run_pool_head(head, shape_of(head), there.back(), turns));
        there.back().last_positions += head.rows.size();
    }
    done = groups;
    GNV_TRY(tell());
    if (state.pool_drafting) {
        GNV_TRY(state.keep_drafts(turns, inputs));
        if (shape.has_few_rows()) state.count_drafts(turns, guesses, seconds_since(start), seconds_since(pass));
    }
    for (const TextTurn & turn : turns) turn.text->past += int64_t(turn.ids.size());
    return {};
}

} // namespace gnv
