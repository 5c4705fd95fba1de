// Sessions for long: texts of random length that join, leave, are copied, saved, stopped and misused at random. Each that
// comes to its end is what the model's own text is; memory does not grow.
#include "api/session_fixture.h"
#include "sanitized.h"

#include <barrier>
#include <cmath>
#include <deque>
#include <fstream>
#include <random>
#include <thread>
#include <unistd.h>

using namespace gnv::test;

namespace {

constexpr int most_texts = 8;
constexpr uint64_t all_positions = 1600; // fewer than the longest texts need together

struct Scenario {
    Ids prompt;
    gnv_generate_options options;
    Ids ids; // of the answer, alone
    std::string text;
    gnv_stop stop = GNV_STOP_LENGTH;
};

struct Alone {
    Scenario * scenario;
    static int callback(void * user, const gnv_token * token) {
        Scenario & scenario = *static_cast<Alone *>(user)->scenario;
        scenario.ids.push_back(token->id);
        scenario.text.append(token->text, token->answer_size);
        return 0;
    }
};

const char * const stop_texts[] = {"e", " the"};

// Greedy and drawn texts with all options, whose answers the model's own text gives. Nothing if a call fails.
std::vector<Scenario> make_scenarios(const Model & model, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<Scenario> out(24);
    for (size_t i = 0; i < out.size(); i++) {
        Scenario & scenario = out[i];
        const size_t count = i < 4 ? i + 1 : 1 + random() % (i % 3 == 0 ? 300 : 60);
        scenario.prompt = text_ids(random() % 50, count);
        gnv_generate_options & options = scenario.options;
        gnv_generate_options_init(&options);
        options.temperature = i % 3 == 0 ? 0.0f : 0.9f;
        options.max_tokens = 1 + random() % 8;
        options.seed = random();
        options.top_k = i % 2 == 0 ? 0 : 20;
        options.min_p = i % 5 == 0 ? 0.01f : 0.0f;
        options.repetition_penalty = i % 4 == 1 ? 1.2f : 1.0f;
        options.presence_penalty = i % 4 == 2 ? 0.5f : 0.0f;
        options.stop_texts = i % 4 == 3 ? stop_texts : nullptr;
        options.stop_text_count = i % 4 == 3 ? 2 : 0;
        Alone alone = {&scenario};
        gnv_generate_options given = options;
        given.callback = Alone::callback;
        given.user = &alone;
        auto result = make_info<gnv_generate_result>();
        if (gnv_model_reset(model.get()) != GNV_OK) return {};
        if (gnv_model_generate(model.get(), scenario.prompt.data(), count, &given, &result) != GNV_OK) return {};
        scenario.stop = result.stop;
    }
    return out;
}

struct Chat {
    const Scenario * scenario = nullptr;
    Session session;
    Handle<gnv_shown_text_t> shown;
    size_t fed = 0; // ids of the prompt
    Ids ids;        // of the answer
    std::string text;
    bool waits = false; // for a step

    bool is_greedy() const { // the largest logit as it is
        const gnv_generate_options & options = scenario->options;
        return options.temperature == 0 && options.repetition_penalty == 1 && options.presence_penalty == 0;
    }
};

struct Stop {
    int calls_left;
    static int callback(void * user, const gnv_progress *) { return --static_cast<Stop *>(user)->calls_left < 0; }
};

class Soak {
  public:
    Soak(gnv_engine_t * engine, const Model & model, unsigned seed) : engine_(engine), model_(model), random_(seed) {}
    // False: something was not as it should be; error() says what.
    bool run(const std::vector<Scenario> & scenarios, int requests) {
        for (int begun = 0; error_.empty() && (begun < requests || !chats_.empty());) {
            if (begun < requests && one_in(2)) begun += begin(scenarios[random_() % scenarios.size()]);
            for (Chat & chat : chats_)
                if (!chat.waits && !one_in(4)) feed_next(chat);
            step();
            if (one_in(5)) misuse();
            go_on();
        }
        chats_.clear();
        return error_.empty();
    }
    const std::string & error() const { return error_; }
    int finished() const { return finished_; }

