#include "hub/http.h"

#include "core/strings.h"
#include "formats/json.h"

#include <algorithm>
#include <cstring>
#include <curl/curl.h>

namespace gnv {

namespace {

constexpr int most_redirects = 8;
constexpr size_t most_header_bytes = 256 << 10;
constexpr size_t kept_failure_bytes = 4096, most_failure_bytes = 1 << 20; // of the body of a response without success
constexpr long connect_seconds = 30;
constexpr long buffer_bytes = 256 << 10;

struct ListCloser {
    void operator()(curl_slist * list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListCloser>;

struct UrlCloser {
    void operator()(CURLU * url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, UrlCloser>;

std::string url_part(CURLU * url, CURLUPart part, unsigned flags = 0) {
    char * text = nullptr;
    if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
    const std::string out = text;
    curl_free(text);
    return out;
}

// Scheme, host and port.
std::string origin_of(CURLU * url) {
    return concat(url_part(url, CURLUPART_SCHEME), "://", url_part(url, CURLUPART_HOST), ":",
                  url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

std::string place_of(CURLU * url) {
    return printable(concat(url_part(url, CURLUPART_HOST), url_part(url, CURLUPART_PATH)), 300);
}

bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool may_succeed_later(CURLcode code) {
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
    case CURLE_COULDNT_RESOLVE_PROXY: return false;
    default: return true;
    }
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char & c : out)
        if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
    return out;
}

} // namespace

struct HttpClient::State {
    HttpOptions options;
    CURL * curl = nullptr;
    std::string origin; // of the endpoint
    char error[CURL_ERROR_SIZE] = "";

    // The running exchange.
    const HttpRequest * request = nullptr;
    HttpResponse response;
    Status failure; // of a callback
    size_t header_bytes = 0;
    uint64_t body_bytes = 0, sent_bytes = 0;
    bool began = false;

    ~State() {
        if (curl) curl_easy_cleanup(curl);
    }

    bool fails(Status status) { // for callbacks; returns true where there is a failure
        if (status.ok()) return false;
        if (failure.ok()) failure = std::move(status);
        return true;
    }

    Status take_header(std::string_view line) {
        header_bytes += line.size();
        if (header_bytes > most_header_bytes)
            return fail(Code::format, response.place, ": the server sends more than ", bytes_text(most_header_bytes),
                        " of headers");
        if (starts_with(line, "HTTP/")) response.headers.clear(); // after "100 Continue"
        const size_t colon = line.find(':');
        if (colon != line.npos)
            response.headers[lower(trimmed(line.substr(0, colon)))] = std::string(trimmed(line.substr(colon + 1)));
        return {};
    }

    Status begin_body() {
        if (began) return {};
        began = true;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
        return response.is_success() && request->begin ? request->begin(response) : Status();
    }

    Status take_body(const char * data, size_t size) {
        GNV_TRY(begin_body());
        body_bytes += size;
        if (!response.is_success()) {
            if (body_bytes > most_failure_bytes) return fail(Code::format, response.place, ": an endless failure");
            response.body.append(
                data, std::min(size, kept_failure_bytes - std::min(kept_failure_bytes, response.body.size())));
            return {};
        }
        if (body_bytes > request->limit)
            return fail(Code::format, response.place, ": the server sends more than the ", request->limit,
                        " bytes that belong here");
        if (request->take) return request->take(data, size);
        response.body.append(data, size);
        return {};
    }

    // --- Callbacks of libcurl; exceptions stay inside -------------------------------------------------------------------

    static size_t on_header(char * data, size_t, size_t size, void * user) {
        State & state = *static_cast<State *>(user);
        return state.fails(guard_exceptions([&] { return state.take_header({data, size}); })) ? 0 : size;
    }

    static size_t on_body(char * data, size_t, size_t size, void * user) {
        State & state = *static_cast<State *>(user);
        return state.fails(guard_exceptions([&] { return state.take_body(data, size); })) ? CURL_WRITEFUNC_ERROR : size;
    }

    static size_t on_read(char * data, size_t, size_t size, void * user) {
        State & state = *static_cast<State *>(user);
        const size_t count = size_t(std::min<uint64_t>(size, state.request->body_size - state.sent_bytes));
        const Status status = guard_exceptions([&] { return state.request->read(data, count, state.sent_bytes); });
        if (state.fails(copy_of(status))) return CURL_READFUNC_ABORT;
        state.sent_bytes += count;
        return count;
    }

    static int on_seek(void * user, curl_off_t offset, int origin_of_offset) {
        if (origin_of_offset != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
        static_cast<State *>(user)->sent_bytes = uint64_t(offset);
        return CURL_SEEKFUNC_OK;
    }

    static int on_progress(void * user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
        State & state = *static_cast<State *>(user);
        return state.options.stop && state.options.stop() ? 1 : 0;
    }

    // --- One exchange -----------------------------------------------------------------------------------------------------

    // Options of every exchange. A value that this libcurl does not know keeps its default.
    void set_up(CURLU * url) {
        curl_easy_reset(curl);
        error[0] = 0;
        const auto set = [&](CURLoption option, auto value) { (void)curl_easy_setopt(curl, option, value); };
        set(CURLOPT_CURLU, url);
        set(CURLOPT_ERRORBUFFER, error);
        set(CURLOPT_NOSIGNAL, 1L);
        set(CURLOPT_FOLLOWLOCATION, 0L);
        set(CURLOPT_NETRC, long(CURL_NETRC_IGNORED));
        set(CURLOPT_CONNECTTIMEOUT, connect_seconds);
        set(CURLOPT_LOW_SPEED_LIMIT, 1L);
        // A commit of many files may take minutes to answer.
        set(CURLOPT_LOW_SPEED_TIME, long(options.stall_seconds) * (request->method == "POST" ? 5 : 1));
        set(CURLOPT_BUFFERSIZE, buffer_bytes);
        set(CURLOPT_USERAGENT, options.user_agent.c_str());
        set(CURLOPT_PROXY, options.proxy.c_str()); // "": none, and none of the environment
        set(CURLOPT_NOPROXY, options.no_proxy.c_str());
        if (!options.ca_file.empty()) set(CURLOPT_CAINFO, options.ca_file.c_str());
        set(CURLOPT_HEADERFUNCTION, &State::on_header);
        set(CURLOPT_HEADERDATA, static_cast<void *>(this));
        set(CURLOPT_WRITEFUNCTION, &State::on_body);
        set(CURLOPT_WRITEDATA, static_cast<void *>(this));
        set(CURLOPT_XFERINFOFUNCTION, &State::on_progress);
        set(CURLOPT_XFERINFODATA, static_cast<void *>(this));
        set(CURLOPT_NOPROGRESS, 0L);
    }

    void set_body() {
        if (request->method == "GET") return;
        const auto set = [&](CURLoption option, auto value) { (void)curl_easy_setopt(curl, option, value); };
        if (request->read) {
            set(CURLOPT_UPLOAD, 1L);
            set(CURLOPT_INFILESIZE_LARGE, curl_off_t(request->body_size));
            set(CURLOPT_READFUNCTION, &State::on_read);
            set(CURLOPT_READDATA, static_cast<void *>(this));
            set(CURLOPT_SEEKFUNCTION, &State::on_seek);
            set(CURLOPT_SEEKDATA, static_cast<void *>(this));
        } else {
            set(CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(request->body.size()));
            set(CURLOPT_POSTFIELDS, request->body.c_str());
        }
        set(CURLOPT_CUSTOMREQUEST, request->method.c_str());
    }

    Status make_headers(CURLU * url, HeaderList & list) const {
        std::vector<std::string> lines = request->headers;
        lines.push_back("Expect:"); // no wait for "100 Continue"
        if (!options.token.empty() && origin_of(url) == origin)
            lines.push_back("Authorization: Bearer " + options.token);
        for (const std::string & line : lines) {
            curl_slist * const longer = curl_slist_append(list.get(), line.c_str());
            if (!longer) return Status::out_of_memory();
            (void)list.release();
            list.reset(longer);
        }
        return {};
    }

    // The response of one host.
    Status run_once(CURLU * url, bool & later) {
        HttpResponse fresh;
        fresh.place = place_of(url);
        fresh.is_elsewhere = response.is_elsewhere;
        response = std::move(fresh);
        header_bytes = 0, body_bytes = 0, sent_bytes = 0, began = false;
        failure = Status();
        HeaderList headers;
        GNV_TRY(make_headers(url, headers));
        set_up(url);
        set_body();
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
        const CURLcode code = curl_easy_perform(curl);
        if (code == CURLE_OK) GNV_TRY(begin_body());
        if (!failure.ok()) return std::move(failure);
        if (code == CURLE_OK) return {};
        if (code == CURLE_ABORTED_BY_CALLBACK) return fail(Code::cancelled, "stopped on request");
        if (code == CURLE_OUT_OF_MEMORY) return Status::out_of_memory();
        later = may_succeed_later(code);
        return fail(Code::io, response.place, ": ", printable_line(error[0] ? error : curl_easy_strerror(code)));
    }

    // The next address of a redirect.
    Status follow(CURLU * url) const {
        const std::string location = response.header("location"), before = url_part(url, CURLUPART_SCHEME);
        if (location.empty()) return fail(Code::format, response.place, ": a redirect without an address");
        const bool changes_method = response.status < 307 && request->method != "GET";
        if (changes_method || curl_url_set(url, CURLUPART_URL, location.c_str(), 0) != CURLUE_OK)
            return fail(Code::format, response.place, ": a redirect that cannot be followed");
        const std::string scheme = url_part(url, CURLUPART_SCHEME);
        if (scheme != before && scheme != "https")
            return fail(Code::format, response.place, ": a redirect from ", before, " to ", printable(scheme),
                        " is not followed");
        return {};
    }

    HttpOutcome run(const HttpRequest & wanted) {
        request = &wanted;
        response = HttpResponse();
        bool later = false;
        Status status = guard_exceptions([&]() -> Status {
            const Url url(curl_url());
            if (!url) return Status::out_of_memory();
            if (curl_url_set(url.get(), CURLUPART_URL, wanted.url.c_str(), 0) != CURLUE_OK)
                return fail(Code::invalid_argument, "the hub's address ", printable(options.endpoint), " is no URL");
            const std::string first = origin_of(url.get());
            for (int i = 0; i <= most_redirects; i++) {
                GNV_TRY(run_once(url.get(), later));
                if (!is_redirect(response.status)) return {};
                GNV_TRY(follow(url.get()));
                response.is_elsewhere = origin_of(url.get()) != first;
            }
            return fail(Code::format, response.place, ": more than ", most_redirects, " redirects");
        });
        return {std::move(status), later, std::move(response)};
    }
};

std::string HttpResponse::header(const std::string & name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
}

HttpClient::HttpClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpClient::HttpClient(HttpClient &&) noexcept = default;
HttpClient & HttpClient::operator=(HttpClient &&) noexcept = default;
HttpClient::~HttpClient() = default;

const HttpOptions & HttpClient::options() const { return state_->options; }
HttpOutcome HttpClient::send(const HttpRequest & request) { return state_->run(request); }

Result<HttpClient> HttpClient::create(const HttpOptions & options) {
    if (options.token.find_first_of("\r\n") != options.token.npos)
        return fail(Code::invalid_argument, "the token of the hub holds a line break: take it out");
    auto state = std::make_unique<State>();
    state->options = options;
    state->curl = curl_easy_init();
    if (!state->curl) return Status::out_of_memory();
    const Url url(curl_url());
    const bool valid = url && curl_url_set(url.get(), CURLUPART_URL, options.endpoint.c_str(), 0) == CURLUE_OK;
    const std::string scheme = valid ? url_part(url.get(), CURLUPART_SCHEME) : "";
    if (scheme != "https" && scheme != "http")
        return fail(Code::invalid_argument, "the hub's address \"", printable(options.endpoint),
                    "\" is no http or https URL (HF_ENDPOINT)");
    state->origin = origin_of(url.get());
    return HttpClient(std::move(state));
}

} // namespace gnv
