// Sessions through the C API: many texts with one set of weights give what the model's own text gives; every way to use them
// wrongly; a soak of random joins, leaves and stops.
#include "api/capi_fixture.h"
#include "golden_file.h"
#include "memory_growth.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

using namespace gnv::test;

namespace {

using Ids = std::vector<int32_t>;
using Model = Handle<gnv_model_t>;
using Session = Handle<gnv_session_t>;

gnv_status try_open(gnv_engine_t * engine, uint64_t sessions, uint64_t positions, Model & out,
                    gnv_precision precision = GNV_PRECISION_FP32) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = 512;
    options.sessions = sessions;
    options.session_positions = positions;
    options.precision = precision;
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, tiny_folder.c_str(), &options, &model);
    out.reset(model);
    return status;
}

Model open_model(gnv_engine_t * engine, uint64_t sessions = 8, uint64_t positions = 0,
                 gnv_precision precision = GNV_PRECISION_FP32) {
    Model model;
    const gnv_status status = try_open(engine, sessions, positions, model, precision);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return model;
}

Session open_session(const Model & model) {
    gnv_session_t * session = nullptr;
    REQUIRE(gnv_session_open(model.get(), &session) == GNV_OK);
    return Session(session);
}

Ids text_ids(size_t begin, size_t count) {
    static const Ids all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

gnv_status feed(const Session & session, const Ids & ids, gnv_want want = GNV_WANT_LIKELIEST) {
    return gnv_session_feed(session.get(), ids.data(), ids.size(), want);
}

// Steps of all sessions until no id waits.
void run_all(gnv_engine_t * engine, const Model & model) {
    auto step = make_info<gnv_step_result>();
    do {
        const gnv_status status = gnv_model_step(model.get(), nullptr, 0, nullptr, &step);
        REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    } while (step.waiting > 0);
}

std::vector<float> numbers(const Session & session, size_t count = 4096) {
    std::vector<float> out(count);
    size_t written = 0;
    REQUIRE(gnv_session_numbers(session.get(), out.data(), out.size(), &written) == GNV_OK);
    CHECK(written == count);
    return out;
}

gnv_session_info info_of(const Session & session) {
    auto info = make_info<gnv_session_info>();
    REQUIRE(gnv_session_get_info(session.get(), &info) == GNV_OK);
    return info;
}

gnv_sessions_info room_of(const Model & model) {
    auto info = make_info<gnv_sessions_info>();
    REQUIRE(gnv_model_get_sessions(model.get(), &info) == GNV_OK);
    return info;
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

// One user's text in a soak.
struct Chat {
    Session session;
    const Scenario * scenario;
    size_t tokens = 0; // that it has got
    bool fed = false;
};

struct Stop {
    int calls_left;
    static int callback(void * user, const gnv_progress *) { return --static_cast<Stop *>(user)->calls_left < 0; }
};

// Random joins, leaves, copies, ways back and stops. Returns how many tokens were as expected; -1: one was not.
int soak(const Model & model, const std::vector<Scenario> & scenarios, int requests, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<Chat> chats;
    int begun = 0, tokens = 0;
    while (begun < requests || !chats.empty()) {
        if (begun < requests && random() % 2 == 0) {
            gnv_session_t * opened = nullptr;
            const gnv_status status = gnv_session_open(model.get(), &opened);
            if (status == GNV_OK) {
                chats.push_back({Session(opened), &scenarios[random() % scenarios.size()]});
                begun++;
            } else if (status != GNV_OUT_OF_MEMORY || chats.size() < 8) {
                return -1;
            }
        }
        for (Chat & chat : chats) {
            if (chat.fed || random() % 4 == 0) continue;
            const Ids next = chat.tokens == 0 ? chat.scenario->prompt : Ids{chat.scenario->tokens[chat.tokens - 1]};
            const gnv_status status = feed(chat.session, next);
            if (status != GNV_OK && status != GNV_OUT_OF_MEMORY) return -1;
            chat.fed = status == GNV_OK;
        }
        std::vector<gnv_session_t *> some;
        for (const Chat & chat : chats)
            if (random() % 4 != 0) some.push_back(chat.session.get());
        Stop stop = {random() % 8 == 0 ? int(random() % 20) : INT32_MAX};
        gnv_step_options options;
        gnv_step_options_init(&options);
        options.progress = Stop::callback;
        options.user = &stop;
        const gnv_status status = gnv_model_step(model.get(), some.data(), some.size(), &options, nullptr);
        if (status != GNV_OK && status != GNV_CANCELLED) return -1;
        for (size_t i = 0; i < chats.size();) {
            Chat & chat = chats[i];
            const gnv_session_info info = info_of(chat.session);
            if (info.positions == 0 && info.waiting == 0) { // it was stopped, or has not begun
                chat.tokens = 0;
                chat.fed = false;
            } else if (chat.fed && info.waiting == 0) {
                int32_t id = -1;
                if (gnv_session_likeliest(chat.session.get(), &id, nullptr) != GNV_OK) return -1;
                if (id != chat.scenario->tokens[chat.tokens]) return -1;
                chat.tokens++;
                tokens++;
                chat.fed = false;
                if (random() % 8 == 0) { // goes on as a copy
                    gnv_session_t * copy = nullptr;
                    if (gnv_session_copy(chat.session.get(), &copy) == GNV_OK) chat.session.reset(copy);
                }
            }
            if (chat.tokens == chat.scenario->tokens.size() || random() % 40 == 0)
                chats.erase(chats.begin() + ptrdiff_t(i));
            else
                i++;
        }
    }
    return tokens;
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
        REQUIRE(feed(sessions[i], prompt, GNV_WANT_LOGITS) == GNV_OK);
    }
    int32_t id = -1;
    CHECK(gnv_session_pick(sessions[0].get(), &options, &id) == GNV_INVALID_ARGUMENT); // ids wait
    for (size_t turn = 0; turn < 8; turn++) {
        run_all(engine.get(), model);
        for (size_t i = 0; i < 4; i++) {
            options.seed = 100 + i;
            options.top_k = i % 2 == 0 ? 0 : 10;
            options.repetition_penalty = i < 2 ? 1.0f : 1.5f;
            REQUIRE(gnv_session_pick(sessions[i].get(), turn == 0 ? &options : nullptr, &id) == GNV_OK);
            found[i].push_back(id);
            if (turn == 3) { // goes on as a copy, with the same draws
                gnv_session_t * copy = nullptr;
                REQUIRE(gnv_session_copy(sessions[i].get(), &copy) == GNV_OK);
                sessions[i].reset(copy);
            }
            REQUIRE(feed(sessions[i], {id}, GNV_WANT_LOGITS) == GNV_OK);
        }
    }
    CHECK(found == expected);
    run_all(engine.get(), model);
    options.temperature = NAN;
    CHECK(gnv_session_pick(sessions[0].get(), &options, &id) == GNV_INVALID_ARGUMENT);
    options.temperature = 1;
    options.top_p = 7;
    CHECK(gnv_session_pick(sessions[0].get(), &options, &id) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_session_pick(sessions[0].get(), nullptr, nullptr) == GNV_INVALID_ARGUMENT);
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
    CHECK(gnv_session_feed(a.get(), ids.data(), 5, gnv_want(4)) == GNV_INVALID_ARGUMENT);
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

TEST_CASE("a soak: joins, leaves, copies and stops at random") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get(), 8, 1600);
    const std::vector<Scenario> scenarios = make_scenarios(engine.get(), model);
    CHECK(soak(model, scenarios, 60, 1) > 60);
    // Once everything has its size, memory does not grow. In a process of its own, whose peak is that of this work.
    check_memory_growth(UINT64_MAX, [&] {
        const auto own = make_engine(1); // threads do not survive the fork
        const Model other = open_model(own.get(), 8, 1600);
        if (soak(other, scenarios, 20, 2) < 0) return false;
        rusage before{}, after{};
        getrusage(RUSAGE_SELF, &before);
        const bool good = soak(other, scenarios, 30, 3) > 0;
        getrusage(RUSAGE_SELF, &after);
        return good && (sanitized || after.ru_maxrss - before.ru_maxrss < 2048); // KiB
    });
    CHECK(room_of(model).open_sessions == 0);
    CHECK(room_of(model).taken_positions == 0);
}

TEST_CASE("two engines on two threads") {
    const auto reference = make_engine();
    const std::vector<Scenario> scenarios = make_scenarios(reference.get(), open_model(reference.get()));
    int tokens[2] = {-1, -1};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; i++)
        threads.emplace_back([&, i] {
            const auto engine = make_engine(1);
            const Model model = open_model(engine.get(), 8, 1600);
            tokens[i] = soak(model, scenarios, 15, unsigned(10 + i));
        });
    for (std::thread & thread : threads) thread.join();
    CHECK(tokens[0] > 0);
    CHECK(tokens[1] > 0);
}
