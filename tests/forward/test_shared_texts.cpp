// Texts that share a session give, to the bit, what each of them gives alone: for any order of joining, leaving, copying and
// going back. The oracle is a session with one text, whose results the other tests compare with the reference.
#include "forward/forward_fixture.h"
#include "session/texts/generate.h"
#include "session/texts/shared_texts.h"

#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

using Ids = std::vector<int32_t>;

const OpenModel & tiny() {
    static const std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    return *model;
}

Ids text_ids(size_t begin, size_t count) {
    static const Ids all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

struct Fixture {
    std::unique_ptr<ThreadPool> threads;
    std::unique_ptr<Backend> device;
    std::unique_ptr<TextSession> session;
    std::unique_ptr<SharedTexts> texts;

    explicit Fixture(int64_t count = 6, int64_t positions = 4000, int thread_count = 2,
                     Precision precision = Precision::f32, uint64_t ram_bytes = 0,
                     CacheType cache = CacheType::activations)
        : threads(ThreadPool::create(thread_count).take()), device(open_cpu(*threads)) {
        SessionOptions options = {1, 600, ram_bytes};
        options.pool_texts = count;
        options.pool_positions = positions;
        options.cache = cache;
        Result<std::unique_ptr<TextSession>> made =
            TextSession::create(tiny().variant(precision), *device, *threads, options);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        session = made.take();
        REQUIRE(session->allow_in_pool(std::vector<uint8_t>(4096, 1)).ok());
        texts = std::make_unique<SharedTexts>(*session);
    }

    // Logits of the last position after each feed, by the session's own text.
    std::vector<std::vector<float>> alone(const std::vector<Ids> & feeds) {
        session->reset();
        std::vector<std::vector<float>> out;
        for (const Ids & ids : feeds) {
            TextSequence sequence;
            sequence.ids = ids;
            out.push_back(run_in_pieces(*session, sequence, {}).take());
        }
        return out;
    }
    std::unique_ptr<SharedText> open() {
        Result<std::unique_ptr<SharedText>> text = texts->open();
        REQUIRE_MESSAGE(text.ok(), text.status().message());
        return text.take();
    }
    void feed(SharedText & text, const Ids & ids, TextWant want = TextWant::logits) {
        const Status status = texts->feed(text, ids, want);
        REQUIRE_MESSAGE(status.ok(), status.message());
    }
    void run(const std::vector<SharedText *> & some) {
        for (int64_t waiting = 1; waiting > 0;) {
            const Result<SharedTexts::Step> step = texts->step(some, {});
            REQUIRE_MESSAGE(step.ok(), step.status().message());
            waiting = step.value().waiting;
        }
    }
    std::vector<float> logits_after(SharedText & text, const Ids & ids) {
        feed(text, ids);
        run({&text});
        CHECK(text.has == TextWant::logits);
        return text.numbers;
    }
};

int32_t largest_of(const std::vector<float> & logits) {
    return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// A prompt and the greedy tokens after it, one a feed.
struct Script {
    std::vector<Ids> feeds;
    std::vector<std::vector<float>> logits;
    Script(Fixture & f, size_t begin, size_t count, size_t tokens) {
        feeds.push_back(text_ids(begin, count));
        f.session->reset();
        for (size_t i = 0;; i++) {
            TextSequence sequence;
            sequence.ids = feeds.back();
            logits.push_back(run_in_pieces(*f.session, sequence, {}).take());
            if (i == tokens) return;
            feeds.push_back({largest_of(logits.back())});
        }
    }
};

// Random texts join, go on and leave, with the results of each one's script.
void check_random(Fixture & f, const std::vector<Script> & scripts, int rounds, unsigned seed) {
    struct Running {
        std::unique_ptr<SharedText> text;
        const Script * script = nullptr;
        size_t fed = 0;
        size_t leaves_after = 0;
    };
    std::mt19937 random(seed);
    std::vector<Running> running;
    int64_t compared = 0, together = 0;
    for (int round = 0; round < rounds; round++) {
        if (running.size() < 6 && random() % 3 != 0) {
            const Script & script = scripts[random() % scripts.size()];
            running.push_back({f.open(), &script, 0, 1 + random() % script.feeds.size()});
        }
        std::shuffle(running.begin(), running.end(), random);
        for (Running & one : running)
            if (one.text->waiting() == 0 && random() % 4 != 0) {
                const TextWant want = random() % 3 == 0 ? TextWant::largest : TextWant::logits;
                f.feed(*one.text, one.script->feeds[one.fed++], want);
            }
        std::vector<SharedText *> some;
        for (Running & one : running)
            if (random() % 5 != 0) some.push_back(one.text.get());
        const Result<SharedTexts::Step> step = f.texts->step(some, {});
        REQUIRE_MESSAGE(step.ok(), step.status().message());
        together = std::max(together, step.value().texts);
        for (size_t i = 0; i < running.size();) {
            Running & one = running[i];
            if (one.text->has != TextWant::none) {
                const std::vector<float> & expected = one.script->logits[one.fed - 1];
                if (one.text->has == TextWant::logits) CHECK(one.text->numbers == expected);
                if (one.text->has == TextWant::largest) {
                    CHECK(one.text->largest.id == largest_of(expected));
                    CHECK(one.text->largest.logit == expected[size_t(largest_of(expected))]);
                }
                one.text->has = TextWant::none;
                compared++;
            }
            const bool leaves = one.text->waiting() == 0 ? one.fed >= one.leaves_after : random() % 20 == 0;
            if (!leaves) {
                i++;
                continue;
            }
            f.texts->close(*one.text);
            running.erase(running.begin() + ptrdiff_t(i));
        }
    }
    for (Running & one : running) f.texts->close(*one.text);
    CHECK(compared > rounds / 2);
    CHECK(together >= 3);
    CHECK(f.session->pool().use().texts == 0);
    CHECK(f.session->pool().use().positions == 0);
}

std::vector<Script> scripts_of(Fixture & f) {
    std::vector<Script> scripts;
    for (const size_t count : {1, 2, 63, 65, 191, 193, 257, 258, 400}) scripts.emplace_back(f, count % 90, count, 4);
    return scripts;
}

} // namespace

TEST_CASE("texts together have the bits of each alone") {
    Fixture f;
    check_random(f, scripts_of(f), 120, 1);
    Fixture three(6, 4000, 3);
    check_random(three, scripts_of(f), 40, 2);
}

TEST_CASE("the same in BF16, and when weights do not stay in memory") {
    Fixture bf16(6, 4000, 2, Precision::bf16);
    check_random(bf16, scripts_of(bf16), 40, 3);
    Fixture f, poor(6, 4000, 2, Precision::f32, 26 << 20);
    CHECK(f.session->weights_stay());
    CHECK(!poor.session->weights_stay());
    check_random(poor, scripts_of(f), 25, 4);
}

TEST_CASE("embeddings: the hidden state that logits are made of") {
    Fixture f;
    const Ids ids = text_ids(0, 100);
    TextSequence sequence;
    sequence.ids = ids;
    std::vector<float> norm;
    TextSession::Request request;
    request.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
        if (tap_name(qwen35::names, tap) == "norm")
            norm.assign(tensor.as<const float>(), tensor.as<const float>() + tensor.shape.elements());
        return {};
    };
    const std::vector<float> logits = f.session->run(sequence, request).take();
    const auto a = f.open(), b = f.open(), c = f.open();
    f.feed(*a, ids, TextWant::embedding);
    f.feed(*b, ids, TextWant::logits);
    f.feed(*c, ids, TextWant::none);
    f.run({a.get(), b.get(), c.get()});
    CHECK(a->numbers.size() == 256);
    CHECK(a->numbers == norm);
    CHECK(b->numbers == logits);
    CHECK(c->has == TextWant::none);
}

