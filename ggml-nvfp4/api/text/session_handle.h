// gnv_session_t, and what a model has for its sessions.
#pragma once

#include "api/text/model_handle.h"
#include "session/sampler.h"
#include "session/shared_texts.h"
#include "session/shown_text.h"

#include <mutex>
#include <optional>

// A member comes after the members that it uses.
struct gnv_session_t : gnv::api::Owned {
    gnv_model_t * model = nullptr; // null after gnv_model_close
    std::unique_ptr<gnv::SharedText> text;
    // Of gnv_session_pick: the ids fed so far, of which the sampler has counted some, and the tokens picked with it.
    std::vector<int32_t> ids;
    std::optional<gnv::Sampler> sampler;
    size_t counted = 0;
    std::vector<int32_t> picked;
    gnv_logits_callback on_logits = nullptr; // of this series; copies of the session do not call it
    void * logits_user = nullptr;

    void take_history(const gnv_session_t & from) {
        ids = from.ids, sampler = from.sampler, counted = from.counted, picked = from.picked;
        on_logits = nullptr;
    }
    void begin_series(const gnv::SamplerOptions & options, const std::vector<uint8_t> & allowed) {
        sampler.emplace(options, allowed);
        counted = 0;
        picked.clear();
    }

    ~gnv_session_t();
};

// Any thread may close a session while another runs a call, so a closed one waits here until the next call takes its memory.
struct ModelSessions {
    gnv::SharedTexts texts;
    const std::vector<uint8_t> allowed; // by id, 0 for ids that are never chosen

    ModelSessions(gnv::TextSession & session, std::vector<uint8_t> allowed_ids)
        : texts(session), allowed(std::move(allowed_ids)) {}
    ~ModelSessions();
    void join(gnv_session_t & session);
    void leave(gnv_session_t & session);
    std::vector<gnv_session_t *> collect(); // frees what closed sessions had; those that are open
    gnv::Result<const std::string *> identity(const gnv_model_t & model); // of saved texts

  private:
    std::mutex mutex_; // for both lists
    std::vector<gnv_session_t *> open_;
    std::vector<std::unique_ptr<gnv::SharedText>> closed_;
    std::string identity_;
};

namespace gnv::api {

struct SessionRoom {
    int64_t texts = 0, positions = 0;
};
Result<SessionRoom> session_room(const gnv_model_options & options, int64_t capacity);
Status open_sessions(gnv_model_t & model); // after the session is made

// Parts of gnv_generate_options, checked. Defined in capi_model.cpp.
Result<SamplerOptions> sampler_options(const gnv_model_t & model, const gnv_generate_options & options);
Result<AnswerLimits> answer_limits(const gnv_model_t & model, const gnv_generate_options & options);
// Loads that of the model's folder when it is first needed: within a run() alone.
Result<const Tokenizer *> choose_tokenizer(gnv_model_t & model, const gnv_generate_options & options);
gnv_stop stop_of(GenerateStop stop);

} // namespace gnv::api
