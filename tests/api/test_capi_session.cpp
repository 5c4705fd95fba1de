// Sessions through the C API: many texts with one set of weights give what the model's own text gives; every way to use them
// wrongly. test_capi_soak.cpp uses them for long.
#include "api/session_fixture.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

using namespace gnv::test;

namespace {

std::vector<float> numbers(const Session & session, size_t count = 4096) {
    std::vector<float> out(count);
    size_t written = 0;
    REQUIRE(gnv_session_numbers(session.get(), out.data(), out.size(), &written) == GNV_OK);
    CHECK(written == count);
    return out;
}

int keep_id(void * user, const gnv_token * token) {
    static_cast<Ids *>(user)->push_back(token->id);
    return 0;
}

// The greedy tokens of the model's own text.
Ids generated(gnv_engine_t * engine, const Model & model, const Ids & prompt, uint64_t count) {
    Ids out;
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.max_tokens = count;
    options.temperature = 0;
    options.callback = keep_id;
    options.user = &out;
    const int32_t none = 0;
    options.stop_ids = &none;
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    const gnv_status status = gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, nullptr);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return out;
}

struct Scenario {
    Ids prompt, tokens;
};

std::vector<Scenario> make_scenarios(gnv_engine_t * engine, const Model & model) {
    std::vector<Scenario> out;
    for (const size_t count : {1, 5, 64, 130, 257, 300}) {
        const Ids prompt = text_ids(count % 50, count);
        out.push_back({prompt, generated(engine, model, prompt, 6)});
    }
    return out;
}

} // namespace

TEST_CASE("sessions give what the model's own text gives, alone and together") {
    const auto engine = make_engine();
    for (const gnv_precision precision : {GNV_PRECISION_FP32, GNV_PRECISION_BF16}) {
        const Model model = open_model(engine.get(), 8, 0, precision);
        const std::vector<Scenario> scenarios = make_scenarios(engine.get(), model);
        std::vector<Session> sessions;
        std::vector<Ids> tokens(scenarios.size());
        for (size_t turn = 0; turn < 6; turn++) {
            for (size_t i = 0; i < scenarios.size(); i++) {
                if (turn == 0) sessions.push_back(open_session(model));
                REQUIRE(feed(sessions[i], turn == 0 ? scenarios[i].prompt : Ids{tokens[i].back()}) == GNV_OK);
            }
            run_all(engine.get(), model);
            for (size_t i = 0; i < scenarios.size(); i++) {
                tokens[i].push_back(-1);
                REQUIRE(gnv_session_likeliest(sessions[i].get(), &tokens[i].back(), nullptr) == GNV_OK);
            }
        }
        for (size_t i = 0; i < scenarios.size(); i++) CHECK(tokens[i] == scenarios[i].tokens);
    }
}

TEST_CASE("logits, embeddings, and what a session says of itself") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    const Ids ids = text_ids(0, 400);
    std::vector<float> expected(4096);
    for (const auto & [begin, count] : {std::pair<size_t, size_t>{0, 256}, {256, 144}})
        REQUIRE(gnv_model_forward(model.get(), ids.data() + begin, count, nullptr, expected.data(), 4096, nullptr) ==
                GNV_OK);
    const Session a = open_session(model), b = open_session(model);
    CHECK(info_of(a).has == GNV_WANT_NOTHING);
    REQUIRE(feed(a, ids, GNV_WANT_LOGITS) == GNV_OK);
    REQUIRE(feed(b, ids, GNV_WANT_EMBEDDING) == GNV_OK);
    auto step = make_info<gnv_step_result>();
    gnv_session_t * const only_a = a.get();
    REQUIRE(gnv_model_step(model.get(), &only_a, 1, nullptr, &step) == GNV_OK);
    CHECK(step.sessions == 1);
    CHECK(step.positions == 256);
    CHECK(step.waiting == 144);
    CHECK(info_of(a).positions == 256);
    CHECK(info_of(a).waiting == 144);
    CHECK(info_of(b).positions == 0);
    std::vector<float> none(4096);
    CHECK(gnv_session_numbers(a.get(), none.data(), 4096, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "144 ids of the session wait"));
    run_all(engine.get(), model);
    CHECK(info_of(a).has == GNV_WANT_LOGITS);
    CHECK(numbers(a) == expected);
    const std::vector<float> embedding = numbers(b, 256);
    CHECK(std::any_of(embedding.begin(), embedding.end(), [](float x) { return x != 0; }));
    const gnv_sessions_info room = room_of(model);
    CHECK(room.sessions == 8);
    CHECK(room.open_sessions == 2);
    CHECK(room.page == 192);
    CHECK(room.positions == 8 * 3 * 192);
    CHECK(room.taken_positions == 2 * 3 * 192);
    CHECK(room.bytes > 0);
    CHECK(room.step_positions == 256);
}