TEST_CASE("caches in FP8: texts together have the bits of each alone") {
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        Fixture f(6, 4000, 3, precision, 0, CacheType::fp8);
        check_random(f, scripts_of(f), 40, 5);
    }
}

static void check_copies(Fixture & f) {
    const TextPool & pool = f.session->pool();
    const Ids prompt = text_ids(0, 450), left = text_ids(500, 30), right = text_ids(530, 1);
    const auto after_left = f.alone({prompt, left}), after_right = f.alone({prompt, right, left});
    const auto a = f.open();
    CHECK(f.logits_after(*a, prompt) == after_left[0]);
    CHECK(pool.use().positions == 3 * cache_page);
    const auto b = f.texts->copy(*a).take();
    CHECK(b->numbers == after_left[0]);
    CHECK(pool.use().positions == 4 * cache_page); // two full pages are shared
    CHECK(f.logits_after(*a, left) == after_left[1]);
    CHECK(f.logits_after(*b, right) == after_right[1]);
    CHECK(f.logits_after(*b, left) == after_right[2]);
    // Back to the prompt, by a copy that stays there; again and again.
    const auto c = f.open();
    f.logits_after(*c, prompt);
    for (int round = 0; round < 3; round++) {
        REQUIRE(f.texts->assign(*a, *c).ok());
        CHECK(a->state.past == 450);
        CHECK(a->numbers == after_left[0]);
        CHECK(f.logits_after(*a, round == 1 ? right : left) == (round == 1 ? after_right : after_left)[1]);
    }
    // The copied text may end first.
    f.texts->close(*c);
    CHECK(f.logits_after(*a, right).size() == 4096);
    REQUIRE(f.texts->assign(*a, *a).ok());
    f.feed(*b, right);
    CHECK(f.texts->copy(*b).status().code() == Code::invalid_argument);
    CHECK(f.texts->assign(*a, *b).code() == Code::invalid_argument);
    f.texts->close(*a);
    f.texts->close(*b);
    CHECK(pool.use().positions == 0);
}
TEST_CASE("copies and ways back") {
    Fixture f, fp8(6, 4000, 2, Precision::f32, 0, CacheType::fp8);
    check_copies(f);
    check_copies(fp8);
    const uint64_t scales = device_aligned(21 * cache_page * 2); // of two heads
    CHECK(f.session->pool().use().bytes - fp8.session->pool().use().bytes ==
          2 * 2 * (21 * cache_page * (128 * 4 - 128) - scales)); // two layers, keys and values
}

