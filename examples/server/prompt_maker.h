// Conversations and texts to token ids, by the model's own template and tokenizer. For any thread.
#pragma once

#include "json_answer.h"

#include <ggml-nvfp4.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace server {

// The library refuses the text of a request.
struct PromptError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class PromptMaker {
  public:
    // Throws std::runtime_error with the library's message.
    explicit PromptMaker(const std::string & model);
    // The text of a conversation, a JSON object of the template's variables.
    std::string render(const std::string & conversation);
    std::vector<int32_t> encode(const std::string & text);
    // Of `vocabulary` ids; made by the first call.
    std::shared_ptr<const TokenBytes> token_bytes(uint64_t vocabulary);

  private:
    void warn(const std::string & message);

    std::set<std::string> warnings_; // that stderr has
    std::shared_ptr<const TokenBytes> token_bytes_;
    std::mutex mutex_; // a message belongs to the last call that failed
    // An engine of its own: messages of the engine that writes texts do not mix with these.
    std::unique_ptr<gnv_engine_t, void (*)(gnv_engine_t *)> engine_{nullptr, gnv_engine_destroy};
    std::unique_ptr<gnv_tokenizer_t, void (*)(gnv_tokenizer_t *)> tokenizer_{nullptr, gnv_tokenizer_destroy};
};

} // namespace server
