// Texts that a model writes, one after another, behind a queue. This is the seam of the server: the other files know Text and
// TextEngine alone, and only text_engine.cpp knows that the library holds one text at a time.
#pragma once

#include "json_answer.h"

#include <ggml-nvfp4.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace server {

// Numbers below 0 are the model's own, as in gnv_generate_options.
struct TextRequest {
    std::vector<int32_t> ids;
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
};

// One text: written by the engine's thread, read by the thread of its client.
class Text {
  public:
    explicit Text(TextRequest request) : request_(std::move(request)) {}
    // Returns as soon as there is a piece or the end, and after `milliseconds` in any case.
    TextUpdate wait(int milliseconds);
    // The text ends within a second; for a client that has gone.
    void cancel();

  private:
    friend class TextEngine;
    bool is_cancelled();
    void add(const std::string & piece);
    uint64_t tokens();
    void finish(Failure failure, const std::string & message, bool reached_the_limit);

    const TextRequest request_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::mutex mutex_;
    std::condition_variable changed_;
    TextUpdate state_;
    bool cancelled_ = false;
};

struct EngineOptions {
    std::string model, device = "auto";
    int32_t threads = 0;
    uint64_t capacity = 0, ram_bytes = 0; // 0: the library's choice
    size_t queue = 16;                    // texts that may wait
    int queue_seconds = 60;               // that one may
};

struct EngineLoad {
    size_t running = 0, waiting = 0; // texts
    uint64_t tokens = 0;             // written since the start
};

class TextEngine {
  public:
    // Throws std::runtime_error with the library's message.
    explicit TextEngine(const EngineOptions & options);
    ~TextEngine();
    // Ends all texts, and starts no more.
    void stop();
    // Null: as many texts as allowed wait already.
    std::shared_ptr<Text> start(TextRequest request);

    EngineLoad load();
    uint64_t capacity() const { return info_.capacity; } // positions of a text
    uint64_t vocabulary() const { return info_.vocabulary; }
    const char * description() const { return info_.description; }

  private:
    void work();
    void run(Text & text);
    void finish_stopped(Text & text);

    const EngineOptions options_;
    std::unique_ptr<gnv_engine_t, void (*)(gnv_engine_t *)> engine_{nullptr, gnv_engine_destroy};
    std::unique_ptr<gnv_model_t, void (*)(gnv_model_t *)> model_{nullptr, gnv_model_close};
    gnv_model_info info_ = {};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Text>> waiting_;
    std::shared_ptr<Text> current_;
    bool ends_ = false;
    std::atomic<uint64_t> tokens_{0};
    std::thread thread_; // last: it uses the members above
};

} // namespace server
