// A text that a client waits for: written by the engine's thread, read by the thread of its client.
#pragma once

#include "json_answer.h"

#include <ggml-nvfp4.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace server {

// Numbers below 0 are the model's own, as in gnv_generate_options.
struct TextRequest {
    std::vector<int32_t> ids; // the prompt
    uint64_t max_tokens = 1;
    float temperature = -1, top_p = -1, min_p = -1, repetition_penalty = -1;
    float presence_penalty = 0, frequency_penalty = 0;
    int32_t top_k = -1;
    uint64_t seed = 0;
    std::vector<gnv_logit_bias> logit_bias;
    std::vector<std::string> stops;
    std::vector<int32_t> stop_ids;                 // beside the model's own
    bool thinks = false;                           // the prompt ends inside of <think>
    std::shared_ptr<const TokenBytes> json_tokens; // not null: the text, behind </think>, is a JSON object
};

// Why a text has no end of its own.
enum class Failure { none, cancelled, refused, waited_too_long, shutting_down, broken };

struct TextUpdate {
    std::string piece; // since the last update
    bool is_finished = false;
    Failure failure = Failure::none;
    std::string message;            // of a failure
    bool reached_the_limit = false; // of tokens, or of the caches
    uint64_t tokens = 0;            // written so far
    uint64_t reused = 0;            // ids of the prompt that another text had run
};

class Text {
  public:
    explicit Text(TextRequest request) : request_(std::move(request)) {}
    const TextRequest & request() const { return request_; }

    // --- For the client's thread.
    // Returns as soon as there is a piece or the end, and after `milliseconds` in any case.
    TextUpdate wait(int milliseconds);
    // The text ends with the running step; for a client that has gone.
    void cancel() { is_cancelled_ = true; }

    // --- For the engine's thread.
    bool is_cancelled() const { return is_cancelled_; }
    bool has_waited(std::chrono::seconds seconds) const { return std::chrono::steady_clock::now() - start_ > seconds; }
    void reuse(uint64_t ids);
    void add(const std::string & piece); // of one token
    void finish(bool reached_the_limit);
    void fail(Failure failure, const std::string & message);

  private:
    const TextRequest request_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::atomic<bool> is_cancelled_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    TextUpdate state_;
};

} // namespace server
