#include "api/arguments.h"
#include "api/progress.h"
#include "api/text/session_handle.h"
#include "formats/new_file.h"
#include "session/sampling/sampler.h"

#include <algorithm>

using namespace gnv;

// --- Handles ----------------------------------------------------------------------------------------------------------

gnv_session_t::~gnv_session_t() {
    if (model) model->sessions->leave(*this);
}

void ModelSessions::leave(gnv_session_t & session) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.erase(std::find(open_.begin(), open_.end(), &session));
    if (session.text) closed_.push_back(std::move(session.text)); // there is room, see join()
}

void ModelSessions::join(gnv_session_t & session) {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_.reserve(open_.size() + closed_.size() + 1); // a destructor must not fail
    open_.push_back(&session);
}

std::vector<gnv_session_t *> ModelSessions::collect() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::unique_ptr<SharedText> & text : closed_) texts.close(*text);
    closed_.clear();
    return open_;
}

void ModelSessionsDelete::operator()(ModelSessions * sessions) const { delete sessions; }

ModelSessions::~ModelSessions() {
    for (gnv_session_t * const session : open_) session->model = nullptr;
}

Result<const std::string *> ModelSessions::identity(const gnv_model_t & model) {
    if (identity_.empty()) {
        GNV_ASSIGN(const std::string fingerprint, model.open->fingerprint());
        identity_ =
            concat(fingerprint, " ", precision_name(model.precision), model.quantizes_inputs ? " W4A4 " : " ",
                   dtype_name(model.devices.first().activation_dtype()), " ", int(model.devices.first().device().kind));
        if (model.cache != CacheType::activations) identity_ += concat(" caches ", cache_type_name(model.cache));
    }
    return const_cast<const std::string *>(&identity_);
}

Result<api::SessionRoom> api::session_room(const gnv_model_options & options, int64_t capacity) {
    constexpr uint64_t most_sessions = 1 << 16, most_positions = INT32_MAX - cache_page;
    if (options.sessions > most_sessions)
        return fail(Code::invalid_argument, "gnv_model_options.sessions is ", options.sessions, "; use at most ",
                    most_sessions);
    if (options.sessions == 0 && options.session_positions > 0)
        return fail(Code::invalid_argument, "gnv_model_options.session_positions is ", options.session_positions,
                    " without sessions; set gnv_model_options.sessions");
    const uint64_t all = options.sessions * uint64_t((capacity + cache_page - 1) / cache_page * cache_page);
    const uint64_t positions = options.session_positions > 0 ? options.session_positions : all;
    if (positions > most_positions)
        return fail(Code::invalid_argument, "sessions with ", positions, " positions together; use at most ",
                    most_positions, " (gnv_model_options.session_positions)");
    if (options.draft_sessions > 0 && options.drafts == 0)
        return fail(Code::invalid_argument, "gnv_model_options.draft_sessions is ", options.draft_sessions,
                    " without drafts; set gnv_model_options.drafts");
    if (options.draft_sessions > options.sessions)
        return fail(Code::invalid_argument, "gnv_model_options.draft_sessions is ", options.draft_sessions, " of ",
                    options.sessions, " sessions; use at most as many");
    return api::SessionRoom{int64_t(options.sessions), int64_t(positions), int64_t(options.draft_sessions)};
}

Status api::open_sessions(gnv_model_t & model) {
    std::vector<uint8_t> allowed(size_t(model.open->model->sizes().vocabulary), 1);
    Result<Tokenizer> tokenizer = Tokenizer::load(model.folder);
    if (!tokenizer.ok() && tokenizer.status().code() != Code::not_found) return tokenizer.take_status();
    if (tokenizer.ok()) {
        model.tokenizer = std::make_unique<Tokenizer>(tokenizer.take());
        for (size_t id = 0; id < allowed.size(); id++) allowed[id] = model.tokenizer->is_token(int32_t(id));
    }
    GNV_TRY(model.session->allow_in_pool(allowed));
    model.sessions.reset(new ModelSessions(*model.session, std::move(allowed)));
    return {};
}

