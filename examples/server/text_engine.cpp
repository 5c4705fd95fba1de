#include "text_engine.h"

#include <stdexcept>

namespace server {

// --- A text -----------------------------------------------------------------------------------------------------------

TextUpdate Text::wait(int milliseconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                      [&] { return state_.is_finished || !state_.piece.empty(); });
    TextUpdate update = state_;
    state_.piece.clear();
    return update;
}

void Text::cancel() {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
}

bool Text::is_cancelled() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return cancelled_;
}

void Text::add(const std::string & piece) {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_.piece += piece;
    state_.tokens++;
    changed_.notify_all();
}

uint64_t Text::tokens() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return state_.tokens;
}

void Text::finish(Failure failure, const std::string & message, bool reached_the_limit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_.failure = failure;
    state_.message = message;
    state_.reached_the_limit = reached_the_limit;
    state_.is_finished = true;
    changed_.notify_all();
}

// --- The engine -------------------------------------------------------------------------------------------------------

static void check(const gnv_engine_t * engine, gnv_status status) {
    if (status != GNV_OK) throw std::runtime_error(gnv_last_error(engine));
}

TextEngine::TextEngine(const EngineOptions & options) : options_(options) {
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    engine_options.threads = options.threads;
    gnv_engine_t * engine = nullptr;
    if (const gnv_status status = gnv_engine_create(&engine_options, &engine))
        throw std::runtime_error(std::string("cannot start the engine's threads: ") + gnv_status_string(status));
    engine_.reset(engine);
    gnv_model_options model_options;
    gnv_model_options_init(&model_options);
    check(engine,
          gnv_device_find(engine, options.device.c_str(), nullptr, &model_options.device, &model_options.precision));
    model_options.capacity = options.capacity;
    model_options.ram_bytes = options.ram_bytes;
    gnv_model_t * model = nullptr;
    check(engine, gnv_model_open(engine, options.model.c_str(), &model_options, &model));
    model_.reset(model);
    info_.struct_size = sizeof info_;
    check(engine, gnv_model_get_info(model, &info_));
    thread_ = std::thread([this] { work(); });
}

TextEngine::~TextEngine() {
    stop();
    thread_.join();
}

void TextEngine::stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ends_ = true;
    if (current_) current_->cancel();
    changed_.notify_all();
}

EngineLoad TextEngine::load() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {current_ ? size_t(1) : 0, waiting_.size(), tokens_ + (current_ ? current_->tokens() : 0)};
}

std::shared_ptr<Text> TextEngine::start(TextRequest request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ends_) return nullptr;
    // A text whose client has gone gives its place to another.
    for (auto text = waiting_.begin(); text != waiting_.end();)
        text = (*text)->is_cancelled() ? waiting_.erase(text) : text + 1;
    if (waiting_.size() >= options_.queue + (current_ ? 0 : 1)) return nullptr;
    waiting_.push_back(std::make_shared<Text>(std::move(request)));
    changed_.notify_all();
    return waiting_.back();
}

void TextEngine::work() {
    for (;;) {
        std::unique_lock<std::mutex> lock(mutex_);
        if (current_) tokens_ += current_->tokens();
        current_.reset();
        changed_.wait(lock, [&] { return ends_ || !waiting_.empty(); });
        if (ends_) break;
        current_ = waiting_.front();
        waiting_.pop_front();
        lock.unlock();
        const auto waited = std::chrono::steady_clock::now() - current_->start_;
        if (current_->is_cancelled()) {
            finish_stopped(*current_);
        } else if (waited > std::chrono::seconds(options_.queue_seconds)) {
            current_->finish(Failure::waited_too_long,
                             "the request waited for " + std::to_string(options_.queue_seconds) +
                                 " s behind others; try again later",
                             false);
        } else {
            run(*current_);
        }
    }
    for (const std::shared_ptr<Text> & text : waiting_)
        text->finish(Failure::shutting_down, "the server is shutting down", false);
}

// After cancel(), by the client's thread or at the end.
void TextEngine::finish_stopped(Text & text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ends_) {
        text.finish(Failure::shutting_down, "the server is shutting down", false);
    } else {
        text.finish(Failure::cancelled, "the client has gone", false);
    }
}

void TextEngine::run(Text & text) {
    const TextRequest & request = text.request_;
    std::vector<const char *> stops;
    for (const std::string & stop : request.stops) stops.push_back(stop.c_str());
    std::vector<int32_t> stop_ids = request.stop_ids;
    stop_ids.insert(stop_ids.end(), info_.stop_ids, info_.stop_ids + info_.stop_count);
    static const int32_t none = 0; // NULL would be the model's own

    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.max_tokens = request.max_tokens;
    options.temperature = request.temperature;
    options.top_k = request.top_k;
    options.top_p = request.top_p;
    options.min_p = request.min_p;
    options.repetition_penalty = request.repetition_penalty;
    options.presence_penalty = request.presence_penalty;
    options.frequency_penalty = request.frequency_penalty;
    options.seed = request.seed;
    options.logit_bias = request.logit_bias.data();
    options.logit_bias_count = request.logit_bias.size();
    options.stop_texts = stops.data();
    options.stop_text_count = stops.size();
    options.stop_ids = stop_ids.empty() ? &none : stop_ids.data();
    options.stop_count = stop_ids.size();
    options.user = options.progress_user = &text;
    options.callback = [](void * user, const gnv_token * token) {
        auto & written = *static_cast<Text *>(user);
        written.add(std::string(token->text, token->answer_size));
        return int(written.is_cancelled());
    };
    JsonAnswer json(request.json_tokens, request.thinks, stop_ids);
    if (request.json_tokens) {
        options.logits_user = &json;
        options.on_logits = [](void * user, const gnv_logits * logits) {
            static_cast<JsonAnswer *>(user)->limit(*logits);
            return 0;
        };
    }
    options.progress = [](void * user, const gnv_progress *) { return int(static_cast<Text *>(user)->is_cancelled()); };
    gnv_generate_result result = {};
    result.struct_size = sizeof result;
    gnv_status status = gnv_model_reset(model_.get());
    if (status == GNV_OK)
        status = gnv_model_generate(model_.get(), request.ids.data(), request.ids.size(), &options, &result);
    if (status == GNV_OK && result.stop != GNV_STOP_CALLBACK) {
        text.finish(Failure::none, "", result.stop == GNV_STOP_LENGTH || result.stop == GNV_STOP_CAPACITY);
    } else if (status == GNV_OK || status == GNV_CANCELLED) {
        finish_stopped(text);
    } else {
        const bool is_request = status < GNV_FORMAT; // see gnv_status
        text.finish(is_request ? Failure::refused : Failure::broken, gnv_last_error(engine_.get()), false);
    }
}

} // namespace server
