// gnv_shown_text_t: the text of picked ids is what gnv_model_generate tells its callback, and the answer ends where it ends.
#include "api/session_fixture.h"

#include <cmath>
#include <string>

using namespace gnv::test;

namespace {

struct Token {
    int32_t id = -1;
    std::string text;
    uint64_t answer_size = 0;
    bool is_last = false;
    bool operator==(const Token & other) const = default;
};

struct Answer {
    std::vector<Token> tokens;
    gnv_stop stop = GNV_STOP_CALLBACK;
    uint64_t stop_text = 0;
    bool operator==(const Answer & other) const = default;
};

// Lets the model choose just these ids.
struct Forced {
    Ids ids;
    size_t calls = 0;
    static int callback(void * user, const gnv_logits * logits) {
        auto & forced = *static_cast<Forced *>(user);
        const int32_t next = forced.ids[forced.calls++];
        for (uint64_t id = 0; id < logits->vocabulary; id++)
            if (int32_t(id) != next) logits->values[id] = -INFINITY;
        return 0;
    }
};

Answer generated(const Model & model, gnv_generate_options options, const Ids & ids, size_t prompt = 1) {
    Answer answer;
    Forced forced{ids};
    options.on_logits = Forced::callback;
    options.logits_user = &forced;
    options.user = &answer;
    options.callback = [](void * user, const gnv_token * token) {
        static_cast<Answer *>(user)->tokens.push_back(
            {token->id, std::string(token->text, token->text_size), token->answer_size});
        return 0;
    };
    auto result = make_info<gnv_generate_result>();
    const Ids prompt_ids(prompt, 447);
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    REQUIRE(gnv_model_generate(model.get(), prompt_ids.data(), prompt, &options, &result) == GNV_OK);
    answer.tokens.back().is_last = true;
    answer.stop = result.stop;
    answer.stop_text = result.stop_text;
    return answer;
}

Handle<gnv_shown_text_t> make_shown(const Model & model, const gnv_generate_options * options) {
    gnv_shown_text_t * shown = nullptr;
    REQUIRE(gnv_shown_text_create(model.get(), options, &shown) == GNV_OK);
    return Handle<gnv_shown_text_t>(shown);
}

Answer shown(const Model & model, const gnv_generate_options & options, const Ids & ids, size_t prompt = 1) {
    const auto text = make_shown(model, &options);
    Answer answer;
    auto token = make_info<gnv_shown_token>();
    for (const int32_t id : ids) {
        const bool is_full = prompt + answer.tokens.size() == 512; // positions
        REQUIRE(gnv_shown_text_push(text.get(), id, is_full, &token) == GNV_OK);
        answer.tokens.push_back({id, std::string(token.text, token.text_size), token.answer_size, token.is_last != 0});
        CHECK(token.tokens == answer.tokens.size());
        if (token.is_last == 0) continue;
        answer.stop = token.stop;
        answer.stop_text = token.stop_text;
        CHECK(gnv_shown_text_push(text.get(), id, 0, &token) == GNV_INVALID_ARGUMENT); // the answer has ended
        break;
    }
    return answer;
}

Ids encoded(gnv_engine_t * engine, const std::string & text) {
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, tiny_folder.c_str(), &tokenizer) == GNV_OK);
    const Handle<gnv_tokenizer_t> owner(tokenizer);
    Ids ids(text.size());
    size_t count = 0;
    REQUIRE(gnv_tokenizer_encode(tokenizer, text.data(), text.size(), 0, ids.data(), ids.size(), &count) == GNV_OK);
    ids.resize(count);
    return ids;
}

} // namespace

TEST_CASE("shown text: characters across tokens, stop ids, stop texts, length and full caches as in generation") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    // Several tokens a character, a stop text across tokens that comes late, an incomplete character at the end.
    const Ids ids =
        encoded(engine.get(), "The caf\u00e9 \u2603 \U0001F600 \u9f98 returns the last one of them<|im_end|>");
    const int32_t end = ids.back(), none = 0;
    const char * const stops[] = {"never", "turns the l", "the last one!"};
    bool waits = false;
    for (size_t count = 1; count <= ids.size(); count++) {
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.max_tokens = count;
        options.stop_ids = count % 3 == 0 ? &none : &end;
        options.stop_count = count % 3 == 0 ? 0 : 1;
        options.stop_texts = count % 2 == 0 ? stops : stops + 2;
        options.stop_text_count = count % 2 == 0 ? 3 : 1;
        const Answer expected = generated(model, options, ids);
        CHECK(shown(model, options, ids) == expected);
        for (const Token & token : expected.tokens) waits = waits || token.text.empty();
        if (count == ids.size()) CHECK(expected.stop == (count % 2 == 0 ? GNV_STOP_TEXT : GNV_STOP_ID));
    }
    CHECK(waits);
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.stop_ids = &none;
    const Ids full(13, ids[0]);
    const Answer expected = generated(model, options, full, 500);
    CHECK(expected.stop == GNV_STOP_CAPACITY);
    CHECK(expected.tokens.size() == full.size());
    CHECK(shown(model, options, full, 500) == expected);
}