// Runs `body(sessions)` alone on the engine, for a model that has sessions.
template <class Body>
static gnv_status run(gnv_model_t * model, const Body & body) {
    return api::run(api::engine_of(model), [&]() -> Status {
        if (!model->sessions)
            return Status(Code::invalid_argument,
                          "the model was opened without sessions; set gnv_model_options.sessions");
        model->sessions->collect();
        return body(*model->sessions);
    });
}

// The same for a session.
template <class Body>
static gnv_status run(const gnv_session_t * session, const Body & body) {
    return api::run(api::engine_of(session), [&]() -> Status {
        if (!session->model) return Status(Code::invalid_argument, "the model of this session was closed");
        session->model->sessions->collect();
        return body(*session->model->sessions);
    });
}

// A new session with the text that `make` gives. Its owner is there first, so that no failure loses a text.
template <class Make>
static Status add_session(gnv_model_t & model, gnv_session_t ** out, const Make & make) {
    std::unique_ptr<gnv_session_t> session(new gnv_session_t);
    session->engine = model.engine;
    model.sessions->join(*session);
    session->model = &model;
    GNV_ASSIGN(session->text, make());
    *out = session.release();
    return {};
}

gnv_status gnv_model_get_sessions(gnv_model_t * model, gnv_sessions_info * out) {
    return run(model, [&](ModelSessions &) -> Status {
        const PoolUse use = model->session->pool().use();
        gnv_sessions_info info = {};
        info.sessions = uint64_t(use.most_texts);
        info.open_sessions = uint64_t(use.texts);
        info.positions = uint64_t(use.most_positions);
        info.taken_positions = uint64_t(use.positions);
        info.page = uint64_t(cache_page);
        info.bytes = use.bytes;
        info.step_positions = uint64_t(model->session->piece());
        const DraftUse drafts = model->session->draft_use();
        info.draft_sessions = uint64_t(drafts.most_texts);
        info.drafting_sessions = uint64_t(drafts.texts);
        info.draft_bytes = drafts.bytes;
        return api::give_struct(info, out, "gnv_sessions_info");
    });
}

gnv_status gnv_session_open(gnv_model_t * model, gnv_session_t ** out) {
    if (out) *out = nullptr;
    return run(model, [&](ModelSessions & sessions) -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_session_open"));
        return add_session(*model, out, [&] { return sessions.texts.open(); });
    });
}

void gnv_session_close(gnv_session_t * session) { api::destroy(session); }

// --- Going on ---------------------------------------------------------------------------------------------------------

gnv_status gnv_session_feed(gnv_session_t * session, const int32_t * ids, size_t count, gnv_want want) {
    return run(session, [&](ModelSessions & sessions) -> Status {
        GNV_TRY(api::check_list(ids, count, "gnv_session_feed: ids"));
        GNV_TRY(api::check_number(want, GNV_WANT_PICK, "gnv_session_feed: want"));
        static constexpr TextWant wants[] = {TextWant::none, TextWant::largest, TextWant::logits, TextWant::embedding,
                                             TextWant::pick};
        // The draws behind guesses are not known: a session that drafts picks from logits, which gives the same token.
        const bool draws = want == GNV_WANT_PICK && !session->text->draft;
        const std::optional<Draw> draw = draws ? session->picks->next_draw() : std::nullopt;
        IsEnough is_enough;
        if (want == GNV_WANT_PICK && !draw)
            is_enough = [picks = session->picks](const SomeLogits & some) { return picks->picks_from(some); };
        GNV_TRY(sessions.texts.feed(*session->text, {ids, count}, draw ? TextWant::draw : wants[want],
                                    std::move(is_enough), draw.value_or(Draw())));
        session->picks->ids.insert(session->picks->ids.end(), ids, ids + count);
        return {};
    });
}

gnv_status gnv_session_draft(gnv_session_t * session, int32_t draft) {
    return run(session, [&](ModelSessions & sessions) -> Status {
        GNV_ASSIGN(const DraftOptions options, api::draft_options(draft, "gnv_session_draft: draft"));
        if (session->model->session->draft_use().most_texts == 0)
            return Status(Code::unsupported, "gnv_session_draft: the model was opened without sessions that draft "
                                             "(gnv_model_options.draft_sessions)");
        return sessions.texts.draft(*session->text, options);
    });
}

