#include "session/texts/shared_texts.h"

#include <algorithm>

namespace gnv {

constexpr int64_t chunk = 64; // a piece ends at a multiple of it: GatedDeltaNetParams

Result<std::unique_ptr<SharedText>> SharedTexts::open() {
    auto text = std::make_unique<SharedText>(); // first, so that no failure leaves a slot without an owner
    GNV_ASSIGN(text->state, session_.pool().open());
    open_head(*text);
    return text;
}

void SharedTexts::open_head(SharedText & text) {
    if (!session_.head_pool()) return;
    Result<PooledText> head = session_.head_pool()->open();
    GNV_CHECK(head.ok()); // it has as many texts
    text.head = head.take();
}

void SharedTexts::close(SharedText & text) {
    session_.end_draft(text.draft);
    if (session_.head_pool()) session_.head_pool()->close(text.head);
    session_.pool().close(text.state);
}

Status SharedTexts::draft(SharedText & text, const DraftOptions & draft) {
    if (!session_.head_pool()) return Status(Code::unsupported, "the model was opened without texts that draft");
    if (text.draft) GNV_TRY(session_.settle(*text.draft));
    if (draft.tokens == 0) {
        session_.end_draft(text.draft);
        return {};
    }
    if (text.draft) {
        text.draft->begin(draft);
        return {};
    }
    GNV_ASSIGN(text.draft, session_.begin_draft(text.state, draft));
    return {};
}

Status SharedTexts::feed(SharedText & text, std::span<const int32_t> ids, TextWant want, IsEnough is_enough,
                         const Draw & draw) {
    GNV_CHECK((want == TextWant::pick) == bool(is_enough));
    const int64_t vocabulary = session_.vocabulary(), past = text.state.past, capacity = session_.pool_capacity();
    if (ids.empty()) return Status(Code::invalid_argument, "the list of ids is empty; give at least one");
    if (text.waiting() > 0)
        return fail(Code::invalid_argument, text.waiting(),
                    " ids of the last feed wait: run steps before the next feed");
    if (ids.size() > size_t(capacity - past))
        return fail(Code::invalid_argument, "the text would have ", past, " + ", ids.size(),
                    " positions, the model was opened for texts of ", capacity);
    for (size_t i = 0; i < ids.size(); i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return fail(Code::invalid_argument, "ids[", i, "] is ", ids[i], ", the model's vocabulary has ", vocabulary,
                        "; was another tokenizer used?");
    // Guesses are those of single ids: the bits of longer feeds are others.
    const bool is_there = ids.size() == 1 && text.draft &&
                          session_.take_ahead(text.state, *text.draft, ids.front(), want, text.largest,
                                              want == TextWant::pick ? text.some.logits : text.numbers);
    if (!is_there) GNV_TRY(session_.pool().reserve(text.state, past + int64_t(ids.size())));
    text.fed.assign(ids.begin(), ids.end());
    text.done = 0;
    text.want = want;
    text.is_enough = std::move(is_enough);
    text.draw = draw;
    text.turn = turn_++;
    text.has = TextWant::none;
    if (!is_there) return {};
    text.done = 1;
    text.has = want;
    text.is_enough = {};
    if (want == TextWant::pick) text.some.ids.clear();
    return {};
}

void SharedTexts::restart(SharedText & text) {
    if (text.draft) {
        session_.forget_draft(*text.draft);
        text.draft->begin(text.draft->plan.options());
    }
    if (session_.head_pool()) session_.head_pool()->restart(text.head);
    session_.pool().restart(text.state);
    text.fed.clear();
    text.done = 0;
    text.is_enough = {};
    text.has = TextWant::none;
}

Status SharedTexts::run(std::span<SharedText * const> texts, std::span<const int64_t> counts,
                        const std::function<bool(int64_t done, int64_t total)> & on_progress) {
    std::vector<TextTurn> turns;
    for (size_t i = 0; i < texts.size(); i++) {
        SharedText & text = *texts[i];
        const std::span<const int32_t> ids = std::span(text.fed).subspan(text.done, size_t(counts[i]));
        const bool is_last = counts[i] == text.waiting();
        turns.push_back({&text.state, ids, is_last ? text.want : TextWant::none, &text.largest, &text.numbers,
                         &text.some, text.is_enough, text.draw, text.draft.get(), &text.head,
                         is_last ? -1 : text.fed[text.done + size_t(counts[i])]});
    }
    Status status = session_.run_pool(turns, on_progress);
    if (!status.ok()) {
        for (SharedText * const text : texts) restart(*text);
        return std::move(status).add_context(
            concat("the ", texts.size(), " texts of this pass are at their start again"));
    }
    for (size_t i = 0; i < texts.size(); i++) {
        SharedText & text = *texts[i];
        text.done += size_t(counts[i]);
        if (text.waiting() > 0) continue;
        text.has = text.want;
        text.is_enough = {};
    }
    return {};
}

Result<SharedTexts::Step> SharedTexts::step(std::span<SharedText * const> texts,
                                            const std::function<bool(int64_t done, int64_t total)> & on_progress) {
    std::vector<SharedText *> singles, longer;
    for (SharedText * const text : texts)
        if (text->waiting() > 0) (text->fed.size() == 1 ? singles : longer).push_back(text);
    std::sort(longer.begin(), longer.end(), [](const auto * a, const auto * b) { return a->turn < b->turn; });

    // Pieces of the texts that have waited longest, as many as a pass holds.
    std::vector<int64_t> counts;
    int64_t room = session_.piece();
    const auto first_without = std::find_if(longer.begin(), longer.end(), [&](const SharedText * text) {
        // One position more where otherwise a single one would be left, which has other bits.
        const int64_t count = text->waiting() <= room + 1 ? text->waiting() : room / chunk * chunk;
        if (room <= 0 || count == 0) return true;
        counts.push_back(count);
        room -= count;
        return false;
    });
    longer.erase(first_without, longer.end());

    Step step;
    const std::vector<int64_t> ones(singles.size(), 1);
    const auto go = [&](std::span<SharedText * const> some, std::span<const int64_t> of_each) -> Status {
        if (some.empty()) return {};
        GNV_TRY(run(some, of_each, on_progress));
        step.texts += int64_t(some.size());
        for (const int64_t count : of_each) step.positions += count;
        return {};
    };
    GNV_TRY(go(singles, ones));
    GNV_TRY(go(longer, counts));
    for (const SharedText * const text : texts) step.waiting += text->waiting();
    return step;
}

static Status refuse_waiting(const SharedText & text) {
    if (text.waiting() == 0) return {};
    return fail(Code::invalid_argument, text.waiting(), " ids of the text wait: run steps first");
}

Result<std::unique_ptr<SharedText>> SharedTexts::copy(SharedText & text) {
    GNV_TRY(refuse_waiting(text));
    if (text.draft) GNV_TRY(session_.settle(*text.draft));
    auto made = std::make_unique<SharedText>();
    GNV_ASSIGN(made->state, session_.pool().copy(text.state));
    open_head(*made);
    copy_head(*made, text);
    static_cast<FedText &>(*made) = text;
    return made;
}

// Without room for a copy the head begins anew: it guesses worse then.
void SharedTexts::copy_head(SharedText & to, const SharedText & from) {
    TextPool * const heads = session_.head_pool();
    if (heads && !heads->assign(to.head, from.head).ok()) heads->restart(to.head);
}

Status SharedTexts::assign(SharedText & text, SharedText & from) {
    GNV_TRY(refuse_waiting(from));
    if (&text == &from) return {};
    if (from.draft) GNV_TRY(session_.settle(*from.draft));
    GNV_TRY(session_.pool().assign(text.state, from.state));
    if (text.draft) {
        session_.forget_draft(*text.draft);
        text.draft->begin(text.draft->plan.options());
    }
    copy_head(text, from);
    static_cast<FedText &>(text) = from;
    return {};
}

} // namespace gnv