TEST_CASE("a budget that is full refuses one text and leaves the others alone") {
    Fixture f(3, 5 * cache_page);
    const auto expected = f.alone({text_ids(0, 300), {5}});
    const auto a = f.open(), b = f.open(), c = f.open();
    const Status no_text = f.texts->open().take_status();
    CHECK(no_text.code() == Code::out_of_memory);
    CHECK(no_text.message().find("all 3 texts") != std::string::npos);
    CHECK(f.logits_after(*a, text_ids(0, 300)) == expected[0]);
    f.feed(*b, text_ids(0, 500));
    const Status no_room = f.texts->feed(*c, text_ids(0, 1), TextWant::logits);
    CHECK(no_room.code() == Code::out_of_memory);
    CHECK(no_room.message().find("hold 960 positions, 960 are taken") != std::string::npos);
    CHECK(c->waiting() == 0);
    CHECK(f.texts->copy(*a).status().code() == Code::out_of_memory);
    CHECK(f.logits_after(*a, {5}) == expected[1]);
    // Refused arguments change nothing.
    CHECK(f.texts->feed(*b, Ids{1}, TextWant::none).code() == Code::invalid_argument); // ids wait
    CHECK(f.texts->feed(*a, Ids{}, TextWant::none).code() == Code::invalid_argument);
    CHECK(f.texts->feed(*a, Ids{4096}, TextWant::none).code() == Code::invalid_argument);
    CHECK(f.texts->feed(*a, Ids{-1}, TextWant::none).code() == Code::invalid_argument);
    CHECK(f.texts->feed(*a, Ids(300, 1), TextWant::none).code() == Code::invalid_argument); // 600 is the capacity
    f.texts->restart(*b);
    CHECK(f.logits_after(*c, text_ids(0, 300)) == expected[0]);
    // A text takes back its own pages.
    CHECK(f.texts->assign(*b, *a).ok());
    CHECK(b->numbers == expected[1]);
}

