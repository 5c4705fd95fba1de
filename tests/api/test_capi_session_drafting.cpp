// Sessions that draft, through the C API: equal texts for a program that knows of drafting and for one that does not; counts; and
// every way to ask for it wrongly.
#include "api/capi_fixture.h"
#include "api/fitted_model.h"
#include "golden_file.h"

#include <vector>

using namespace gnv::test;

namespace {

using Ids = std::vector<int32_t>;
using Model = Handle<gnv_model_t>;
using Session = Handle<gnv_session_t>;

gnv_model_options options_for(uint64_t sessions, uint64_t drafts) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = 256;
    options.sessions = sessions;
    options.drafts = drafts > 0;
    options.draft_sessions = drafts;
    return options;
}

gnv_status try_open(gnv_engine_t * engine, const gnv_model_options & options, Model & out) {
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, folder_with_fitted_draft().c_str(), &options, &model);
    out.reset(model);
    return status;
}

Session open(const Model & model, int32_t draft) {
    gnv_session_t * session = nullptr;
    REQUIRE(gnv_session_open(model.get(), &session) == GNV_OK);
    if (draft != 0) REQUIRE(gnv_session_draft(session, draft) == GNV_OK);
    return Session(session);
}

Ids text_ids(size_t begin, size_t count) {
    static const Ids all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

gnv_session_info info_of(const Session & session) {
    gnv_session_info info = make_info<gnv_session_info>();
    REQUIRE(gnv_session_get_info(session.get(), &info) == GNV_OK);
    return info;
}

// As a program does that knows of no drafting: a step behind each feed.
Ids write_on(const Model & model, const Session & session, const Ids & prompt, size_t tokens, float temperature) {
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.temperature = temperature;
    options.seed = 11;
    const bool is_greedy = temperature == 0;
    Ids out;
    REQUIRE(gnv_session_feed(session.get(), prompt.data(), prompt.size(),
                             is_greedy ? GNV_WANT_LIKELIEST : GNV_WANT_LOGITS) == GNV_OK);
    while (out.size() < tokens) {
        gnv_step_result step = make_info<gnv_step_result>();
        do REQUIRE(gnv_model_step(model.get(), nullptr, 0, nullptr, &step) == GNV_OK);
        while (step.waiting > 0);
        int32_t id = 0;
        if (is_greedy) {
            REQUIRE(gnv_session_likeliest(session.get(), &id, nullptr) == GNV_OK);
        } else {
            REQUIRE(gnv_session_pick(session.get(), out.empty() ? &options : nullptr, &id) == GNV_OK);
        }
        out.push_back(id);
        REQUIRE(gnv_session_feed(session.get(), &id, 1, is_greedy ? GNV_WANT_LIKELIEST : GNV_WANT_PICK) == GNV_OK);
    }
    return out;
}

} // namespace

TEST_CASE("sessions that draft write what gnv_model_generate writes without") {
    const auto engine = make_engine();
    Model plain, drafting;
    REQUIRE(try_open(engine.get(), options_for(0, 0), plain) == GNV_OK);
    REQUIRE(try_open(engine.get(), options_for(3, 2), drafting) == GNV_OK);
    gnv_sessions_info all = make_info<gnv_sessions_info>();
    REQUIRE(gnv_model_get_sessions(drafting.get(), &all) == GNV_OK);
    CHECK(all.draft_sessions == 2);
    CHECK(all.draft_bytes > 100000);
    uint64_t accepted = 0;
    for (const float temperature : {0.0f, 0.8f})
        for (const int32_t draft : {1, 4, 15, GNV_DRAFT_AUTO}) {
            CAPTURE(temperature);
            CAPTURE(draft);
            REQUIRE(gnv_model_reset(plain.get()) == GNV_OK);
            gnv_generate_options options;
            gnv_generate_options_init(&options);
            options.temperature = temperature;
            options.max_tokens = 50;
            options.seed = 11;
            options.stop_ids = &draft; // none
            options.stop_count = 0;
            Ids expected;
            options.callback = [](void * user, const gnv_token * token) {
                static_cast<Ids *>(user)->push_back(token->id);
                return 0;
            };
            options.user = &expected;
            const Ids prompt = text_ids(200, 40);
            REQUIRE(gnv_model_generate(plain.get(), prompt.data(), prompt.size(), &options, nullptr) == GNV_OK);
            const Session session = open(drafting, draft);
            CHECK(write_on(drafting, session, prompt, 50, temperature) == expected);
            const gnv_session_info info = info_of(session);
            CHECK(info.draft == draft);
            CHECK(info.drafted > 0);
            CHECK(info.draft_passes > 0);
            CHECK(info.draft_gain > 0);
            CHECK(info.accepted <= info.drafted);
            accepted += info.accepted;
        }
    CHECK(accepted > 20);
    REQUIRE(gnv_model_get_sessions(drafting.get(), &all) == GNV_OK);
    CHECK(all.drafting_sessions == 0);
}

