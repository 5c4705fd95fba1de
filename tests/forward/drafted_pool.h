// Texts of a pool that draft, beside others: the bits of a pool without drafting, whatever is done to them.
#pragma once

#include "forward/drafted_text.h"

#include <algorithm>
#include <optional>
#include <random>

namespace gnv::test {

struct DraftedPool {
    static constexpr int64_t capacity = 500;
    std::unique_ptr<OpenModel> model;
    std::unique_ptr<ThreadPool> threads;
    std::unique_ptr<Backend> device;
    std::unique_ptr<TextSession> session;
    std::unique_ptr<SharedTexts> texts;

    DraftedPool(const std::string & folder, int64_t drafts, const DraftPlace & place = {}, int64_t count = 6,
                int64_t positions = 0, int thread_count = 2)
        : model(open_model(folder)), threads(ThreadPool::create(thread_count).take()),
          device(place.open(*threads).take()) {
        SessionOptions options = {1, capacity, 0};
        options.pool_texts = count;
        options.pool_positions = positions > 0 ? positions : count * 3 * cache_page;
        options.draft = drafts > 0 ? model->draft.get() : nullptr;
        options.pool_drafts = drafts;
        Result<std::unique_ptr<TextSession>> made =
            TextSession::create(model->variant(place.precision), *device, *threads, options);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        session = made.take();
        REQUIRE(session->allow_in_pool(std::vector<uint8_t>(4096, 1)).ok());
        texts = std::make_unique<SharedTexts>(*session);
    }
    std::unique_ptr<SharedText> open() {
        Result<std::unique_ptr<SharedText>> text = texts->open();
        REQUIRE_MESSAGE(text.ok(), text.status().message());
        return text.take();
    }
    void draft(SharedText & text, int64_t tokens, bool automatic = false) {
        const Status status = texts->draft(text, {tokens, automatic});
        REQUIRE_MESSAGE(status.ok(), status.message());
    }
    void feed(SharedText & text, const TokenIds & ids, TextWant want) {
        const IsEnough is_enough = [](const SomeLogits & some) { return some.all(); };
        const Status status = texts->feed(text, ids, want, want == TextWant::pick ? is_enough : IsEnough());
        REQUIRE_MESSAGE(status.ok(), status.message());
    }
    int64_t step(const std::vector<SharedText *> & some) {
        const Result<SharedTexts::Step> step = texts->step(some, {});
        REQUIRE_MESSAGE(step.ok(), step.status().message());
        return step.value().waiting;
    }
    void run(const std::vector<SharedText *> & some) {
        while (step(some) > 0) continue;
    }
};

// Writes texts on together; those that draft go on while guesses come. As many tokens of each.
inline std::vector<TokenIds> write_together(DraftedPool & pool, const std::vector<int64_t> & depths, double temperature,
                                            size_t tokens, DraftCounts & sum) {
    struct Writer {
        std::unique_ptr<SharedText> text;
        std::optional<Sampler> sampler;
        TokenIds chosen;
    };
    static const std::vector<uint8_t> allowed(4096, 1);
    std::vector<Writer> writers(depths.size());
    const TextWant want = temperature > 0 ? TextWant::pick : TextWant::largest;
    for (size_t round = 0;; round++) {
        std::vector<SharedText *> list;
        for (size_t i = 0; i < writers.size(); i++) {
            Writer & writer = writers[i];
            if (round < 3 * i || writer.chosen.size() == tokens) continue; // they join one after another, and leave
            if (!writer.text) {
                writer.text = pool.open();
                if (depths[i] > 0) pool.draft(*writer.text, depths[i]);
                SamplerOptions options;
                options.temperature = temperature;
                options.seed = 100 + i;
                writer.sampler.emplace(options, allowed);
                pool.feed(*writer.text, text_ids(100 * i, 30 + 7 * i), want);
            }
            SharedText & text = *writer.text;
            while (text.waiting() == 0 && writer.chosen.size() < tokens) {
                writer.chosen.push_back(want == TextWant::largest ? text.largest.id
                                                                  : writer.sampler->pick(text.some).take());
                if (writer.chosen.size() < tokens) pool.feed(text, {writer.chosen.back()}, want);
            }
            if (writer.chosen.size() < tokens) {
                list.push_back(&text);
                continue;
            }
            if (text.draft) {
                sum.drafted += text.draft->counts.drafted, sum.accepted += text.draft->counts.accepted;
                sum.passes += text.draft->counts.passes;
                CHECK(text.draft->counts.passes > 0);
                CHECK(text.draft->counts.gain() > 0);
            }
            pool.texts->close(text);
        }
        const bool all_done = std::all_of(writers.begin(), writers.end(),
                                          [&](const Writer & writer) { return writer.chosen.size() == tokens; });
        if (all_done) break;
        pool.step(list);
    }
    std::vector<TokenIds> out;
    for (Writer & writer : writers) out.push_back(writer.chosen);
    return out;
}

// Texts of a checkpoint that are written together, greedy and sampled, with drafting and without; adds what was guessed.
inline void check_written_together(const std::string & folder, const DraftPlace & place, DraftCounts & sum) {
    DraftedPool plain(folder, 0, place), drafting(folder, 4, place);
    DraftCounts none;
    for (const double temperature : {0.0, 0.7}) {
        CAPTURE(folder);
        CAPTURE(temperature);
        const std::vector<TokenIds> expected = write_together(plain, {0, 0, 0, 0, 0}, temperature, 60, none);
        CHECK(write_together(drafting, {2, 0, 4, 15, 1}, temperature, 60, sum) == expected);
        CHECK(write_together(drafting, {0, 3, 0, 0, 0}, temperature, 60, sum) == expected);
        CHECK(drafting.session->draft_use().texts == 0);
        CHECK(drafting.session->pool().use().texts == 0);
        CHECK(drafting.session->head_pool()->use().positions == 0);
    }
}

// The same is done to texts of a pool that drafts and of one that does not: their results and states are equal at any time.
class DraftTwins {
  public:
    DraftTwins(const std::string & folder, const DraftPlace & place, unsigned seed)
        : drafting_(folder, 4, place), plain_(folder, 0, place), random_(seed) {}
    ~DraftTwins() {
        while (!twins_.empty()) close(0);
    }

