// Many texts at a time with one model, behind a queue. One thread lets all of them go on together, a step at a time; texts join
// and leave between steps (gnv_model_step). The other files know Text and TextEngine alone.
#pragma once

#include "running_text.h"

#include <deque>
#include <list>
#include <thread>

namespace server {

struct EngineOptions {
    std::string model, device = "auto";
    int32_t threads = 0;
    uint64_t capacity = 4096, ram_bytes = 0; // positions of a text; 0 bytes: the library's choice
    size_t texts = 4;                        // that run at once
    uint64_t positions = 0;                  // of all texts; 0: as many as they may have
    size_t prefixes = 8;                     // beginnings of prompts that are kept
    size_t queue = 16;                       // texts that may wait
    int queue_seconds = 60;                  // that one may
    int32_t draft = 0;                       // tokens that the draft head guesses at a time; GNV_DRAFT_AUTO
};

struct EngineLoad {
    size_t running = 0, waiting = 0; // texts
    uint64_t tokens = 0;             // written since the start
    uint64_t drafted = 0, accepted = 0;
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
    uint64_t capacity() const { return model_.info.capacity; } // positions of a text
    bool drafts() const { return options_.draft != 0; }
    uint64_t vocabulary() const { return model_.info.vocabulary; }
    const char * description() const { return model_.info.description; }

  private:
    void open_model();
    void work();
    bool admit();
    bool has_room(const Text & text) const;
    uint64_t positions_of(const Text & text) const;
    void step();
    bool wants_to_stop();
    void end_step(gnv_status status);
    // Ends the texts of which `body` says false or throws.
    template <class Body>
    void for_running(const Body & body);
    void leave(std::list<RunningText>::iterator text);

    const EngineOptions options_;
    Owner<gnv_engine_t> engine_;
    Owner<gnv_model_t> owner_;
    OpenModel model_;
    // Of the engine's thread.
    std::unique_ptr<Prefixes> prefixes_;
    std::list<RunningText> running_;
    uint64_t positions_ = 0; // that the running texts may come to have

    std::mutex mutex_; // for the members below
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Text>> waiting_;
    size_t running_count_ = 0;
    std::atomic<bool> ends_{false}; // changed under the mutex
    std::atomic<uint64_t> tokens_{0}, drafted_{0}, accepted_{0};
    std::thread thread_; // last: it uses the members above
};

} // namespace server
