// Texts that are written with drafting and without, on any device: the same bits.
#pragma once

#include "forward/draft_fixture.h"
#include "session/texts/generate.h"
#include "session/texts/shared_texts.h"

#include <doctest/doctest.h>

namespace gnv::test {

using TokenIds = std::vector<int32_t>;

inline TokenIds text_ids(size_t begin, size_t count) {
    static const TokenIds all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

// Where texts are written.
struct DraftPlace {
    OpenDevice open = open_on_cpu;
    Precision precision = Precision::f32;
    CacheType cache = CacheType::activations;

    static Result<std::unique_ptr<Backend>> open_on_cpu(ThreadPool & threads) { return open_cpu(threads); }
};

struct DraftedText {
    std::unique_ptr<OpenModel> model;
    std::unique_ptr<ThreadPool> threads;
    std::unique_ptr<Backend> device;
    std::unique_ptr<TextSession> session;

    explicit DraftedText(const std::string & folder, bool drafts = true, const DraftPlace & place = {},
                         int64_t capacity = 600)
        : model(open_model(folder)), threads(ThreadPool::create(2).take()), device(place.open(*threads).take()) {
        SessionOptions options = {1, capacity, 0};
        options.pool_texts = 2;
        options.pool_positions = 800;
        options.cache = place.cache;
        options.draft = drafts ? model->draft.get() : nullptr;
        Result<std::unique_ptr<TextSession>> made =
            TextSession::create(model->variant(place.precision), *device, *threads, options);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        session = made.take();
        REQUIRE(session->allow(std::vector<uint8_t>(4096, 1)).ok());
        REQUIRE(session->allow_in_pool(std::vector<uint8_t>(4096, 1)).ok());
    }
    std::vector<float> run(const TokenIds & ids, int64_t drafts = -1) {
        TextSequence sequence;
        sequence.ids = ids;
        TextSession::Request request;
        request.drafts = drafts;
        Result<std::vector<float>> logits = run_in_pieces(*session, sequence, request);
        REQUIRE_MESSAGE(logits.ok(), logits.status().message());
        return logits.take();
    }
};

inline const Tokenizer & tokenizer() {
    static const Tokenizer loaded = Tokenizer::load(tiny_folder).take();
    return loaded;
}

inline GenerateOptions options_of(int64_t drafts, double temperature, int64_t tokens = 70) {
    GenerateOptions options;
    options.max_tokens = tokens;
    options.sampling.temperature = temperature;
    options.sampling.seed = 7;
    options.draft.tokens = drafts;
    return options;
}

inline TokenIds write_on(DraftedText & text, const TokenIds & prompt, const GenerateOptions & options,
                         DraftCounts * counts = nullptr) {
    TextSequence sequence;
    sequence.ids = prompt;
    TokenIds chosen;
    const Result<GenerateResult> result = generate(*text.session, 600, tokenizer(), sequence, options, {}, chosen);
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    if (counts) *counts = result.value().draft;
    return chosen;
}

// Its draft head is fitted to texts that the model writes.
inline const std::string & fitted_folder() {
    static const ScratchFolder scratch;
    static const std::string folder = scratch / "fitted";
    static bool is_made = false;
    if (is_made) return folder;
    DraftedText plain(tiny_folder, false);
    std::vector<TokenIds> texts;
    for (const size_t begin : {0, 200, 400}) {
        plain.session->reset();
        TokenIds text = text_ids(begin, 40);
        for (const int32_t id : write_on(plain, text, options_of(0, begin == 400 ? 0.8 : 0, 150))) text.push_back(id);
        texts.push_back(text);
    }
    texts.push_back(text_ids(0, 600));
    save_fitted(folder, *plain.model, texts);
    is_made = true;
    return folder;
}

// Greedy and sampled texts of a checkpoint, with guesses of every length; adds what was guessed to `sum`.
inline void check_same_texts(const std::string & folder, const DraftPlace & place, DraftCounts & sum) {
    DraftedText plain(folder, false, place), drafting(folder, true, place);
    for (const double temperature : {0.0, 0.7}) {
        plain.session->reset();
        const TokenIds expected = write_on(plain, text_ids(200, 40), options_of(0, temperature));
        for (const int64_t depth : {1, 2, 3, 4, 15}) {
            CAPTURE(folder);
            CAPTURE(temperature);
            CAPTURE(depth);
            drafting.session->reset();
            DraftCounts counts;
            GenerateOptions options = options_of(depth, temperature);
            if (depth == 3) options.on_logits = [](std::span<float>, std::span<const int32_t>) { return true; };
            CHECK(write_on(drafting, text_ids(200, 40), options, &counts) == expected);
            CHECK(drafting.session->past() == 40 + 69);
            CHECK(counts.passes > 0);
            CHECK(counts.gain() > 0);
            if (folder == tiny_folder) CHECK(counts.accepted == 0);
            sum.drafted += counts.drafted, sum.accepted += counts.accepted;
        }
        // Both go on from the same states: chunks of another kind of pass, then steps.
        CHECK(drafting.run(text_ids(0, 70)) == plain.run(text_ids(0, 70)));
        CHECK(drafting.run({5}) == plain.run({5}));
    }
}

// A text that goes on by other tokens than those that were drafted, at every place of a pass ahead; by a piece; from its start;
// while texts of the pool run, are copied, saved and restored.
inline void check_states(const DraftPlace & place) {
    const std::string & folder = fitted_folder();
    DraftedText plain(folder, false, place), drafting(folder, true, place);
    SharedTexts texts(*drafting.session);
    for (const int64_t taken : {0, 1, 2, 3}) {
        CAPTURE(taken);
        plain.session->reset();
        drafting.session->reset();
        CHECK(drafting.run(text_ids(200, 40), 0) == plain.run(text_ids(200, 40)));
        for (int round = 0; round < 5; round++) {
            CAPTURE(round);
            int32_t known = text_ids(300, 5)[size_t(round)];
            if (!drafting.session->ahead().empty() && known == drafting.session->ahead().front()) known++;
            CHECK(drafting.run({known}, 4) == plain.run({known}));
            const TokenIds ahead(drafting.session->ahead().begin(), drafting.session->ahead().end());
            if (round == 4) CHECK(ahead.empty()); // the draft head did not see the last piece
            if (round == 4) continue;
            if (round == 2) { // the pool took the stream
                CHECK(ahead.empty());
                CHECK(drafting.run(text_ids(0, 65), 0) == plain.run(text_ids(0, 65)));
                continue;
            }
            REQUIRE(ahead.size() == 4);
            for (int64_t i = 0; i < taken; i++)
                CHECK(drafting.run({ahead[size_t(i)]}, 4) == plain.run({ahead[size_t(i)]}));
            CHECK(drafting.session->ahead().size() == size_t(4 - taken));
            if (round == 1) { // a text of the pool, in the same memory of activations
                const auto text = texts.open().take();
                SharedText * const list[] = {text.get()};
                REQUIRE(texts.feed(*text, text_ids(0, 20), TextWant::logits).ok());
                REQUIRE(texts.step(list, {}).ok());
                const auto copy = texts.copy(*text).take();
                const std::string saved = texts.save(*copy, "model").take();
                texts.close(*copy);
                const auto back =
                    texts.restore({reinterpret_cast<const uint8_t *>(saved.data()), saved.size()}, "model").take();
                CHECK(texts.save(*back, "model").take() == saved);
                texts.close(*back), texts.close(*text);
            }
            if (round == 3) CHECK(drafting.run(text_ids(0, 3)) == plain.run(text_ids(0, 3)));
        }
        CHECK(drafting.session->past() == plain.session->past());
        CHECK(drafting.run(text_ids(100, 128)) == plain.run(text_ids(100, 128)));
    }
}

} // namespace gnv::test