// The sessions of a step: those that are named, each once, or all.
static Result<std::vector<SharedText *>> texts_of(gnv_model_t & model, gnv_session_t * const * list, size_t count) {
    GNV_TRY(api::check_list(list, count, "gnv_model_step: sessions"));
    std::vector<gnv_session_t *> chosen(list, list + count);
    if (count == 0) chosen = model.sessions->collect();
    std::vector<SharedText *> texts;
    for (size_t i = 0; i < chosen.size(); i++) {
        if (!chosen[i] || chosen[i]->model != &model)
            return fail(Code::invalid_argument, "gnv_model_step: sessions[", i, "] ",
                        chosen[i] ? "is of another model" : "is NULL");
        texts.push_back(chosen[i]->text.get());
    }
    std::vector<SharedText *> sorted = texts;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
        return Status(Code::invalid_argument, "gnv_model_step: a session is named twice");
    return texts;
}

// Sessions that a failed pass has taken back to their start have no ids that a penalty could count.
static void forget_lost_texts(ModelSessions & sessions) {
    for (gnv_session_t * const session : sessions.collect())
        if (session->text && session->text->state.past == 0 && session->text->waiting() == 0) *session->picks = {};
}

gnv_status gnv_model_step(gnv_model_t * model, gnv_session_t * const * list, size_t count,
                          const gnv_step_options * given, gnv_step_result * out) {
    return run(model, [&](ModelSessions & sessions) -> Status {
        gnv_step_options options;
        gnv_step_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_step_options"));
        if (out) GNV_TRY(api::check_struct(out, "gnv_step_result"));
        GNV_ASSIGN(const std::vector<SharedText *> texts, texts_of(*model, list, count));
        api::Progress progress(*model->engine->threads, options.progress, options.user);
        std::function<bool(int64_t, int64_t)> on_progress;
        if (progress)
            on_progress = [&](int64_t done, int64_t total) {
                gnv_progress now = {};
                now.positions = uint64_t(done);
                now.positions_total = uint64_t(total);
                return progress.report(now, done == total);
            };
        Result<SharedTexts::Step> step = sessions.texts.step(texts, on_progress);
        if (!step.ok()) {
            forget_lost_texts(sessions);
            return step.take_status();
        }
        gnv_step_result result = {};
        result.sessions = uint64_t(step.value().texts);
        result.positions = uint64_t(step.value().positions);
        result.waiting = uint64_t(step.value().waiting);
        return out ? api::give_struct(result, out, "gnv_step_result") : Status();
    });
}

// --- Results ----------------------------------------------------------------------------------------------------------

static gnv_want want_of(TextWant want) {
    switch (want) {
    case TextWant::largest: return GNV_WANT_LIKELIEST;
    case TextWant::logits: return GNV_WANT_LOGITS;
    case TextWant::embedding: return GNV_WANT_EMBEDDING;
    case TextWant::pick:
    case TextWant::draw: return GNV_WANT_PICK;
    default: return GNV_WANT_NOTHING;
    }
}

gnv_status gnv_session_get_info(gnv_session_t * session, gnv_session_info * out) {
    return run(session, [&](ModelSessions &) -> Status {
        gnv_session_info info = {};
        info.positions = uint64_t(session->text->state.past);
        info.waiting = uint64_t(session->text->waiting());
        info.has = want_of(session->text->has);
        if (const TextDraft * const draft = session->text->draft.get()) {
            const DraftOptions & options = draft->plan.options();
            info.draft = options.automatic ? GNV_DRAFT_AUTO : int32_t(options.tokens);
            info.drafted = uint64_t(draft->counts.drafted);
            info.accepted = uint64_t(draft->counts.accepted);
            info.draft_passes = uint64_t(draft->counts.passes);
            info.draft_gain = draft->counts.gain();
            info.draft_end = uint64_t(draft->plan.end());
        }
        return api::give_struct(info, out, "gnv_session_info");
    });
}

