#include "text_engine.h"

#include <algorithm>

namespace server {

static const std::string shutting_down = "the server is shutting down";

// --- Opening ------------------------------------------------------------------------------------------------------------

static uint64_t in_pages(uint64_t positions, uint64_t page) { return (positions + page - 1) / page * page; }

void TextEngine::open_model() {
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    engine_options.threads = options_.threads;
    gnv_engine_t * engine = nullptr;
    if (const gnv_status status = gnv_engine_create(&engine_options, &engine))
        throw std::runtime_error(std::string("cannot start the engine's threads: ") + gnv_status_string(status));
    engine_.reset(engine);
    gnv_model_options options;
    gnv_model_options_init(&options);
    check(engine, gnv_device_find(engine, options_.device.c_str(), nullptr, &options.device, &options.precision));
    options.capacity = options_.capacity;
    options.ram_bytes = options_.ram_bytes;
    options.sessions = options_.texts + options_.prefixes;
    options.drafts = options_.draft != 0;
    options.draft_sessions = options_.draft != 0 ? options_.texts : 0;
    // Beginnings take what texts leave.
    constexpr uint64_t largest_page = 1024;
    options.session_positions =
        options_.positions > 0 ? options_.positions : options_.texts * in_pages(options_.capacity, largest_page);
    gnv_model_t * model = nullptr;
    check(engine, gnv_model_open(engine, options_.model.c_str(), &options, &model));
    owner_.reset(model);
    model_.engine = engine;
    model_.model = model;
    model_.draft = options_.draft;
    model_.info.struct_size = sizeof model_.info;
    check(engine, gnv_model_get_info(model, &model_.info));
    model_.sessions.struct_size = sizeof model_.sessions;
    check(engine, gnv_model_get_sessions(model, &model_.sessions));
    if (model_.sessions.positions < in_pages(model_.info.capacity, model_.sessions.page))
        throw std::runtime_error("all texts together have " + std::to_string(model_.sessions.positions) +
                                 " positions, one may have " + std::to_string(model_.info.capacity) +
                                 ": choose more --positions, or a smaller --capacity");
}

TextEngine::TextEngine(const EngineOptions & options) : options_(options) {
    open_model();
    prefixes_ = std::make_unique<Prefixes>(engine_.get(), options.prefixes);
    thread_ = std::thread([this] { work(); });
}

TextEngine::~TextEngine() {
    stop();
    thread_.join();
}

// --- The queue ----------------------------------------------------------------------------------------------------------

void TextEngine::stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ends_ = true;
    changed_.notify_all();
}

EngineLoad TextEngine::load() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {running_count_, waiting_.size(), tokens_, drafted_, accepted_};
}

std::shared_ptr<Text> TextEngine::start(TextRequest request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ends_) return nullptr;
    // A text whose client has gone gives its place to another.
    const auto is_cancelled = [](const auto & text) { return text->is_cancelled(); };
    waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(), is_cancelled), waiting_.end());
    if (waiting_.size() >= options_.queue + (options_.texts - running_count_)) return nullptr;
    waiting_.push_back(std::make_shared<Text>(std::move(request)));
    changed_.notify_all();
    return waiting_.back();
}

uint64_t TextEngine::positions_of(const Text & text) const {
    constexpr uint64_t automatic_drafts = 2;
    const uint64_t drafts = options_.draft < 0 ? automatic_drafts : uint64_t(options_.draft); // behind the last token
    const uint64_t most = text.request().ids.size() + text.request().max_tokens + drafts;
    return in_pages(std::min(most, model_.info.capacity), model_.sessions.page);
}

// A text has room for its longest answer before it begins, so none is given up on its way.
bool TextEngine::has_room(const Text & text) const {
    return running_.size() < options_.texts && positions_ + positions_of(text) <= model_.sessions.positions;
}

static void fail(Text & text, const std::exception & error) {
    const auto * const failed = dynamic_cast<const CallFailed *>(&error);
    const bool is_request = failed && failed->status < GNV_FORMAT; // see gnv_status
    text.fail(is_request ? Failure::refused : Failure::broken, error.what());
}

