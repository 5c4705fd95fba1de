// A text that is being written: its session, and the ids that come next. Of the engine's thread alone.
#pragma once

#include "prefixes.h"
#include "text.h"

#include <optional>

namespace server {

struct OpenModel {
    gnv_engine_t * engine = nullptr;
    gnv_model_t * model = nullptr;
    gnv_model_info info = {};
    gnv_sessions_info sessions = {};
    int32_t draft = 0; // of gnv_session_draft
};

class RunningText {
  public:
    // Throw CallFailed.
    RunningText(const OpenModel & model, Prefixes & prefixes, std::shared_ptr<Text> text);
    // After a step: keeps a beginning, or takes the next token, and those behind it that were guessed. False: the text has ended.
    bool go_on();

    Text & text() { return *text_; }
    const Text & text() const { return *text_; }
    uint64_t tokens() const { return tokens_; } // written so far
    uint64_t drafted() const { return drafted_; }
    uint64_t accepted() const { return accepted_; }
    bool was_stopped(); // the step that failed was that of this text, which has lost its state

  private:
    gnv_generate_options options();
    void feed(const int32_t * ids, size_t count, gnv_want want);
    void feed_prompt();
    int32_t pick();
    bool take_token(bool is_full);

    const OpenModel & model_;
    Prefixes & prefixes_;
    const std::shared_ptr<Text> text_;
    const TextRequest & request_;
    // What options() points to.
    std::vector<const char *> stops_;
    std::vector<int32_t> stop_ids_;
    std::optional<JsonAnswer> json_;

    Session session_;
    Owner<gnv_shown_text_t> shown_;
    const bool is_greedy_;
    size_t fed_ = 0;               // ids of the prompt
    std::vector<size_t> keeps_at_; // beginnings of the prompt, the last comes first
    uint64_t tokens_ = 0, drafted_ = 0, accepted_ = 0;
};

} // namespace server