  private:
    bool one_in(unsigned n) { return random_() % n == 0; }
    void check(bool good, const char * what) {
        if (!good && error_.empty()) error_ = std::string(what) + ": " + gnv_last_error(engine_);
    }
    bool begin(const Scenario & scenario) {
        gnv_session_t * session = nullptr;
        const gnv_status status = gnv_session_open(model_.get(), &session);
        check(status == GNV_OK || (status == GNV_OUT_OF_MEMORY && chats_.size() == most_texts), "open");
        if (status != GNV_OK) return false;
        chats_.emplace_back();
        chats_.back().session.reset(session);
        start_over(chats_.back(), scenario);
        return true;
    }
    void start_over(Chat & chat, const Scenario & scenario) {
        gnv_shown_text_t * shown = nullptr;
        check(gnv_shown_text_create(model_.get(), &scenario.options, &shown) == GNV_OK, "shown text");
        chat.scenario = &scenario;
        chat.shown.reset(shown);
        chat.fed = 0;
        chat.ids.clear();
        chat.text.clear();
        chat.waits = false;
    }
    // The prompt, whole or up to a multiple of 64, or the last token.
    void feed_next(Chat & chat) {
        const Ids & prompt = chat.scenario->prompt;
        Ids next = {chat.ids.empty() ? 0 : chat.ids.back()};
        if (chat.fed < prompt.size()) {
            size_t end = prompt.size();
            if (chat.fed == 0 && end > 66 && one_in(2)) end = 64 * (1 + random_() % ((end - 2) / 64));
            next.assign(prompt.begin() + ptrdiff_t(chat.fed), prompt.begin() + ptrdiff_t(end));
        }
        const gnv_status status = feed(chat.session, next, chat.is_greedy() ? GNV_WANT_LIKELIEST : GNV_WANT_LOGITS);
        check(status == GNV_OK || status == GNV_OUT_OF_MEMORY, "feed");
        if (status == GNV_OUT_OF_MEMORY && one_in(4)) { // gives its room to others
            check(gnv_session_reset(chat.session.get()) == GNV_OK, "reset");
            return start_over(chat, *chat.scenario);
        }
        if (status != GNV_OK) return;
        chat.waits = true;
        if (chat.fed < prompt.size()) chat.fed += next.size();
    }
    void step() {
        std::vector<gnv_session_t *> some;
        for (const Chat & chat : chats_)
            if (!one_in(4)) some.push_back(chat.session.get());
        Stop stop = {one_in(40) ? int(random_() % 3) : INT32_MAX};
        gnv_step_options options;
        gnv_step_options_init(&options);
        options.progress = Stop::callback;
        options.user = &stop;
        const gnv_status status = gnv_model_step(model_.get(), some.data(), some.size(), &options, nullptr);
        check(status == GNV_OK || status == GNV_CANCELLED, "step");
    }
    void go_on() {
        for (auto chat = chats_.begin(); chat != chats_.end();) {
            auto info = make_info<gnv_session_info>();
            check(gnv_session_get_info(chat->session.get(), &info) == GNV_OK, "info");
            bool stays = !one_in(50); // else its client has gone
            if (chat->waits && info.positions == 0 && info.waiting == 0) {
                start_over(*chat, *chat->scenario); // the step was stopped
            } else if (stays && chat->waits && info.waiting == 0) {
                chat->waits = false;
                stays = chat->fed < chat->scenario->prompt.size() || take_token(*chat);
                if (stays && one_in(8)) move(*chat);
            }
            chat = stays ? chat + 1 : chats_.erase(chat);
        }
    }
    bool take_token(Chat & chat) {
        int32_t id = -1;
        const gnv_generate_options * const options = chat.ids.empty() ? &chat.scenario->options : nullptr;
        check((chat.is_greedy() ? gnv_session_likeliest(chat.session.get(), &id, nullptr)
                                : gnv_session_pick(chat.session.get(), options, &id)) == GNV_OK,
              "pick");
        auto token = make_info<gnv_shown_token>();
        check(gnv_shown_text_push(chat.shown.get(), id, 0, &token) == GNV_OK, "push");
        if (!error_.empty()) return false;
        chat.ids.push_back(id);
        chat.text.append(token.text, token.answer_size);
        if (token.is_last == 0) return true;
        finished_++;
        check(chat.ids == chat.scenario->ids && chat.text == chat.scenario->text && token.stop == chat.scenario->stop,
              "the answer is not that of the text alone");
        return false;
    }
    // Goes on as a copy, or, without draws, as a restored state.
    void move(Chat & chat) {
        gnv_session_t * made = nullptr;
        if (!chat.is_greedy() || one_in(2)) {
            const gnv_status status = gnv_session_copy(chat.session.get(), &made);
            check(status == GNV_OK || status == GNV_OUT_OF_MEMORY, "copy");
            if (status == GNV_OK) chat.session.reset(made);
            return;
        }
        size_t size = 0;
        check(gnv_session_export(chat.session.get(), nullptr, 0, &size) == GNV_OK, "export");
        std::vector<char> bytes(size);
        check(gnv_session_export(chat.session.get(), bytes.data(), size, &size) == GNV_OK, "export");
        gnv_status status = gnv_session_import(model_.get(), bytes.data(), size, &made);
        check(status == GNV_OK || status == GNV_OUT_OF_MEMORY, "import");
        if (status == GNV_OK) chat.session.reset(made);
        bytes[random_() % size] ^= char(1 << random_() % 8);
        status = gnv_session_import(model_.get(), bytes.data(), random_() % 2 ? size : random_() % size, &made);
        check(status == GNV_FORMAT || status == GNV_MODEL, "a damaged state");
    }
    // Calls that must be refused and change nothing.
    void misuse() {
        if (chats_.empty()) return;
        const Session & session = chats_[random_() % chats_.size()].session;
        const int32_t bad_ids[] = {1, random_() % 2 ? -1 : 4096};
        check(gnv_session_feed(session.get(), bad_ids, 2, GNV_WANT_LOGITS) == GNV_INVALID_ARGUMENT, "bad ids");
        check(feed(session, Ids(600, 1)) == GNV_INVALID_ARGUMENT, "a long prompt");
        gnv_session_t * const twice[] = {session.get(), session.get()};
        check(gnv_model_step(model_.get(), twice, 2, nullptr, nullptr) == GNV_INVALID_ARGUMENT, "a session twice");
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        (random_() % 2 ? options.temperature : options.top_p) = random_() % 2 ? NAN : float(INFINITY);
        int32_t id = -1;
        check(gnv_session_pick(session.get(), &options, &id) == GNV_INVALID_ARGUMENT, "a NaN");
    }

