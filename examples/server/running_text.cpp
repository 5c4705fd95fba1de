#include "running_text.h"

#include <algorithm>

namespace server {

// Whether the largest logit decides, which the device finds without handing out all.
static bool is_greedy(const TextRequest & request, const gnv_model_info & model) {
    const float own_temperature = model.samples ? model.temperature : 0;
    const float temperature = request.temperature < 0 ? own_temperature : request.temperature;
    const float repetition = request.repetition_penalty < 0 ? model.repetition_penalty : request.repetition_penalty;
    return temperature == 0 && repetition == 1 && request.presence_penalty == 0 && request.frequency_penalty == 0 &&
           request.logit_bias.empty() && !request.json_tokens;
}

RunningText::RunningText(const OpenModel & model, Prefixes & prefixes, std::shared_ptr<Text> text)
    : model_(model), prefixes_(prefixes), text_(std::move(text)), request_(text_->request()),
      is_greedy_(is_greedy(request_, model.info)) {
    for (const std::string & stop : request_.stops) stops_.push_back(stop.c_str());
    stop_ids_ = request_.stop_ids;
    stop_ids_.insert(stop_ids_.end(), model.info.stop_ids, model.info.stop_ids + model.info.stop_count);
    if (request_.json_tokens) json_.emplace(request_.json_tokens, request_.thinks, stop_ids_);

    const gnv_generate_options given = options();
    gnv_shown_text_t * shown = nullptr;
    check(model.engine, gnv_shown_text_create(model.model, &given, &shown));
    shown_.reset(shown);

    session_ = prefixes_.find(request_.ids, fed_);
    text_->reuse(fed_);
    if (!session_) {
        gnv_session_t * session = nullptr;
        check(model.engine, gnv_session_open(model.model, &session));
        session_.reset(session);
    }
    if (model.draft != 0) check(model.engine, gnv_session_draft(session_.get(), model.draft));
    keeps_at_ = prefixes_.stops(request_.ids, fed_);
    std::reverse(keeps_at_.begin(), keeps_at_.end());
    feed_prompt();
}

gnv_generate_options RunningText::options() {
    static const int32_t none = 0; // NULL would be the model's own
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.max_tokens = request_.max_tokens;
    options.temperature = request_.temperature;
    options.top_k = request_.top_k;
    options.top_p = request_.top_p;
    options.min_p = request_.min_p;
    options.repetition_penalty = request_.repetition_penalty;
    options.presence_penalty = request_.presence_penalty;
    options.frequency_penalty = request_.frequency_penalty;
    options.seed = request_.seed;
    options.logit_bias = request_.logit_bias.data();
    options.logit_bias_count = request_.logit_bias.size();
    options.stop_texts = stops_.data();
    options.stop_text_count = stops_.size();
    options.stop_ids = stop_ids_.empty() ? &none : stop_ids_.data();
    options.stop_count = stop_ids_.size();
    if (json_) {
        options.logits_user = &*json_;
        options.on_logits = [](void * user, const gnv_logits * logits) {
            static_cast<JsonAnswer *>(user)->limit(*logits);
            return 0;
        };
    }
    return options;
}

// Texts come before kept beginnings.
void RunningText::feed(const int32_t * ids, size_t count, gnv_want want) {
    gnv_status status = gnv_session_feed(session_.get(), ids, count, want);
    while (status == GNV_OUT_OF_MEMORY && prefixes_.drop()) status = gnv_session_feed(session_.get(), ids, count, want);
    check(model_.engine, status);
}

// The first pick brings options, which may need all logits.
static gnv_want result_of(bool is_greedy, bool is_first) {
    if (is_greedy) return GNV_WANT_LIKELIEST;
    return is_first ? GNV_WANT_LOGITS : GNV_WANT_PICK;
}

// Up to where the prompt is to be kept, or to its end.
void RunningText::feed_prompt() {
    const bool is_part = !keeps_at_.empty();
    const size_t end = is_part ? keeps_at_.back() : request_.ids.size();
    feed(request_.ids.data() + fed_, end - fed_, is_part ? GNV_WANT_NOTHING : result_of(is_greedy_, true));
    fed_ = end;
}

int32_t RunningText::pick() {
    int32_t id = -1;
    if (is_greedy_) {
        check(model_.engine, gnv_session_likeliest(session_.get(), &id, nullptr));
    } else if (tokens_ == 0) { // options begin the draws
        const gnv_generate_options given = options();
        check(model_.engine, gnv_session_pick(session_.get(), &given, &id));
    } else {
        check(model_.engine, gnv_session_pick(session_.get(), nullptr, &id));
    }
    return id;
}

static gnv_session_info info_of(const OpenModel & model, gnv_session_t * session) {
    gnv_session_info info = {};
    info.struct_size = sizeof info;
    check(model.engine, gnv_session_get_info(session, &info));
    return info;
}

bool RunningText::was_stopped() {
    const gnv_session_info info = info_of(model_, session_.get());
    return info.positions == 0 && info.waiting == 0;
}

bool RunningText::go_on() {
    gnv_session_info now = info_of(model_, session_.get());
    if (now.waiting > 0) return true;
    if (!keeps_at_.empty()) {
        prefixes_.keep(session_.get(), request_.ids, keeps_at_.back());
        keeps_at_.pop_back();
        feed_prompt();
        return true;
    }
    for (; now.waiting == 0; now = info_of(model_, session_.get())) { // results of guesses are there at once
        drafted_ = now.drafted, accepted_ = now.accepted;
        if (!take_token(now.positions == model_.info.capacity)) return false;
    }
    return true;
}

bool RunningText::take_token(bool is_full) {
    const int32_t id = pick();
    gnv_shown_token token = {};
    token.struct_size = sizeof token;
    check(model_.engine, gnv_shown_text_push(shown_.get(), id, is_full, &token));
    tokens_ = token.tokens;
    text_->add(std::string(token.text, token.answer_size));
    if (token.is_last) {
        text_->finish(token.stop == GNV_STOP_LENGTH || token.stop == GNV_STOP_CAPACITY);
        return false;
    }
    feed(&id, 1, result_of(is_greedy_, false));
    return true;
}

} // namespace server