TEST_CASE("a pass that is stopped returns its texts to their start, and no others") {
    Fixture f;
    const Ids prompt = text_ids(0, 400);
    const auto expected = f.alone({prompt, {7}});
    for (const int stop_at : {0, 1, 5, 9, 10, 12}) {
        CAPTURE(stop_at);
        const auto a = f.open(), b = f.open();
        f.logits_after(*a, prompt);
        f.feed(*a, {7});
        f.feed(*b, prompt);
        SharedText * const both[] = {a.get(), b.get()};
        int calls = 0;
        const Result<SharedTexts::Step> step = f.texts->step(both, [&](int64_t done, int64_t total) {
            CHECK(done <= total);
            return calls++ != stop_at;
        });
        CHECK(step.status().code() == Code::cancelled);
        CHECK(step.status().message().find("at their start again") != std::string::npos);
        const bool in_first_pass = stop_at < 11; // of a's position
        CHECK(a->state.past == (in_first_pass ? 0 : 401));
        CHECK(b->state.past == 0);
        CHECK(b->waiting() == (in_first_pass ? 400 : 0));
        if (in_first_pass) {
            f.run({b.get()});
            CHECK(b->numbers == expected[0]);
            CHECK(f.logits_after(*a, prompt) == expected[0]);
        } else {
            CHECK(a->numbers == expected[1]);
            CHECK(f.logits_after(*b, prompt) == expected[0]);
        }
        f.texts->close(*a);
        f.texts->close(*b);
    }
}

TEST_CASE("saved and restored") {
    Fixture f;
    const Ids prompt = text_ids(0, 250);
    const auto expected = f.alone({prompt, text_ids(300, 70), {9}});
    const auto a = f.open();
    const auto bytes_of = [](const std::string & saved) {
        return std::span(reinterpret_cast<const uint8_t *>(saved.data()), saved.size());
    };
    const std::string at_start = f.texts->save(*a, "tiny").take();
    f.logits_after(*a, prompt);
    const std::string saved = f.texts->save(*a, "tiny").take();
    CHECK(f.texts->save(*a, "tiny").take() == saved);
    Fixture other(6, 4000, 1);
    const auto b = other.texts->restore(bytes_of(saved), "tiny").take();
    CHECK(b->state.past == 250);
    CHECK(other.logits_after(*b, text_ids(300, 70)) == expected[1]);
    CHECK(other.logits_after(*b, {9}) == expected[2]);
    const auto fresh = other.texts->restore(bytes_of(at_start), "tiny").take();
    CHECK(other.logits_after(*fresh, prompt) == expected[0]);
    // Damage.
    const PoolUse before = other.session->pool().use();
    CHECK(other.texts->restore(bytes_of(saved), "another").status().code() == Code::model);
    for (const size_t size : {size_t(0), size_t(1), size_t(90), saved.size() / 2, saved.size() - 1})
        CHECK(other.texts->restore(bytes_of(saved).first(size), "tiny").status().code() == Code::format);
    CHECK(other.texts->restore(bytes_of(saved + "x"), "tiny").status().code() == Code::format);
    for (size_t at = 0; at < saved.size(); at += at < 120 ? 1 : saved.size() / 50) {
        std::string damaged = saved;
        damaged[at] = char(damaged[at] ^ 0x10);
        CAPTURE(at);
        CHECK(other.texts->restore(bytes_of(damaged), "tiny").status().code() == Code::format);
    }
    CHECK(other.session->pool().use().texts == before.texts);
    CHECK(other.session->pool().use().positions == before.positions);
    Fixture small(2, cache_page);
    CHECK(small.texts->restore(bytes_of(saved), "tiny").status().code() == Code::out_of_memory);
    CHECK(small.session->pool().use().texts == 0);
}

TEST_CASE("saved and restored with caches in FP8") {
    Fixture f(6, 4000, 2, Precision::f32, 0, CacheType::fp8), other(6, 4000, 1, Precision::f32, 0, CacheType::fp8);
    const auto expected = f.alone({text_ids(0, 250), text_ids(300, 70), {9}});
    const auto a = f.open();
    f.logits_after(*a, text_ids(0, 250));
    const std::string saved = f.texts->save(*a, "tiny").take();
    const auto bytes = std::span(reinterpret_cast<const uint8_t *>(saved.data()), saved.size());
    const auto b = other.texts->restore(bytes, "tiny").take();
    CHECK(other.logits_after(*b, text_ids(300, 70)) == expected[1]);
    CHECK(other.logits_after(*b, {9}) == expected[2]);
    Fixture plain;
    CHECK(plain.texts->restore(bytes, "tiny").status().code() == Code::format); // of another size
}