    gnv_engine_t * const engine_;
    const Model & model_;
    std::mt19937 random_;
    std::deque<Chat> chats_;
    std::string error_;
    int finished_ = 0;
};

// The memory that this process has now.
int64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    int64_t size = 0, resident = 0;
    file >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

// As many requests on each of `engines` engines, each on a thread of its own; what went wrong, or "".
std::string soak_engines(int engines, int requests, unsigned seed, int64_t & grown) {
    std::vector<std::string> errors(static_cast<size_t>(engines));
    std::barrier together(engines); // memory is measured while all engines are there
    int64_t before = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < engines; i++)
        threads.emplace_back([&, i] {
            const auto engine = make_engine(1);
            const Model model = open_model(engine.get(), most_texts, all_positions);
            const std::vector<Scenario> scenarios = make_scenarios(model, seed);
            Soak soak(engine.get(), model, seed + unsigned(i));
            bool good = !scenarios.empty() && soak.run(scenarios, requests / 4); // then everything has its size
            together.arrive_and_wait();
            if (i == 0) before = resident_bytes();
            together.arrive_and_wait();
            good = good && soak.run(scenarios, requests - requests / 4);
            together.arrive_and_wait();
            if (i == 0) grown = resident_bytes() - before;
            together.arrive_and_wait();
            if (!good) errors[size_t(i)] = "engine " + std::to_string(i) + ": " + soak.error();
            if (good && soak.finished() < requests / 3) errors[size_t(i)] = "too few texts came to their end";
            auto room = make_info<gnv_sessions_info>();
            if (gnv_model_get_sessions(model.get(), &room) != GNV_OK || room.open_sessions + room.taken_positions != 0)
                errors[size_t(i)] += " sessions were left";
        });
    for (std::thread & thread : threads) thread.join();
    for (const std::string & error : errors)
        if (!error.empty()) return error;
    return "";
}

void check_soak(int requests, int64_t most_bytes) {
    int64_t grown = 0;
    CHECK(soak_engines(2, requests / 2, 7, grown) == "");
    if (!sanitized) CHECK(grown < most_bytes);
    MESSAGE(requests, " requests, memory grew by ", grown, " bytes");
}

} // namespace

TEST_CASE("a soak: joins, leaves, copies, saved states, stops and misuse at random, two engines on two threads") {
    check_soak(120, 16 << 20);
}

// tests/bin/test_api --no-skip -tc='ten thousand*': minutes.
TEST_CASE("ten thousand requests" * doctest::skip()) { check_soak(10'000, 8 << 20); }
