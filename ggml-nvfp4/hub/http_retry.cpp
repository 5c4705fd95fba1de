// When and how an exchange is repeated, and the messages of those that failed.
#include "hub/http.h"

#include "formats/json.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>

namespace gnv {

namespace {

constexpr uint64_t longest_wanted_ms = 300'000; // by Retry-After
constexpr uint64_t slice_ms = 50;               // between two looks at the request to stop

// Retry-After in milliseconds; 0: none, or a date, which servers of the hub do not send.
uint64_t wanted_wait(const HttpResponse * response) {
    if (!response) return 0;
    const std::string text = response->header("retry-after");
    uint64_t seconds = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (text.empty() || parsed.ec != std::errc()) return 0;
    return seconds > longest_wanted_ms / 1000 ? longest_wanted_ms + 1 : seconds * 1000;
}

// "error" of the JSON that the hub sends with failures; "" for other bodies.
std::string server_text(const HttpResponse & response) {
    if (const std::string header = response.header("x-error-message"); !header.empty()) return printable(header, 300);
    const Result<JsonDocument> document = JsonDocument::parse(response.body, "", JsonKeys::last_wins);
    JsonValue error;
    if (!document.ok() || !document.value().root().is_object() || !document.value().root().find("error", error) ||
        !error.is_string())
        return "";
    return printable(error.as_string().value(), 300);
}

// A server that was given the token might send it back.
std::string without_token(std::string text, const std::string & token) {
    for (size_t at; token.size() >= 8 && (at = text.find(token)) != text.npos;) text.replace(at, token.size(), "...");
    return text;
}

} // namespace

Status Retry::wait(Status failure, const HttpResponse * response) {
    const uint64_t wanted = wanted_wait(response);
    if (++failed_ >= rule_.tries) return std::move(failure.add_context(concat("after ", failed_, " tries")));
    if (wanted > longest_wanted_ms)
        return std::move(failure.add_context("the server asks to come back later than in five minutes"));
    const uint64_t step =
        std::min<uint64_t>(rule_.longest_wait_ms, uint64_t(rule_.first_wait_ms) << std::min(failed_ - 1, 16));
    for (uint64_t left = std::max(step, wanted); left > 0;) {
        if (stop_ && stop_()) return fail(Code::cancelled, "stopped on request");
        const uint64_t slice = std::min(left, slice_ms);
        std::this_thread::sleep_for(std::chrono::milliseconds(slice));
        left -= slice;
    }
    return {};
}

bool is_retried_status(const HttpResponse & response) {
    const long status = response.status;
    const bool is_expired = status == 403 && response.is_elsewhere; // a signed address has a short life
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504 ||
           is_expired;
}

Status response_failure(const HttpResponse & response, const std::string & subject, const HttpOptions & options) {
    const std::string said = without_token(server_text(response), options.token);
    const std::string answer = concat(" (HTTP ", response.status, said.empty() ? "" : ": ", said, ")");
    const std::string page = options.endpoint + "/" + subject;
    if (response.header("x-error-code") == "GatedRepo")
        return fail(Code::not_found, subject, ": its authors grant access by request: accept their terms at ", page,
                    ", and set HF_TOKEN to a token of that account", answer);
    if (response.status == 404 || (response.status == 401 && options.token.empty()))
        return fail(Code::not_found, subject,
                    ": the hub has no such repository, revision or file, or it is private: ", "look at ", page,
                    options.token.empty() ? ", or set HF_TOKEN" : "", answer);
    if (response.status == 401 || response.status == 403)
        return fail(Code::invalid_argument, subject, ": the hub refuses the token: it is no longer valid, or lacks ",
                    "the right; make one at ", options.endpoint, "/settings/tokens", answer);
    if (response.status == 429)
        return fail(Code::io, subject, ": the hub limits requests: wait a while",
                    options.token.empty() ? ", or set HF_TOKEN, which has higher limits" : "", answer);
    return fail(Code::io, subject, ": ", response.place, " gives no answer of use", answer);
}

Result<HttpResponse> exchange(HttpClient & client, const HttpRequest & request, const RetryRule & rule,
                              const std::string & subject) {
    Retry retry(rule, client.options().stop);
    while (true) {
        HttpOutcome outcome = client.send(request);
        if (!outcome.failure.ok()) {
            if (!outcome.may_succeed_later) return std::move(outcome.failure.add_context(subject));
            GNV_TRY(retry.wait(std::move(outcome.failure.add_context(subject))));
        } else if (outcome.response.is_success()) {
            return std::move(outcome.response);
        } else {
            Status failure = response_failure(outcome.response, subject, client.options());
            if (!is_retried_status(outcome.response)) return failure;
            GNV_TRY(retry.wait(std::move(failure), &outcome.response));
        }
    }
}

} // namespace gnv
