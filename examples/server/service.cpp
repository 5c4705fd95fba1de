#include "service.h"

#include "api_answer.h"
#include "connection.h"

#include <ctime>

namespace server {

using httplib::Request;
using httplib::Response;

static constexpr int poll_milliseconds = 100; // between two looks at whether a client is still there

static void set_error(Response & response, const ApiError & error) {
    response.status = error.status;
    response.set_content(error.text(), "application/json");
    if (error.status == 429) response.set_header("Retry-After", "1");
    if (error.status == 401) response.set_header("WWW-Authenticate", "Bearer");
}

// Runs `body`; what it throws becomes an answer.
template <class Body>
static void guarded(Response & response, const Body & body) {
    try {
        body();
    } catch (const ApiError & error) {
        set_error(response, error);
    } catch (const std::exception & error) {
        set_error(response, ApiError(500, error.what()));
    }
}

Service::Service(const ServiceOptions & options, TextEngine & engine, PromptMaker & prompts)
    : options_(options), limits_{options.name, engine.capacity(), engine.vocabulary()}, engine_(engine),
      prompts_(prompts) {}

// --- What comes in ----------------------------------------------------------------------------------------------------

// Takes the same time for every wrong key of a length.
static bool is_equal(const std::string & a, const std::string & b) {
    unsigned difference = a.size() != b.size();
    for (size_t i = 0; i < std::min(a.size(), b.size()); i++) difference |= unsigned(a[i] ^ b[i]);
    return difference == 0;
}

void Service::check_key(const Request & request) const {
    if (options_.api_key.empty() || is_equal(request.get_header_value("Authorization"), "Bearer " + options_.api_key))
        return;
    throw ApiError(401, "the API key is missing or wrong; send it as \"Authorization: Bearer KEY\"", "",
                   "invalid_api_key");
}

// The whole body, also where it is refused: a connection that is closed with unread bytes loses the answer.
std::string Service::read_body(const Request & request, const Response & response,
                               const httplib::ContentReader & reader) const {
    const std::string type = request.get_header_value("Content-Type");
    const bool is_json = type.empty() || type.compare(0, 16, "application/json") == 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options_.read_seconds);
    std::string body;
    bool is_large = false, is_late = false, has_key = true;
    try {
        check_key(request);
    } catch (const ApiError &) {
        has_key = false;
    }
    const auto receive = [&](const char * data, size_t size) {
        is_large = is_large || size > options_.body_bytes - body.size();
        is_late = std::chrono::steady_clock::now() > end;
        if (!is_large && has_key && is_json) body.append(data, size);
        return !is_late;
    };
    const bool done =
        request.is_multipart_form_data() ? reader([](const auto &) { return true; }, receive) : reader(receive);
    check_key(request);
    if (is_late) throw ApiError(408, "the body did not arrive in time");
    if (is_large || response.status == 413) // which the library sets when the headers announce too much
        throw ApiError(413, "the body has more than the " + std::to_string(options_.body_bytes) + " bytes allowed");
    if (!done) throw ApiError(400, "the body is incomplete, too large, or not encoded as its headers say");
    if (!is_json) throw ApiError(415, "the body must be application/json, not " + type);
    return body;
}

// --- What goes out ----------------------------------------------------------------------------------------------------

static ApiError error_of(const TextUpdate & update) {
    switch (update.failure) {
    case Failure::refused: return ApiError(400, update.message);
    case Failure::waited_too_long:
    case Failure::shutting_down: return ApiError(503, update.message);
    case Failure::cancelled: return ApiError(499, update.message); // nginx's number; there is no reader
    case Failure::none:
    case Failure::broken: break;
    }
    return ApiError(500, update.message);
}

// The next piece, or the end. Waits as long as the client does; one that has gone ends the text.
static TextUpdate wait_for(Text & text, const Connection & client) {
    for (;;) {
        TextUpdate update = text.wait(poll_milliseconds);
        if (!client.is_gone()) {
            if (update.is_finished || !update.piece.empty()) return update;
            continue;
        }
        text.cancel();
        update.is_finished = true;
        update.failure = Failure::cancelled;
        update.message = "the client has gone";
        return update;
    }
}

namespace {

// A stream: the library asks for the next events until there are none. Cancels the text when the client does not take them.
class Stream {
  public:
    Stream(std::shared_ptr<Text> text, ApiAnswer answer, Connection client, TextUpdate first,
           std::shared_ptr<int> counted)
        : text_(std::move(text)), answer_(std::move(answer)), client_(client), update_(std::move(first)),
          counted_(std::move(counted)) {}
    ~Stream() { text_->cancel(); }