// Begins texts that wait, in their order, as far as there is room. Returns once a text runs; false: the engine ends.
bool TextEngine::admit() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return ends_ || !running_.empty() || !waiting_.empty(); });
    while (!ends_ && !waiting_.empty()) {
        const std::shared_ptr<Text> text = waiting_.front();
        const bool is_late = text->has_waited(std::chrono::seconds(options_.queue_seconds));
        if (!text->is_cancelled() && !is_late && !has_room(*text)) break;
        waiting_.pop_front();
        if (text->is_cancelled()) {
            text->fail(Failure::cancelled, "the client has gone");
        } else if (is_late) {
            text->fail(Failure::waited_too_long, "the request waited for " + std::to_string(options_.queue_seconds) +
                                                     " s behind others; try again later");
        } else {
            running_count_++;
            lock.unlock();
            positions_ += positions_of(*text);
            try {
                running_.emplace_back(model_, *prefixes_, text);
            } catch (const std::exception & error) {
                positions_ -= positions_of(*text);
                fail(*text, error);
                lock.lock();
                running_count_--;
                continue;
            }
            lock.lock();
        }
    }
    return !ends_;
}

// --- Steps --------------------------------------------------------------------------------------------------------------

void TextEngine::leave(std::list<RunningText>::iterator text) {
    positions_ -= positions_of(text->text());
    running_.erase(text); // its session is closed, and its memory free
    const std::lock_guard<std::mutex> lock(mutex_);
    running_count_--;
}

template <class Body>
void TextEngine::for_running(const Body & body) {
    for (auto text = running_.begin(); text != running_.end();) {
        const auto now = text++;
        bool goes_on = false;
        try {
            goes_on = body(*now);
        } catch (const std::exception & error) {
            fail(now->text(), error);
        }
        if (!goes_on) leave(now);
    }
}

// A step has no end for one text alone: it stops when no text needs it any more.
bool TextEngine::wants_to_stop() {
    const auto is_cancelled = [](const RunningText & text) { return text.text().is_cancelled(); };
    return ends_ || std::all_of(running_.begin(), running_.end(), is_cancelled);
}

void TextEngine::step() {
    gnv_step_options options;
    gnv_step_options_init(&options);
    options.user = this;
    options.progress = [](void * user, const gnv_progress *) {
        return int(static_cast<TextEngine *>(user)->wants_to_stop());
    };
    const gnv_status status = gnv_model_step(model_.model, nullptr, 0, &options, nullptr);
    if (status == GNV_CANCELLED || status == GNV_OK) return;
    // The texts of the pass that failed have lost their states; if that cannot be told, all end.
    const std::string message = gnv_last_error(engine_.get());
    bool is_known = false;
    for_running([&](RunningText & text) {
        if (!text.was_stopped()) return true;
        is_known = true;
        text.text().fail(Failure::broken, message);
        return false;
    });
    if (is_known) return;
    for_running([&](RunningText & text) {
        text.text().fail(Failure::broken, message);
        return false;
    });
}

void TextEngine::work() {
    while (admit()) {
        for_running([](RunningText & text) {
            if (!text.text().is_cancelled()) return true;
            text.text().fail(Failure::cancelled, "the client has gone");
            return false;
        });
        if (running_.empty()) continue;
        step();
        if (ends_) break;
        for_running([&](RunningText & text) {
            if (text.text().is_cancelled()) return true; // and may have lost its state
            const uint64_t tokens = text.tokens(), drafted = text.drafted(), accepted = text.accepted();
            const bool goes_on = text.go_on();
            tokens_ += text.tokens() - tokens;
            drafted_ += text.drafted() - drafted;
            accepted_ += text.accepted() - accepted;
            return goes_on;
        });
    }
    for_running([](RunningText & text) {
        text.text().fail(Failure::shutting_down, shutting_down);
        return false;
    });
    prefixes_->clear();
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::shared_ptr<Text> & text : waiting_) text->fail(Failure::shutting_down, shutting_down);
    waiting_.clear();
}

} // namespace server
