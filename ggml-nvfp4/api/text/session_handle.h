// gnv_session_t, and what a model has for its sessions.
#pragma once

#include "api/text/model_handle.h"
#include "session/sampling/sampler.h"
#include "session/texts/shared_texts.h"
#include "session/texts/shown_text.h"

#include <mutex>
#include <optional>

// How tokens are picked for a session, and the ids and tokens that this depends on.
struct PickSeries {
    std::vector<int32_t> ids; // fed so far, of which the sampler has counted some
    std::optional<gnv::Sampler> sampler;
    size_t counted = 0;
    std::vector<int32_t> picked;
    gnv_logits_callback on_logits = nullptr; // of this series; copies of the session do not call it
    void * logits_user = nullptr;

    // Of a session with the same text.
    void copy(const PickSeries & from) {
        *this = from;
        on_logits = nullptr;
    }
    void begin(const gnv::SamplerOptions & options, const std::vector<uint8_t> & allowed,
               const gnv_generate_options & given) {
        sampler.emplace(options, allowed);
        counted = 0;
        picked.clear();
        on_logits = given.on_logits, logits_user = given.logits_user;
    }
    void count_ids() {
        sampler->count_prompt(std::span(ids).subspan(counted));
        counted = ids.size();
    }
    std::optional<gnv::Draw> next_draw() const {
        return sampler && !on_logits ? sampler->next_draw() : std::optional<gnv::Draw>();
    }
    // Whether the next pick may come from these logits: not where a caller sees them all.
    bool picks_from(const gnv::SomeLogits & some) {
        if (some.all()) return true;
        if (!sampler || on_logits) return false;
        count_ids();
        return sampler->is_enough(some);
    }
};

// A member comes after the members that it uses.
struct gnv_session_t : gnv::api::Owned {
    gnv_model_t * model = nullptr; // null after gnv_model_close
    std::unique_ptr<gnv::SharedText> text;
    // A step that runs while the session is closed still asks it.
    std::shared_ptr<PickSeries> picks = std::make_shared<PickSeries>();

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
    int64_t texts = 0, positions = 0, drafts = 0;
};
Result<SessionRoom> session_room(const gnv_model_options & options, int64_t capacity);
Status open_sessions(gnv_model_t & model); // after the session is made

// Parts of gnv_generate_options, checked. Defined in capi_model.cpp.
Result<SamplerOptions> sampler_options(const gnv_model_t & model, const gnv_generate_options & options);
Result<AnswerLimits> answer_limits(const gnv_model_t & model, const gnv_generate_options & options);
// Loads that of the model's folder when it is first needed: within a run() alone.
Result<const Tokenizer *> choose_tokenizer(gnv_model_t & model, const gnv_generate_options & options);
gnv_stop stop_of(GenerateStop stop);
// A number of drafts, as gnv_generate_options has it; `what` names it.
Result<DraftOptions> draft_options(int32_t draft, const char * what);

} // namespace gnv::api