    bool write_next(httplib::DataSink & sink) {
        const bool failed = update_.failure != Failure::none;
        const std::string events = failed ? error_event(error_of(update_)) : answer_.events(update_);
        if (!events.empty() && !sink.write(events.data(), events.size())) return false;
        if (update_.is_finished) {
            sink.done();
        } else {
            update_ = wait_for(*text_, client_);
        }
        return true;
    }

  private:
    const std::shared_ptr<Text> text_;
    ApiAnswer answer_;
    const Connection client_;
    TextUpdate update_;
    const std::shared_ptr<int> counted_;
};

} // namespace

void Service::answer(const Request & request, Response & response, const httplib::ContentReader & reader, Parse parse) {
    const ApiRequest parsed = parse(read_body(request, response, reader), limits_, prompts_);
    const Connection client(request);
    const std::shared_ptr<int> counted = answers_;
    const std::shared_ptr<Text> text = engine_.start(parsed.text);
    if (!text) throw ApiError(429, "too many requests are waiting; try again later", "", "rate_limit_exceeded");
    ApiAnswer answer(parsed, options_.name);
    TextUpdate update = wait_for(*text, client); // the status of the answer is known behind the first token
    if (parsed.streams && update.failure == Failure::none) {
        const auto stream = std::make_shared<Stream>(text, std::move(answer), client, std::move(update), counted);
        response.set_header("Cache-Control", "no-cache");
        response.set_chunked_content_provider(
            "text/event-stream", [stream](size_t, httplib::DataSink & sink) { return stream->write_next(sink); });
        return;
    }
    while (!update.is_finished) {
        answer.keep(update);
        update = wait_for(*text, client);
    }
    if (update.failure != Failure::none) throw error_of(update);
    answer.keep(update);
    response.set_content(answer.whole(), "application/json");
}

void Service::wait_for_answers(int seconds) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (answers_.use_count() > 1 && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

void Service::list_models(const Request & request, Response & response) const {
    check_key(request);
    const Json model = {{"id", options_.name},
                        {"object", "model"},
                        {"created", 0},
                        {"owned_by", "ggml-nvfp4"},
                        {"max_model_len", limits_.capacity}};
    response.set_content(Json({{"object", "list"}, {"data", Json::array({model})}}).dump(), "application/json");
}

// --- Routes -----------------------------------------------------------------------------------------------------------

void Service::attach(httplib::Server & http) {
    const auto route = [this](Parse parse) {
        return [this, parse](const Request & request, Response & response, const httplib::ContentReader & reader) {
            guarded(response, [&] { answer(request, response, reader, parse); });
        };
    };
    http.Post("/v1/chat/completions", route(parse_chat));
    http.Post("/v1/completions", route(parse_completion));
    http.Get("/v1/models", [this](const Request & request, Response & response) {
        guarded(response, [&] { list_models(request, response); });
    });
    http.Get("/health", [this](const Request &, Response & response) {
        const EngineLoad load = engine_.load();
        Json health = {{"status", "ok"}, {"running", load.running}, {"waiting", load.waiting}, {"tokens", load.tokens}};
        if (engine_.drafts()) health["draft"] = {{"drafted", load.drafted}, {"accepted", load.accepted}};
        response.set_content(health.dump(), "application/json");
    });
    // What the library itself refuses: unknown paths and methods, headers that are too long or none.
    http.set_error_handler([](const Request & request, Response & response) {
        if (!response.body.empty()) return;
        const std::string what = response.status == 404 ? request.method + " " + request.path + " does not exist here"
                                                        : "the request cannot be read as HTTP";
        set_error(response, ApiError(response.status, what));
    });
    http.set_exception_handler([](const auto &, Response & response, auto &&) {
        set_error(response, ApiError(500, "the server failed to answer"));
    });
    if (!options_.quiet)
        http.set_logger([](const Request & request, const Response & response) {
            fprintf(stderr, "%s \"%s %s\" %d\n", request.remote_addr.c_str(), request.method.c_str(),
                    request.path.c_str(), response.status);
        });
    http.set_payload_max_length(options_.body_bytes);
    // A request a connection: no thread waits for a client that has got its answer, and nothing that one sent is taken for
    // another's request.
    http.set_keep_alive_max_count(1);
    http.set_read_timeout(std::min(options_.read_seconds, 5));
    http.set_write_timeout(5);
    http.new_task_queue = [count = options_.connections] { return new httplib::ThreadPool(count); };
}

} // namespace server