static Status no_result(const gnv_session_t & session, const char * what) {
    if (session.text->waiting() > 0)
        return fail(Code::invalid_argument, session.text->waiting(),
                    " ids of the session wait: run gnv_model_step first");
    return fail(Code::invalid_argument, "the session has no ", what, ": ask for it in gnv_session_feed");
}

gnv_status gnv_session_likeliest(gnv_session_t * session, int32_t * id, float * logit) {
    return run(session, [&](ModelSessions &) -> Status {
        GNV_TRY(api::check_pointers({id}, "gnv_session_likeliest"));
        if (session->text->has != TextWant::largest) return no_result(*session, "likeliest token");
        const LargestLogit & largest = session->text->largest;
        GNV_ASSIGN(*id, checked_choice(largest.id, largest.logit));
        if (logit) *logit = largest.logit;
        return {};
    });
}

gnv_status gnv_session_pick(gnv_session_t * session, const gnv_generate_options * given, int32_t * id) {
    return run(session, [&](ModelSessions & sessions) -> Status {
        if (!given) GNV_TRY(api::check_pointers({id}, "gnv_session_pick"));
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_generate_options"));
        SharedText & text = *session->text;
        PickSeries & picks = *session->picks;
        const bool for_series = text.has == TextWant::pick || text.has == TextWant::draw;
        if (id && text.has != TextWant::logits && !for_series) return no_result(*session, "logits");
        if (!id && text.waiting() > 0) // that feed may ask for what another series needs
            return fail(Code::invalid_argument, "gnv_session_pick: ", text.waiting(),
                        " ids of the session wait; a series begins before they are fed, or after a step");
        if (given || !picks.sampler) {
            GNV_ASSIGN(const SamplerOptions sampling, api::sampler_options(*session->model, options));
            PickSeries next;
            next.ids = picks.ids;
            next.begin(sampling, sessions.allowed, options);
            if (id && (text.has == TextWant::draw || (for_series && !next.picks_from(text.some))))
                return Status(
                    Code::invalid_argument,
                    "gnv_session_pick: GNV_WANT_PICK gave what the options of its series need, and these need more; "
                    "feed with GNV_WANT_LOGITS before options change");
            picks = std::move(next);
            if (!id && for_series) text.has = TextWant::none; // what the series before needed
        }
        if (!id) return {};
        if (text.has == TextWant::draw) {
            GNV_ASSIGN(*id, picks.sampler->drawn(text.largest.id, text.largest.logit));
            text.has = TextWant::none; // another pick would be another draw
            picks.picked.push_back(*id);
            return {};
        }
        picks.count_ids();
        const bool picks_from_some = text.has == TextWant::pick && !text.some.all();
        std::span<const float> logits = text.has == TextWant::pick ? text.some.logits : text.numbers;
        std::vector<float> changed; // the session's numbers stay what they are
        if (picks.on_logits) {
            changed.assign(logits.begin(), logits.end());
            logits = changed;
            const gnv_logits now = {sizeof(gnv_logits), changed.data(), changed.size(), picks.picked.data(),
                                    picks.picked.size()};
            if (picks.on_logits(picks.logits_user, &now) != 0) return Status(Code::cancelled, "stopped on request");
        }
        GNV_ASSIGN(*id, picks_from_some ? picks.sampler->pick(text.some) : picks.sampler->pick(logits));
        picks.picked.push_back(*id);
        return {};
    });
}

gnv_status gnv_session_numbers(gnv_session_t * session, float * numbers, size_t capacity, size_t * written) {
    if (written) *written = 0;
    return run(session, [&](ModelSessions &) -> Status {
        GNV_TRY(api::check_pointers({numbers}, "gnv_session_numbers"));
        const SharedText & text = *session->text;
        if (text.has != TextWant::logits && text.has != TextWant::embedding)
            return no_result(*session, "logits and no embedding");
        if (capacity < text.numbers.size())
            return fail(Code::invalid_argument, "gnv_session_numbers: the capacity is ", capacity,
                        " numbers, the call returns ", text.numbers.size());
        std::copy(text.numbers.begin(), text.numbers.end(), numbers);
        if (written) *written = text.numbers.size();
        return {};
    });
}