TEST_CASE("shown text: wrong uses are refused and change nothing") {
    const auto engine = make_engine(), other = make_engine(1);
    Model model = open_model(engine.get());
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    gnv_shown_text_t * out = nullptr;
    CHECK(gnv_shown_text_create(nullptr, &options, &out) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_shown_text_create(model.get(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    const char * const bad[] = {""};
    options.stop_texts = bad;
    options.stop_text_count = 1;
    CHECK(gnv_shown_text_create(model.get(), &options, &out) == GNV_INVALID_ARGUMENT);
    options.stop_text_count = SIZE_MAX;
    CHECK(gnv_shown_text_create(model.get(), &options, &out) == GNV_INVALID_ARGUMENT);
    gnv_generate_options_init(&options);
    options.max_tokens = UINT64_MAX;
    CHECK(gnv_shown_text_create(model.get(), &options, &out) == GNV_INVALID_ARGUMENT);
    options.struct_size = 7;
    CHECK(gnv_shown_text_create(model.get(), &options, &out) == GNV_INVALID_ARGUMENT);
    gnv_generate_options_init(&options);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(other.get(), tiny_folder.c_str(), &tokenizer) == GNV_OK);
    options.tokenizer = tokenizer;
    CHECK(gnv_shown_text_create(model.get(), &options, &out) == GNV_INVALID_ARGUMENT);
    gnv_tokenizer_destroy(tokenizer);
    CHECK(out == nullptr);
    gnv_shown_text_destroy(nullptr);

    const auto text = make_shown(model, nullptr);
    auto token = make_info<gnv_shown_token>();
    CHECK(gnv_shown_text_push(nullptr, 5, 0, &token) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_shown_text_push(text.get(), 5, 0, nullptr) == GNV_INVALID_ARGUMENT);
    gnv_shown_token unset = {};
    CHECK(gnv_shown_text_push(text.get(), 5, 0, &unset) == GNV_INVALID_ARGUMENT);
    for (const int32_t id : {-1, INT32_MIN, INT32_MAX, 4095})
        CHECK(gnv_shown_text_push(text.get(), id, 0, &token) == GNV_INVALID_ARGUMENT);
    model.reset(); // the text does not need it
    REQUIRE(gnv_shown_text_push(text.get(), 447, 0, &token) == GNV_OK);
    CHECK(token.tokens == 1);
    CHECK(token.text_size > 0);
}

TEST_CASE("a callback of logits is called through its series, and not by copies") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    Forced forced{{7, 1000, 7, 4000}};
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.temperature = 1;
    options.on_logits = Forced::callback;
    options.logits_user = &forced;
    const Session session = open_session(model);
    REQUIRE(feed(session, {447, 502}, GNV_WANT_LOGITS) == GNV_OK);
    for (size_t i = 0; i < 3; i++) {
        run_all(engine.get(), model);
        int32_t id = -1;
        REQUIRE(gnv_session_pick(session.get(), i == 0 ? &options : nullptr, &id) == GNV_OK);
        CHECK(id == forced.ids[i]);
        REQUIRE(feed(session, {id}, GNV_WANT_LOGITS) == GNV_OK);
    }
    run_all(engine.get(), model);
    gnv_session_t * made = nullptr;
    REQUIRE(gnv_session_copy(session.get(), &made) == GNV_OK);
    const Session copy(made);
    int32_t id = -1;
    REQUIRE(gnv_session_pick(copy.get(), nullptr, &id) == GNV_OK);
    CHECK(forced.calls == 3);
    REQUIRE(gnv_session_pick(session.get(), nullptr, &id) == GNV_OK);
    CHECK(forced.calls == 4);
}