TEST_CASE("a guess that came has its result without a step; copies, assigned and saved sessions go on the same") {
    const auto engine = make_engine();
    Model model;
    REQUIRE(try_open(engine.get(), options_for(6, 2), model) == GNV_OK);
    const Ids prompt = text_ids(200, 40);
    const Session a = open(model, 4), plain = open(model, 0);
    const Ids expected = write_on(model, plain, prompt, 60, 0);
    size_t at_once = 0, copied = 0;
    REQUIRE(gnv_session_feed(a.get(), prompt.data(), prompt.size(), GNV_WANT_LIKELIEST) == GNV_OK);
    for (size_t i = 0; i < expected.size(); i++) {
        if (info_of(a).waiting == 0) {
            at_once++;
        } else {
            REQUIRE(gnv_model_step(model.get(), nullptr, 0, nullptr, nullptr) == GNV_OK);
        }
        int32_t id = 0;
        REQUIRE(gnv_session_likeliest(a.get(), &id, nullptr) == GNV_OK);
        REQUIRE(id == expected[i]);
        if (at_once > 0 && copied < 4 && info_of(a).positions > 60) { // with guesses behind the text
            copied++;
            gnv_session_t * made = nullptr;
            REQUIRE(gnv_session_copy(a.get(), &made) == GNV_OK);
            const Session copy(made);
            CHECK(info_of(copy).draft == 0);
            size_t size = 0;
            REQUIRE(gnv_session_export(copy.get(), nullptr, 0, &size) == GNV_OK);
            std::string of_copy(size, '\0'), of_session(size, '\0');
            REQUIRE(gnv_session_export(copy.get(), of_copy.data(), size, &size) == GNV_OK);
            REQUIRE(gnv_session_export(a.get(), of_session.data(), size, &size) == GNV_OK);
            CHECK(of_copy == of_session);
            REQUIRE(gnv_session_import(model.get(), of_copy.data(), size, &made) == GNV_OK);
            const Session back(made);
            REQUIRE(gnv_session_draft(back.get(), 3) == GNV_OK);
            REQUIRE(gnv_session_assign(a.get(), back.get()) == GNV_OK);
            CHECK(info_of(a).draft == 4);
            CHECK(info_of(a).drafted == 0);
        }
        REQUIRE(gnv_session_feed(a.get(), &id, 1, GNV_WANT_LIKELIEST) == GNV_OK);
    }
    CHECK(at_once > 3);
    CHECK(copied == 4);
    REQUIRE(gnv_session_reset(a.get()) == GNV_OK);
    CHECK(info_of(a).draft == 4);
    CHECK(write_on(model, a, prompt, 20, 0) == Ids(expected.begin(), expected.begin() + 20));
}

TEST_CASE("drafting of sessions that is not possible is refused, and says why") {
    const auto engine = make_engine();
    Model model, other;
    gnv_model_options options = options_for(2, 1);
    options.drafts = 0;
    CHECK(try_open(engine.get(), options, other) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "without drafts"));
    CHECK(try_open(engine.get(), options_for(2, 3), other) == GNV_INVALID_ARGUMENT);
    CHECK(try_open(engine.get(), options_for(2, UINT64_MAX), other) == GNV_INVALID_ARGUMENT);
    options = options_for(2, 2);
    options.ram_bytes = 1 << 20;
    CHECK(try_open(engine.get(), options, other) == GNV_OUT_OF_MEMORY);
    CHECK(error_has(engine.get(), "and drafting: the smallest sufficient one is "));

    REQUIRE(try_open(engine.get(), options_for(3, 1), model) == GNV_OK);
    const Session a = open(model, 0), b = open(model, 0);
    for (const int32_t wrong : {-2, 16, INT32_MAX, INT32_MIN}) {
        CHECK(gnv_session_draft(a.get(), wrong) == GNV_INVALID_ARGUMENT);
        CHECK(error_has(engine.get(), "gnv_session_draft: draft is "));
    }
    CHECK(gnv_session_draft(nullptr, 1) == GNV_INVALID_ARGUMENT);
    CHECK(info_of(a).draft == 0);
    CHECK(gnv_session_draft(a.get(), 2) == GNV_OK);
    CHECK(gnv_session_draft(a.get(), 7) == GNV_OK);
    CHECK(gnv_session_draft(b.get(), 2) == GNV_OUT_OF_MEMORY);
    CHECK(error_has(engine.get(), "all 1 texts draft that the model was opened for"));
    CHECK(gnv_session_draft(a.get(), 0) == GNV_OK);
    CHECK(gnv_session_draft(b.get(), GNV_DRAFT_AUTO) == GNV_OK);
    CHECK(info_of(b).draft == GNV_DRAFT_AUTO);

    Model plain;
    REQUIRE(try_open(engine.get(), options_for(1, 0), plain) == GNV_OK);
    const Session without = open(plain, 0);
    CHECK(gnv_session_draft(without.get(), 1) == GNV_UNSUPPORTED);
    CHECK(error_has(engine.get(), "gnv_model_options.draft_sessions"));
}

TEST_CASE("a step of sessions that draft is stopped: they begin anew, and write the same") {
    const auto engine = make_engine();
    Model model;
    REQUIRE(try_open(engine.get(), options_for(3, 2), model) == GNV_OK);
    const Ids prompt = text_ids(200, 40);
    const Session plain = open(model, 0), a = open(model, 3);
    const Ids expected = write_on(model, plain, prompt, 40, 0);
    CHECK(write_on(model, a, prompt, 20, 0) == Ids(expected.begin(), expected.begin() + 20));
    gnv_step_options stop;
    gnv_step_options_init(&stop);
    stop.progress = [](void *, const gnv_progress *) { return 1; };
    while (info_of(a).waiting == 0) { // what is there needs no step
        int32_t id = 0;
        REQUIRE(gnv_session_likeliest(a.get(), &id, nullptr) == GNV_OK);
        REQUIRE(gnv_session_feed(a.get(), &id, 1, GNV_WANT_LIKELIEST) == GNV_OK);
    }
    CHECK(gnv_model_step(model.get(), nullptr, 0, &stop, nullptr) == GNV_CANCELLED);
    CHECK(info_of(a).positions == 0);
    CHECK(info_of(a).draft == 3);
    CHECK(write_on(model, a, prompt, 40, 0) == expected);
}