TEST_CASE("sampled texts are those of the model's own text with the same seed") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    const int32_t none = 0;
    options.stop_ids = &none;
    options.max_tokens = 8;
    options.temperature = 1;
    std::vector<Session> sessions;
    std::vector<Ids> expected(4), found(4);
    for (size_t i = 0; i < 4; i++) {
        options.seed = 100 + i;
        options.top_k = i % 2 == 0 ? 0 : 10;
        options.repetition_penalty = i < 2 ? 1.0f : 1.5f; // of the prompt, too
        options.callback = keep_id;
        options.user = &expected[i];
        const Ids prompt = text_ids(10 * i, 1 + 20 * i);
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        REQUIRE(gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, nullptr) == GNV_OK);
        sessions.push_back(open_session(model));
        if (i == 2) { // the series begins with the first pick
            REQUIRE(feed(sessions[i], prompt, GNV_WANT_LOGITS) == GNV_OK);
            continue;
        }
        REQUIRE(gnv_session_pick(sessions[i].get(), &options, nullptr) == GNV_OK);
        REQUIRE(feed(sessions[i], prompt, GNV_WANT_PICK) == GNV_OK);
    }
    int32_t id = -1;
    CHECK(gnv_session_pick(sessions[0].get(), &options, &id) == GNV_INVALID_ARGUMENT); // ids wait
    CHECK(gnv_session_pick(sessions[0].get(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    for (size_t turn = 0; turn < 8; turn++) {
        run_all(engine.get(), model);
        for (size_t i = 0; i < 4; i++) {
            options.seed = 100 + i;
            options.top_k = i % 2 == 0 ? 0 : 10;
            options.repetition_penalty = i < 2 ? 1.0f : 1.5f;
            REQUIRE(gnv_session_pick(sessions[i].get(), turn == 0 && i == 2 ? &options : nullptr, &id) == GNV_OK);
            found[i].push_back(id);
            if (turn == 3) { // goes on as a copy, with the same draws
                gnv_session_t * copy = nullptr;
                REQUIRE(gnv_session_copy(sessions[i].get(), &copy) == GNV_OK);
                sessions[i].reset(copy);
            }
            REQUIRE(feed(sessions[i], {id}, i < 3 ? GNV_WANT_PICK : GNV_WANT_LOGITS) == GNV_OK);
        }
    }
    CHECK(found == expected);
    run_all(engine.get(), model);
    CHECK(info_of(sessions[0]).has == GNV_WANT_PICK);
    std::vector<float> numbers(4096);
    CHECK(gnv_session_numbers(sessions[0].get(), numbers.data(), numbers.size(), nullptr) == GNV_INVALID_ARGUMENT);
    options.temperature = NAN;
    CHECK(gnv_session_pick(sessions[0].get(), &options, &id) == GNV_INVALID_ARGUMENT);
    options.temperature = 1;
    options.top_p = 7;
    CHECK(gnv_session_pick(sessions[0].get(), &options, &id) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_pick(sessions[0].get(), &options, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_pick(sessions[0].get(), nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    options.top_p = 1; // another series: what the one before needed is no result of it
    REQUIRE(gnv_session_pick(sessions[0].get(), &options, nullptr) == GNV_OK);
    CHECK(gnv_session_pick(sessions[0].get(), nullptr, &id) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("copies share a prefix; a session goes back; states travel") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    const std::vector<Scenario> scenarios = make_scenarios(engine.get(), model);
    const Scenario & scenario = scenarios[4];
    const Session a = open_session(model);
    REQUIRE(feed(a, scenario.prompt) == GNV_OK);
    run_all(engine.get(), model);
    gnv_session_t * made = nullptr;
    REQUIRE(gnv_session_copy(a.get(), &made) == GNV_OK);
    const Session mark(made);
    CHECK(room_of(model).taken_positions == 3 * 192);
    const auto go_on = [&](const Session & session) {
        Ids tokens;
        for (size_t i = 0; i < scenario.tokens.size(); i++) {
            tokens.push_back(-1);
            REQUIRE(gnv_session_likeliest(session.get(), &tokens.back(), nullptr) == GNV_OK);
            REQUIRE(feed(session, {tokens.back()}) == GNV_OK);
            run_all(engine.get(), model);
        }
        CHECK(tokens == scenario.tokens);
    };
    for (int round = 0; round < 2; round++) {
        go_on(a);
        REQUIRE(gnv_session_assign(a.get(), mark.get()) == GNV_OK);
        CHECK(info_of(a).positions == scenario.prompt.size());
    }
    // Another engine and model, through memory and through a file.
    const ScratchFolder scratch;
    const std::string path = scratch.path() + "/text.state";
    size_t size = 0;
    REQUIRE(gnv_session_export(mark.get(), nullptr, 0, &size) == GNV_OK);
    std::vector<char> bytes(size);
    CHECK(gnv_session_export(mark.get(), bytes.data(), size - 1, &size) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_session_export(mark.get(), bytes.data(), bytes.size(), &size) == GNV_OK);
    REQUIRE(gnv_session_save(mark.get(), path.c_str()) == GNV_OK);
    CHECK(gnv_session_save(mark.get(), path.c_str()) == GNV_ALREADY_EXISTS);
    const auto other_engine = make_engine(1);
    {
        const Model other = open_model(other_engine.get(), 2);
        gnv_session_t *from_memory = nullptr, *from_file = nullptr;
        REQUIRE(gnv_session_import(other.get(), bytes.data(), bytes.size(), &from_memory) == GNV_OK);
        REQUIRE(gnv_session_load(other.get(), path.c_str(), &from_file) == GNV_OK);
        const Session b(from_memory), c(from_file);
        CHECK(info_of(b).has == GNV_WANT_NOTHING);
        CHECK(info_of(b).positions == scenario.prompt.size());
        REQUIRE(feed(b, {scenario.tokens[0]}) == GNV_OK);
        REQUIRE(feed(c, {scenario.tokens[0]}) == GNV_OK);
        run_all(other_engine.get(), other);
        for (const Session * session : {&b, &c}) {
            int32_t id = -1;
            REQUIRE(gnv_session_likeliest(session->get(), &id, nullptr) == GNV_OK);
            CHECK(id == scenario.tokens[1]);
        }
        gnv_session_t * none = made;
        bytes[bytes.size() / 2] ^= 1;
        CHECK(gnv_session_import(other.get(), bytes.data(), bytes.size(), &none) == GNV_FORMAT);
        CHECK(none == nullptr);
    }
    const Model rounded = open_model(other_engine.get(), 2, 0, GNV_PRECISION_BF16);
    gnv_session_t * none = nullptr;
    CHECK(gnv_session_load(rounded.get(), path.c_str(), &none) == GNV_MODEL);
    CHECK(error_has(other_engine.get(), "of another model"));
    CHECK(gnv_session_load(rounded.get(), (path + "x").c_str(), &none) == GNV_NOT_FOUND);
    const Model in_fp8 = open_model(other_engine.get(), 2, 0, GNV_PRECISION_FP32, GNV_CACHE_FP8);
    CHECK(gnv_session_load(in_fp8.get(), path.c_str(), &none) == GNV_MODEL);
    CHECK(error_has(other_engine.get(), "cache_dtype"));
    std::ofstream(path, std::ios::app) << "x";
    CHECK(gnv_session_load(rounded.get(), path.c_str(), &none) == GNV_FORMAT);
    std::filesystem::resize_file(path, 10);
    CHECK(gnv_session_load(rounded.get(), path.c_str(), &none) == GNV_FORMAT);
}

TEST_CASE("wrong uses of sessions are refused and change nothing") {
    const auto engine = make_engine();
    Model none;
    for (const uint64_t absurd : {uint64_t(1) << 17, uint64_t(1) << 31, uint64_t(1) << 63, UINT64_MAX})
        CHECK(try_open(engine.get(), absurd, 0, none) == GNV_INVALID_ARGUMENT);
    for (const uint64_t absurd : {uint64_t(1) << 31, uint64_t(1) << 63, UINT64_MAX})
        CHECK(try_open(engine.get(), 4, absurd, none) == GNV_INVALID_ARGUMENT);
    CHECK(try_open(engine.get(), 0, 100, none) == GNV_INVALID_ARGUMENT);
    CHECK(try_open(engine.get(), 60000, 2000000000, none) == GNV_OUT_OF_MEMORY);
    CHECK(error_has(engine.get(), "the smallest sufficient one is "));

    Model model = open_model(engine.get(), 3, 700);
    const Model without = open_model(engine.get(), 0);
    gnv_session_t * out = nullptr;
    CHECK(gnv_session_open(without.get(), &out) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "gnv_model_options.sessions"));
    CHECK(gnv_session_open(model.get(), nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_open(nullptr, &out) == GNV_INVALID_ARGUMENT);
    gnv_session_close(nullptr);

    Session a = open_session(model);
    const Ids ids = text_ids(0, 70);
    CHECK(gnv_session_feed(a.get(), nullptr, 0, GNV_WANT_NOTHING) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_feed(a.get(), nullptr, 5, GNV_WANT_NOTHING) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_feed(a.get(), ids.data(), SIZE_MAX, GNV_WANT_NOTHING) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_feed(a.get(), ids.data(), 5, gnv_want(5)) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_feed(a.get(), ids.data(), 5, gnv_want(-1)) == GNV_INVALID_ARGUMENT);
    for (const int32_t id : {-1, 4096, INT32_MAX, INT32_MIN}) CHECK(feed(a, {1, id}) == GNV_INVALID_ARGUMENT);
    CHECK(feed(a, Ids(513, 1)) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "texts of 512"));
    CHECK(info_of(a).positions == 0);
    CHECK(room_of(model).taken_positions == 0);

    // More than all sessions may have together.
    Session b = open_session(model), c = open_session(model);
    CHECK(gnv_session_open(model.get(), &out) == GNV_OUT_OF_MEMORY);
    REQUIRE(feed(a, Ids(500, 1)) == GNV_OK);
    CHECK(feed(b, Ids(300, 1)) == GNV_OUT_OF_MEMORY);
    CHECK(error_has(engine.get(), "close or restart a text"));
    CHECK(feed(a, {1}) == GNV_INVALID_ARGUMENT); // ids wait
    CHECK(gnv_session_copy(a.get(), &out) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_assign(b.get(), a.get()) == GNV_INVALID_ARGUMENT);
    size_t size = 0;
    std::vector<char> bytes(1 << 24);
    CHECK(gnv_session_export(a.get(), bytes.data(), bytes.size(), &size) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_session_reset(a.get()) == GNV_OK);
    REQUIRE(feed(b, ids) == GNV_OK);

    // Steps.
    gnv_session_t * twice[] = {b.get(), b.get()};
    CHECK(gnv_model_step(model.get(), twice, 2, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    gnv_session_t * null = nullptr;
    CHECK(gnv_model_step(model.get(), &null, 1, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_step(model.get(), twice, SIZE_MAX, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_step(model.get(), nullptr, 2, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_step(without.get(), nullptr, 0, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    gnv_step_result unset = {};
    CHECK(gnv_model_step(model.get(), nullptr, 0, nullptr, &unset) == GNV_INVALID_ARGUMENT);
    const Model another = open_model(engine.get(), 1);
    gnv_session_t * const foreign = b.get();
    CHECK(gnv_model_step(another.get(), &foreign, 1, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(info_of(b).waiting == 70);
    int32_t id = 0;
    CHECK(gnv_session_likeliest(b.get(), &id, nullptr) == GNV_INVALID_ARGUMENT);

    // From the callback of a step: refused, except closing, which waits.
    struct Inside {
        gnv_session_t *self, *closes;
        gnv_model_t * model;
        int calls;
    } inside = {b.get(), c.release(), model.get(), 0};
    gnv_step_options options;
    gnv_step_options_init(&options);
    options.user = &inside;
    options.progress = [](void * user, const gnv_progress *) {
        auto & in = *static_cast<Inside *>(user);
        if (in.calls++ > 0) return 0;
        const int32_t one = 1;
        gnv_session_t * made = nullptr;
        CHECK(gnv_session_feed(in.self, &one, 1, GNV_WANT_NOTHING) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_session_open(in.model, &made) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_model_step(in.model, nullptr, 0, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_session_reset(in.self) == GNV_INVALID_ARGUMENT);
        gnv_session_close(in.closes);
        return 0;
    };
    REQUIRE(gnv_model_step(model.get(), nullptr, 0, &options, nullptr) == GNV_OK);
    CHECK(inside.calls > 1);
    CHECK(room_of(model).open_sessions == 2);
    CHECK(gnv_session_numbers(b.get(), nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_session_likeliest(b.get(), &id, nullptr) == GNV_OK);
    CHECK(id == generated(engine.get(), model, ids, 1)[0]);
    CHECK(gnv_session_import(model.get(), bytes.data(), bytes.size(), &out) == GNV_FORMAT);
    CHECK(gnv_session_import(model.get(), bytes.data(), 0, &out) == GNV_FORMAT);

    // The model ends before its sessions.
    model.reset();
    auto info = make_info<gnv_session_info>();
    CHECK(gnv_session_get_info(b.get(), &info) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "the model of this session was closed"));
    CHECK(feed(b, {1}) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_assign(a.get(), b.get()) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("absurd numbers and damaged states are refused, and the engine goes on") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get(), 3);
    const Ids prompt = text_ids(0, 70);
    const int32_t expected = generated(engine.get(), model, prompt, 1)[0];
    const Session session = open_session(model);
    REQUIRE(feed(session, prompt, GNV_WANT_LOGITS) == GNV_OK);
    run_all(engine.get(), model);
    const auto picked = [&](const auto & change) {
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.temperature = 0;
        change(options);
        int32_t id = -1;
        const gnv_status status = gnv_session_pick(session.get(), &options, &id);
        CHECK((status == GNV_OK || id == -1));
        return status;
    };
    using Options = gnv_generate_options;
    static constexpr float infinite = INFINITY; // what 1e308 becomes
    for (const float number : {NAN, infinite}) {
        for (float Options::*const member :
             {&Options::temperature, &Options::top_p, &Options::min_p, &Options::repetition_penalty,
              &Options::presence_penalty, &Options::frequency_penalty})
            CHECK(picked([&](Options & options) { options.*member = number; }) == GNV_INVALID_ARGUMENT);
        const gnv_logit_bias bias = {5, number};
        CHECK(picked([&](Options & options) { options.logit_bias = &bias, options.logit_bias_count = 1; }) ==
              GNV_INVALID_ARGUMENT);
    }
    for (const int32_t id : {-1, 4096, INT32_MAX, INT32_MIN}) {
        const gnv_logit_bias bias = {id, 1};
        CHECK(picked([&](Options & options) { options.logit_bias = &bias, options.logit_bias_count = 1; }) ==
              GNV_INVALID_ARGUMENT);
    }
    const gnv_logit_bias twice[] = {{5, 1}, {5, 2}};
    CHECK(picked([&](Options & options) { options.logit_bias = twice, options.logit_bias_count = 2; }) ==
          GNV_INVALID_ARGUMENT);
    for (const uint64_t count : {uint64_t(1) << 31, uint64_t(1) << 63, UINT64_MAX})
        CHECK(picked([&](Options & options) { options.logit_bias = twice, options.logit_bias_count = count; }) ==
              GNV_INVALID_ARGUMENT);
    for (const uint64_t seed : {uint64_t(0), uint64_t(1) << 31, uint64_t(1) << 63, UINT64_MAX})
        CHECK(picked([&](Options & options) { options.seed = seed; }) == GNV_OK);
    CHECK(picked([&](Options & options) { options.top_k = INT32_MAX, options.temperature = 1e-30f; }) == GNV_OK);

    // Every part of a state, damaged and cut off.
    size_t size = 0;
    REQUIRE(gnv_session_export(session.get(), nullptr, 0, &size) == GNV_OK);
    std::vector<char> bytes(size);
    REQUIRE(gnv_session_export(session.get(), bytes.data(), size, &size) == GNV_OK);
    gnv_session_t * out = nullptr;
    for (size_t at = 0; at < size; at += at < 256 ? 7 : size / 40) {
        for (const char bit : {char(1), char(0x80)}) {
            bytes[at] = char(bytes[at] ^ bit);
            const gnv_status status = gnv_session_import(model.get(), bytes.data(), size, &out);
            CHECK((status == GNV_FORMAT || status == GNV_MODEL));
            bytes[at] = char(bytes[at] ^ bit);
        }
        CHECK(gnv_session_import(model.get(), bytes.data(), at, &out) == GNV_FORMAT);
    }
    CHECK(out == nullptr);
    CHECK(room_of(model).open_sessions == 1);
    REQUIRE(gnv_session_import(model.get(), bytes.data(), size, &out) == GNV_OK);
    const Session restored(out);
    CHECK(info_of(restored).positions == 70);
    int32_t id = -1;
    REQUIRE(gnv_session_pick(session.get(), nullptr, &id) == GNV_OK);
    const Session again = open_session(model);
    REQUIRE(feed(again, prompt) == GNV_OK);
    run_all(engine.get(), model);
    REQUIRE(gnv_session_likeliest(again.get(), &id, nullptr) == GNV_OK);
    CHECK(id == expected);
}

TEST_CASE("a stopped step leaves no ids that a penalty counts") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    const Session session = open_session(model);
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.temperature = 0;
    options.repetition_penalty = 1e6f;
    const Ids prompt = text_ids(0, 70);
    Ids picked;
    for (const bool stops : {false, true}) {
        if (stops) { // another text, whose ids would be counted
            REQUIRE(gnv_session_reset(session.get()) == GNV_OK);
            REQUIRE(feed(session, picked, GNV_WANT_LOGITS) == GNV_OK);
            gnv_step_options stop;
            gnv_step_options_init(&stop);
            stop.progress = [](void *, const gnv_progress *) { return 1; };
            REQUIRE(gnv_model_step(model.get(), nullptr, 0, &stop, nullptr) == GNV_CANCELLED);
        }
        REQUIRE(feed(session, prompt, GNV_WANT_LOGITS) == GNV_OK);
        run_all(engine.get(), model);
        int32_t id = -1;
        REQUIRE(gnv_session_pick(session.get(), &options, &id) == GNV_OK);
        picked.push_back(id);
    }
    CHECK(picked[0] == picked[1]);
}

TEST_CASE("caches in FP8: sessions give what the model's own text gives, and states travel") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get(), 2, 0, GNV_PRECISION_FP32, GNV_CACHE_FP8),
                plain = open_model(engine.get(), 2);
    auto info = make_info<gnv_model_info>(), wide = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(model.get(), &info) == GNV_OK);
    REQUIRE(gnv_model_get_info(plain.get(), &wide) == GNV_OK);
    CHECK(info.cache_bytes > 0);
    // Of two layers, keys and values of 512 positions and of two texts in pages of 192, heads 2 x 64.
    CHECK(wide.cache_bytes - info.cache_bytes == 2 * 2 * (512 + 2 * 3 * 192) * (128 * 4 - 128 - 2));
    const Ids prompt = text_ids(0, 250);
    std::vector<float> logits(4096);
    size_t written = 0;
    REQUIRE(gnv_model_forward(model.get(), prompt.data(), prompt.size(), nullptr, logits.data(), 4096, &written) ==
            GNV_OK);
    const Session a = open_session(model);
    REQUIRE(feed(a, prompt, GNV_WANT_LOGITS) == GNV_OK);
    run_all(engine.get(), model);
    std::vector<float> found(4096);
    REQUIRE(gnv_session_numbers(a.get(), found.data(), found.size(), &written) == GNV_OK);
    CHECK(found == logits);
    size_t size = 0;
    REQUIRE(gnv_session_export(a.get(), nullptr, 0, &size) == GNV_OK);
    std::vector<char> bytes(size);
    REQUIRE(gnv_session_export(a.get(), bytes.data(), bytes.size(), &size) == GNV_OK);
    gnv_session_t * made = nullptr;
    CHECK(gnv_session_import(plain.get(), bytes.data(), bytes.size(), &made) == GNV_MODEL);
    REQUIRE(gnv_session_import(model.get(), bytes.data(), bytes.size(), &made) == GNV_OK);
    const Session b(made);
    for (const Session * session : {&a, &b}) REQUIRE(feed(*session, {7}, GNV_WANT_LOGITS) == GNV_OK);
    run_all(engine.get(), model);
    std::vector<float> other(4096);
    REQUIRE(gnv_session_numbers(a.get(), found.data(), found.size(), &written) == GNV_OK);
    REQUIRE(gnv_session_numbers(b.get(), other.data(), other.size(), &written) == GNV_OK);
    CHECK(found == other);
}
