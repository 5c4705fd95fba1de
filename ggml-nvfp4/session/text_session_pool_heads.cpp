// The runs of the draft head for texts of the pool (text_session_pool_draft.cpp).
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

namespace {

// The inputs of a draft head for some texts.
struct HeadInputs {
    std::vector<int32_t> ids, positions, pairs, segments = {0}, past, last, pages;

    // The rows of one more text, of `all` rows of all texts, from position `first` of the text on.
    void add(const PooledText & head, int64_t rows, int64_t all, int64_t first, int64_t pages_of_text) {
        positions.resize(size_t(3 * all));
        const int32_t begin = segments.back();
        for (int32_t t = 0; t < int32_t(rows); t++) {
            for (int64_t axis = 0; axis < 3; axis++) positions[size_t(axis * all + begin + t)] = int32_t(first) + t;
            pairs.push_back(begin + t), pairs.push_back(-1 - begin - t);
        }
        segments.push_back(begin + int32_t(rows));
        past.push_back(int32_t(head.past));
        last.push_back(segments.back() - 1);
        const size_t before = pages.size();
        pages.insert(pages.end(), head.pages.begin(), head.pages.end());
        pages.resize(before + size_t(pages_of_text)); // pages without rows are never read
    }
    DeviceBatch send(InputBlock & block, Backend & device) const {
        DeviceBatch there;
        there.ids = block.add(ids), there.positions = block.add(positions), there.pairs = block.add(pairs);
        there.segments = block.add(segments), there.past = block.add(past), there.last_positions = block.add(last);
        there.pages = block.add(pages);
        block.send(device);
        return there;
    }
};

} // namespace

// All guess, or none does; those with most guesses first.
Status TextSession::State::see_in_pool(std::span<const DraftRows> texts, std::vector<std::vector<int32_t>> & found) {
    if (texts.empty()) return {};
    PoolDrafting & d = *pool_drafting;
    const auto count = int64_t(texts.size()), most = texts.front().guesses;
    int64_t rows = 0;
    for (const DraftRows & text : texts) rows += int64_t(text.draft->ids.size());
    const int64_t pages = head_extents().capacity / cache_page;
    // How many texts take part in a step.
    const auto texts_of = [&](int64_t step) {
        return int64_t(
            std::count_if(texts.begin(), texts.end(), [&](const DraftRows & text) { return text.guesses > step; }));
    };
    const BatchShape shape = head_shape(rows, count, DraftInput::of_text);
    const std::vector<Stage> & stages_of_head = most > 0 ? drafting->guessing : drafting->block;
    GNV_ASSIGN(uint64_t arena, d.runner->arena_bytes(drafting->variant, stages_of_head, shape));
    for (int64_t step = 1; step < most; step++) {
        const BatchShape own = head_shape(texts_of(step), texts_of(step), DraftInput::own);
        GNV_ASSIGN(const uint64_t bytes,
                   d.own_runners[size_t(step)]->arena_bytes(drafting->variant, drafting->guessing, own));
        arena = std::max(arena, bytes);
    }
    GNV_TRY(grow_idle(shape, arena));

    HeadInputs inputs;
    for (const DraftRows & text : texts) {
        const std::vector<int32_t> & ids = text.draft->ids;
        inputs.ids.insert(inputs.ids.end(), ids.begin() + 1, ids.end());
        inputs.ids.push_back(text.next_id);
        inputs.add(*text.head, int64_t(ids.size()), rows, text.draft->first, pages);
    }
    DeviceBatch there = inputs.send(d.inputs, device());
    there.allowed = pool_allowed.place();
    const uint64_t row = row_bytes();
    auto * const here = static_cast<uint8_t *>(places.front().hidden.get());
    auto * const own = static_cast<uint8_t *>(d.own.get());
    const auto * const kept = static_cast<const uint8_t *>(d.streams.get());
    for (size_t i = 0; i < texts.size(); i++)
        device().copy(here + uint64_t(inputs.segments[i]) * row,
                      kept + uint64_t(texts[i].draft->place * DraftInputs::most_rows) * row,
                      texts[i].draft->ids.size() * row);
    auto * const guessed = static_cast<int32_t *>(d.guesses.get());
    GNV_TRY(run_head(*d.runner, shape, there, d.heads.states(), here, most > 0 ? guessed : nullptr));
    for (const DraftRows & text : texts) text.head->past += int64_t(text.draft->ids.size());
    if (most > 1)
        for (size_t i = 0; i < texts.size(); i++)
            device().copy(own + i * row, here + uint64_t(inputs.last[i]) * row, row);

    HeadInputs of_own; // of the first few texts in each step
    for (const DraftRows & text : texts) of_own.add(*text.head, 1, count, 0, 0);
    DeviceBatch batch = of_own.send(d.inputs, device());
    batch.pages = there.pages;
    batch.allowed = there.allowed;
    for (int64_t step = 1; step < most; step++) { // rows that the next call writes again
        const int64_t some = texts_of(step);
        std::vector<int32_t> positions, rows_before;
        for (const DraftRows & text : texts.first(size_t(some))) {
            positions.push_back(int32_t(text.draft->first + int64_t(text.draft->ids.size()) - 1 + step));
            rows_before.push_back(int32_t(text.head->past + step - 1));
        }
        for (int64_t i = 0; i < 2 * some; i++) positions.push_back(positions[size_t(i)]); // all axes
        batch.ids = guessed + (step - 1) * d.places;
        batch.positions = d.inputs.add(positions), batch.past = d.inputs.add(rows_before);
        d.inputs.send(device());
        GNV_TRY(run_head(*d.own_runners[size_t(step)], head_shape(some, some, DraftInput::own), batch, d.heads.states(),
                         own, guessed + step * d.places));
    }
    std::vector<int32_t> all(size_t(most * d.places));
    if (most > 0) {
        device().download(all.data(), guessed, all.size() * sizeof(int32_t));
        GNV_TRY(synchronize());
    }
    for (size_t i = 0; i < texts.size(); i++) {
        for (int64_t step = 0; step < texts[i].guesses; step++)
            found[texts[i].turn].push_back(all[size_t(step * d.places) + i]);
        texts[i].draft->forget();
    }
    return {};
}

Status TextSession::State::see_piece(const TextTurn & turn, int64_t begin) {
    PoolDrafting & d = *pool_drafting;
    const auto all = int64_t(turn.ids.size()), rows = turn.next_id < 0 ? all - 1 : all;
    if (!has_head_room(*turn.head, rows)) return {};
    const BatchShape shape = head_shape(rows, 1, DraftInput::of_text);
    GNV_ASSIGN(const uint64_t arena, d.runner->arena_bytes(drafting->variant, drafting->block, shape));
    // The stream must stay where it is; the pass had more positions.
    if (arena > arena_bytes) GNV_TRY(grow_idle(shape, arena));
    HeadInputs inputs;
    inputs.ids.assign(turn.ids.begin() + 1, turn.ids.end());
    if (turn.next_id >= 0) inputs.ids.push_back(turn.next_id);
    inputs.add(*turn.head, rows, rows, turn.text->past, head_extents().capacity / cache_page);
    const DeviceBatch there = inputs.send(d.inputs, device());
    auto * const here = static_cast<uint8_t *>(places.front().hidden.get()) + uint64_t(begin) * row_bytes();
    GNV_TRY(run_head(*d.runner, shape, there, d.heads.states(), here, nullptr));
    turn.head->past += rows;
    return {};
}

} // namespace gnv