    void act(int rounds) {
        for (int round = 0; round < rounds; round++) {
            CAPTURE(round);
            feed_some();
            step_some();
            check();
            if (once_in(3)) disturb();
        }
        for (Twin & twin : twins_) count(*twin.drafting);
        CHECK(drafting_.session->draft_use().texts <= 4);
    }
    const DraftCounts & sum() const { return sum_; }

  private:
    struct Twin {
        std::unique_ptr<SharedText> drafting, plain;
        bool is_checked = false; // since the last feed
    };
    int below(int count) { return int(random_() % unsigned(count)); }
    bool once_in(int count) { return below(count) == 0; }

    void count(const SharedText & text) {
        if (!text.draft) return;
        sum_.drafted += text.draft->counts.drafted;
        sum_.accepted += text.draft->counts.accepted;
        sum_.passes += text.draft->counts.passes;
    }
    void draft(SharedText & text) {
        count(text);
        static constexpr int depths[] = {1, 2, 3, 4, 7, 15};
        const bool has_place = text.draft || drafting_.session->draft_use().texts < 4;
        if (has_place) drafting_.draft(text, once_in(6) ? 0 : depths[below(6)], once_in(5));
    }
    void close(size_t i) {
        count(*twins_[i].drafting);
        drafting_.texts->close(*twins_[i].drafting), plain_.texts->close(*twins_[i].plain);
        twins_.erase(twins_.begin() + ptrdiff_t(i));
    }
    void feed(Twin & twin, const TokenIds & ids, TextWant want) {
        if (twin.plain->state.past + int64_t(ids.size()) > 380) { // pages of others stay free for guesses
            drafting_.texts->restart(*twin.drafting), plain_.texts->restart(*twin.plain);
        }
        drafting_.feed(*twin.drafting, ids, want);
        plain_.feed(*twin.plain, ids, want);
        twin.is_checked = false;
    }
    // The likeliest token, if it is known.
    static int32_t likeliest(const SharedText & text) {
        if (text.has == TextWant::largest) return text.largest.id;
        const std::vector<float> & logits = text.has == TextWant::pick ? text.some.logits : text.numbers;
        if (text.has != TextWant::pick && text.has != TextWant::logits) return 7;
        return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    void feed_some() {
        for (Twin & twin : twins_) {
            if (twin.plain->waiting() > 0 || twin.drafting->waiting() > 0 || once_in(5)) continue;
            for (int i = 0; i == 0 || (twin.drafting->waiting() == 0 && i < 20); i++) {
                const bool is_first = twin.plain->state.past == 0;
                static constexpr TextWant wants[] = {TextWant::largest, TextWant::logits,   TextWant::pick,
                                                     TextWant::largest, TextWant::none,     TextWant::pick,
                                                     TextWant::logits,  TextWant::embedding};
                if (once_in(20)) want_ = wants[below(8)];
                if (is_first) { // of which the head knows more than of others
                    feed(twin, text_ids(size_t(200 * below(3)), once_in(4) ? 170 : 40), want_);
                } else if (once_in(60)) {
                    feed(twin, text_ids(size_t(below(400)), size_t(2 + below(20))), want_);
                } else if (once_in(15)) {
                    feed(twin, {int32_t(below(4096))}, want_);
                } else {
                    feed(twin, {likeliest(*twin.plain)}, want_);
                }
                while (twin.plain->waiting() > 0) plain_.step({twin.plain.get()});
                if (twin.drafting->waiting() == 0) check(twin);
            }
        }
    }
    void step_some() {
        std::vector<SharedText *> some;
        for (Twin & twin : twins_)
            if (!once_in(4)) some.push_back(twin.drafting.get());
        drafting_.step(some);
    }
    void check() {
        for (Twin & twin : twins_)
            if (twin.drafting->waiting() == 0 && !twin.is_checked) check(twin);
    }
    static void check(Twin & twin) {
        twin.is_checked = true;
        const SharedText &found = *twin.drafting, &expected = *twin.plain;
        REQUIRE(found.has == expected.has);
        REQUIRE(found.state.past == expected.state.past);
        if (found.has == TextWant::largest) {
            REQUIRE(found.largest.id == expected.largest.id);
            REQUIRE(found.largest.logit == expected.largest.logit);
        }
        if (found.has == TextWant::logits || found.has == TextWant::embedding)
            REQUIRE(found.numbers == expected.numbers);
        if (found.has == TextWant::pick) REQUIRE(found.some.logits == expected.some.logits);
    }
    // Joins, leaves, copies, goes back, saves and restores.
    void disturb() {
        if (twins_.size() < 5 && once_in(2)) {
            twins_.push_back({drafting_.open(), plain_.open()});
            if (!once_in(4)) draft(*twins_.back().drafting);
        }
        if (twins_.empty()) return;
        const auto i = size_t(below(int(twins_.size())));
        Twin & twin = twins_[i];
        switch (below(14)) {
        case 0: close(i); return;
        case 1: draft(*twin.drafting); return;
        case 2:
            count(*twin.drafting);
            drafting_.texts->restart(*twin.drafting), plain_.texts->restart(*twin.plain);
            return;
        default: break;
        }
        if (twin.drafting->waiting() > 0 || twins_.size() > 5) return;
        switch (below(10)) {
        case 0: {
            auto copy = drafting_.texts->copy(*twin.drafting);
            REQUIRE_MESSAGE(copy.ok(), copy.status().message());
            twins_.push_back({copy.take(), plain_.texts->copy(*twin.plain).take()});
            if (once_in(2)) draft(*twins_.back().drafting);
            break;
        }
        case 1: {
            Twin & to = twins_[size_t(below(int(twins_.size())))];
            if (&to == &twin) break;
            count(*to.drafting);
            REQUIRE(drafting_.texts->assign(*to.drafting, *twin.drafting).ok());
            while (to.plain->waiting() > 0) plain_.step({to.plain.get()});
            REQUIRE(plain_.texts->assign(*to.plain, *twin.plain).ok());
            to.is_checked = false;
            check(to);
            break;
        }
        case 2: {
            const std::string saved = drafting_.texts->save(*twin.drafting, "model").take();
            REQUIRE(saved == plain_.texts->save(*twin.plain, "model").take());
            count(*twin.drafting);
            drafting_.texts->close(*twin.drafting);
            const std::span<const uint8_t> bytes = {reinterpret_cast<const uint8_t *>(saved.data()), saved.size()};
            twin.drafting = drafting_.texts->restore(bytes, "model").take();
            if (once_in(2)) draft(*twin.drafting);
            const std::unique_ptr<SharedText> plain = plain_.texts->restore(bytes, "model").take();
            REQUIRE(plain_.texts->assign(*twin.plain, *plain).ok());
            plain_.texts->close(*plain);
            break;
        }
        default: break;
        }
    }

    DraftedPool drafting_, plain_;
    std::mt19937 random_;
    std::vector<Twin> twins_;
    TextWant want_ = TextWant::largest;
    DraftCounts sum_;
};

} // namespace gnv::test
