#include "prompt_maker.h"

#include <cstdio>
#include <ctime>

namespace server {

PromptMaker::PromptMaker(const std::string & model) {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    options.threads = 1;
    options.log = [](void * user, gnv_log_level level, const char * message) {
        if (level == GNV_LOG_WARNING) static_cast<PromptMaker *>(user)->warn(message);
    };
    options.user = this;
    gnv_engine_t * engine = nullptr;
    if (const gnv_status status = gnv_engine_create(&options, &engine))
        throw std::runtime_error(std::string("cannot start a thread: ") + gnv_status_string(status));
    engine_.reset(engine);
    gnv_tokenizer_t * tokenizer = nullptr;
    if (gnv_tokenizer_load(engine, model.c_str(), &tokenizer) != GNV_OK)
        throw std::runtime_error(gnv_last_error(engine));
    tokenizer_.reset(tokenizer);
}

// Once: clients send the same tools again and again. render() holds the mutex.
void PromptMaker::warn(const std::string & message) {
    constexpr size_t most = 100;
    if (warnings_.size() < most && warnings_.insert(message).second) fprintf(stderr, "warning: %s\n", message.c_str());
}

// What templates show as the date: seconds since 1970 on the clock that people here look at.
static int64_t local_time() {
    const time_t now = time(nullptr);
    tm local = {};
    localtime_r(&now, &local);
    return int64_t(timegm(&local));
}

std::string PromptMaker::render(const std::string & conversation) {
    const std::lock_guard<std::mutex> lock(mutex_);
    gnv_text_t * text = nullptr;
    if (gnv_tokenizer_render_chat(tokenizer_.get(), conversation.data(), conversation.size(), nullptr, local_time(),
                                  &text) != GNV_OK)
        throw PromptError(gnv_last_error(engine_.get()));
    const std::unique_ptr<gnv_text_t, void (*)(gnv_text_t *)> owner(text, gnv_text_destroy);
    return std::string(gnv_text_data(text), gnv_text_size(text));
}

std::shared_ptr<const TokenBytes> PromptMaker::token_bytes(uint64_t vocabulary) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (token_bytes_) return token_bytes_;
    TokenBytes tokens(vocabulary);
    for (size_t id = 0; id < tokens.size(); id++) {
        const auto one = int32_t(id);
        gnv_text_t * text = nullptr;
        if (gnv_tokenizer_decode(tokenizer_.get(), &one, 1, GNV_TOKENIZER_BYTES | GNV_TOKENIZER_SKIP_SPECIAL, &text) !=
            GNV_OK)
            continue; // a row of the embedding that is no token
        tokens[id].assign(gnv_text_data(text), gnv_text_size(text));
        gnv_text_destroy(text);
    }
    token_bytes_ = std::make_shared<const TokenBytes>(std::move(tokens));
    return token_bytes_;
}

std::vector<int32_t> PromptMaker::encode(const std::string & text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<int32_t> ids(text.size() + 16); // a token has a byte or more
    size_t count = 0;
    for (int i = 0; i < 2; i++) {
        if (gnv_tokenizer_encode(tokenizer_.get(), text.data(), text.size(), 0, ids.data(), ids.size(), &count) !=
            GNV_OK)
            throw PromptError(gnv_last_error(engine_.get()));
        const bool fits = count <= ids.size();
        ids.resize(count);
        if (fits) break;
    }
    return ids;
}

} // namespace server
