// One HTTP exchange after another over libcurl, for one thread. Redirects are followed here, not by libcurl: the token goes
// to the host of the endpoint alone, and a redirect never leaves TLS.
#pragma once

#include "core/status.h"
#include "core/stop_check.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gnv {

struct HttpOptions {
    std::string endpoint = "https://huggingface.co"; // without a "/" at the end
    std::string token;                               // empty: none. It stands in no message
    std::string ca_file;                             // empty: the system's certificates
    std::string proxy, no_proxy;                     // as curl's environment has them; empty: none
    std::string user_agent;
    uint32_t stall_seconds = 60; // without a byte: the connection counts as cut
    StopCheck stop;              // may be empty
};

struct HttpResponse {
    long status = 0;
    std::map<std::string, std::string> headers; // names in lower case
    std::string body;                           // unless it went to HttpRequest::take; of failures the first bytes
    std::string place;                          // "huggingface.co/org/name/...": for messages; without the query
    bool is_elsewhere = false;                  // a redirect led to another host

    std::string header(const std::string & name) const;
    bool is_success() const { return status >= 200 && status < 300; }
};

struct HttpRequest {
    std::string method = "GET"; // POST and PUT have a body
    std::string url;
    std::vector<std::string> headers; // "Range: bytes=5-"
    std::string body;                 // or, for large ones, body_size and read
    uint64_t body_size = 0;
    std::function<Status(char * data, size_t size, uint64_t offset)> read;

    uint64_t limit = 0; // of a successful response, in bytes; more is a failure
    // Called before the first byte of a successful response; a failure ends the exchange.
    std::function<Status(const HttpResponse &)> begin;
    std::function<Status(const char * data, size_t size)> take; // empty: HttpResponse::body
};

// What became of an exchange. A status of HTTP that is no success is a response, not a failure.
struct HttpOutcome {
    Status failure;
    bool may_succeed_later = false; // a cut connection, a name that was not resolved: not a wrong certificate
    HttpResponse response;
};

class HttpClient {
  public:
    static Result<HttpClient> create(const HttpOptions & options);
    HttpClient(HttpClient &&) noexcept;
    HttpClient & operator=(HttpClient &&) noexcept;
    ~HttpClient();

    HttpOutcome send(const HttpRequest & request);
    const HttpOptions & options() const;

  private:
    struct State;
    explicit HttpClient(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Waits between tries, longer each time. Retry-After of a server counts.
struct RetryRule {
    int tries = 6;                // in a row without progress
    uint32_t first_wait_ms = 500; // doubled from try to try, up to the longest
    uint32_t longest_wait_ms = 60'000;
};

class Retry {
  public:
    Retry(const RetryRule & rule, const StopCheck & stop) : rule_(rule), stop_(stop) {}
    // After a failed try: waits, or returns `failure` where all tries are used up, or Code::cancelled.
    Status wait(Status failure, const HttpResponse * response = nullptr);
    void made_progress() { failed_ = 0; }

  private:
    RetryRule rule_;
    StopCheck stop_;
    int failed_ = 0;
};

bool is_retried_status(const HttpResponse & response);
// The failure that a response without success is: what the server said, and what to do. `subject`: "org/name".
Status response_failure(const HttpResponse & response, const std::string & subject, const HttpOptions & options);

// An exchange with retries; a response without success is a failure.
Result<HttpResponse> exchange(HttpClient & client, const HttpRequest & request, const RetryRule & rule,
                              const std::string & subject);

} // namespace gnv