// --- Copies and saved texts -------------------------------------------------------------------------------------------

gnv_status gnv_session_copy(gnv_session_t * session, gnv_session_t ** out) {
    if (out) *out = nullptr;
    return run(session, [&](ModelSessions & sessions) -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_session_copy"));
        GNV_TRY(add_session(*session->model, out, [&] { return sessions.texts.copy(*session->text); }));
        (*out)->picks->copy(*session->picks);
        return {};
    });
}

gnv_status gnv_session_assign(gnv_session_t * session, const gnv_session_t * from) {
    return run(session, [&](ModelSessions & sessions) -> Status {
        GNV_TRY(api::check_pointers({from}, "gnv_session_assign"));
        if (from->model != session->model)
            return Status(Code::invalid_argument, "gnv_session_assign: the sessions are of two models");
        GNV_TRY(sessions.texts.assign(*session->text, *from->text));
        session->picks->copy(*from->picks);
        return {};
    });
}

gnv_status gnv_session_reset(gnv_session_t * session) {
    return run(session, [&](ModelSessions & sessions) -> Status {
        sessions.texts.restart(*session->text);
        *session->picks = {};
        return {};
    });
}

static Result<std::string> saved(gnv_session_t & session) {
    GNV_ASSIGN(const std::string * const identity, session.model->sessions->identity(*session.model));
    return session.model->sessions->texts.save(*session.text, *identity);
}

static Status restore(gnv_model_t & model, std::span<const uint8_t> bytes, gnv_session_t ** out) {
    GNV_ASSIGN(const std::string * const identity, model.sessions->identity(model));
    return add_session(model, out, [&] { return model.sessions->texts.restore(bytes, *identity); });
}

gnv_status gnv_session_export(gnv_session_t * session, void * bytes, size_t capacity, size_t * size) {
    if (size) *size = 0;
    return run(session, [&](ModelSessions & sessions) -> Status {
        GNV_TRY(api::check_pointers({size}, "gnv_session_export"));
        GNV_TRY(api::check_list(bytes, capacity, "gnv_session_export: bytes", api::most_bytes));
        const uint64_t needed = sessions.texts.saved_bytes(*session->text);
        if (bytes && capacity < needed)
            return fail(Code::invalid_argument, "gnv_session_export: the capacity is ", capacity,
                        " bytes, the state has ", needed);
        if (bytes) {
            GNV_ASSIGN(const std::string state, saved(*session));
            memcpy(bytes, state.data(), state.size());
        }
        *size = size_t(needed);
        return {};
    });
}

gnv_status gnv_session_import(gnv_model_t * model, const void * bytes, size_t size, gnv_session_t ** out) {
    if (out) *out = nullptr;
    return run(model, [&](ModelSessions &) -> Status {
        GNV_TRY(api::check_pointers({bytes, out}, "gnv_session_import"));
        GNV_TRY(api::check_list(bytes, size, "gnv_session_import: bytes", api::most_bytes));
        return restore(*model, {static_cast<const uint8_t *>(bytes), size}, out);
    });
}

gnv_status gnv_session_save(gnv_session_t * session, const char * path) {
    return run(session, [&](ModelSessions &) -> Status {
        GNV_TRY(api::check_pointers({path}, "gnv_session_save"));
        GNV_TRY(check_new_file(path));
        GNV_ASSIGN(const std::string state, saved(*session));
        return write_new_file(path, state);
    });
}

gnv_status gnv_session_load(gnv_model_t * model, const char * path, gnv_session_t ** out) {
    if (out) *out = nullptr;
    return run(model, [&](ModelSessions & sessions) -> Status {
        GNV_TRY(api::check_pointers({path, out}, "gnv_session_load"));
        // With other caches a state has up to four times as many bytes: it is refused by what it says of itself.
        GNV_ASSIGN(const std::string bytes, read_file(path, 4 * sessions.texts.most_saved_bytes()));
        Status status = restore(*model, {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}, out);
        return status.ok() ? Status() : std::move(status).add_context(path);
    });
}
