#include "hub/lfs_transfer.h"

#include "formats/file.h"
#include "formats/json.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <charconv>
#include <map>

namespace gnv {

namespace {

constexpr uint64_t most_answer_bytes = 64 << 20;
constexpr size_t most_parts = 100'000;
constexpr int part_tries = 8;

const char lfs_type[] = "application/vnd.git-lfs+json";

// What the hub wants of a file; all empty: it has the file.
struct Wish {
    std::string href, verify;
    std::map<std::string, std::string> headers;
    uint64_t part_bytes = 0;        // 0: in one piece
    std::vector<std::string> parts; // addresses
};

Result<std::string> text_of(const JsonValue & object, const char * key) {
    GNV_ASSIGN(const JsonValue value, object.get(key));
    GNV_ASSIGN(const std::string_view text, value.as_string());
    return std::string(text);
}

Status read_upload(const JsonValue & upload, uint64_t size, Wish & wish) {
    GNV_ASSIGN(wish.href, text_of(upload, "href"));
    JsonValue headers;
    if (!upload.find("header", headers) || !headers.is_object()) return {};
    std::map<uint64_t, std::string> parts;
    GNV_TRY(headers.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        // Sizes are texts, or numbers.
        const std::string text = value.is_string() ? std::string(value.as_string().value()) : value.text();
        uint64_t number = 0;
        const auto parsed = std::from_chars(key.data(), key.data() + key.size(), number);
        if (key == "chunk_size") {
            const auto bytes = std::from_chars(text.data(), text.data() + text.size(), wish.part_bytes);
            if (bytes.ec != std::errc() || wish.part_bytes == 0)
                return fail(Code::format, "the hub wants parts of \"", printable(text), "\" bytes");
        } else if (parsed.ec == std::errc() && parsed.ptr == key.data() + key.size()) {
            parts[number] = text;
        } else {
            wish.headers[std::string(key)] = text;
        }
        return parts.size() > most_parts ? fail(Code::format, "the hub wants too many parts") : Status();
    }));
    if (wish.part_bytes == 0) return {};
    wish.headers.clear();
    for (auto & [number, address] : parts) wish.parts.push_back(std::move(address));
    const uint64_t wanted = (size + wish.part_bytes - 1) / wish.part_bytes;
    if (wish.parts.size() == wanted && (parts.empty() || parts.begin()->first == 1)) return {};
    return fail(Code::format, "the hub gives ", wish.parts.size(), " addresses for ", wanted, " parts");
}

Result<Wish> ask(const HubOptions & hub, HttpClient & client, const RepositoryName & model, const LocalFile & file) {
    JsonWriter json;
    json.begin_object().member("operation", "upload");
    json.key("transfers").begin_array().value("basic").value("multipart").end_array();
    json.key("objects").begin_array().begin_object();
    json.member("oid", file.sha256).member("size", file.size).end_object().end_array();
    json.member("hash_algo", "sha256");
    json.key("ref").begin_object().member("name", "main").end_object().end_object();
    HttpRequest request;
    request.method = "POST";
    request.url = concat(hub.http.endpoint, model.web_path(), ".git/info/lfs/objects/batch");
    request.headers = {concat("Accept: ", lfs_type), concat("Content-Type: ", lfs_type)};
    request.body = json.take();
    request.limit = most_answer_bytes;
    GNV_ASSIGN(HttpResponse response, exchange(client, request, hub.retry, model.text()));
    GNV_ASSIGN(const JsonDocument document,
               JsonDocument::parse(std::move(response.body), "the hub's answer", JsonKeys::last_wins));
    GNV_ASSIGN(const JsonValue objects, document.root().get("objects"));
    Wish wish;
    size_t count = 0;
    const auto take = [&](size_t, const JsonValue & object) -> Status {
        GNV_ASSIGN(const std::string oid, text_of(object, "oid"));
        if (oid != file.sha256) return fail(Code::format, "the hub answers about another file");
        count++;
        JsonValue error, actions, upload, verify, message;
        if (object.find("error", error) && error.is_object()) {
            const bool has_text = error.find("message", message) && message.is_string();
            return fail(Code::io, "the hub refuses the file: ", has_text ? printable(message.as_string().value()) : "");
        }
        if (!object.find("actions", actions) || !actions.is_object() || !actions.find("upload", upload)) return {};
        GNV_TRY(read_upload(upload, file.size, wish));
        if (!actions.find("verify", verify) || !verify.is_object()) return {};
        GNV_ASSIGN(wish.verify, text_of(verify, "href"));
        return {};
    };
    GNV_TRY(objects.for_each_element(take));
    if (count != 1) return fail(Code::format, "the hub's answer names no file");
    return wish;
}

// A PUT of bytes [begin, begin + size) of the file.
Result<HttpResponse> put(HttpClient & client, const RetryRule & rule, const std::string & url, const File & source,
                         uint64_t begin, uint64_t size, const std::map<std::string, std::string> & headers) {
    HttpRequest request;
    request.method = "PUT";
    request.url = url;
    request.headers = {"Content-Type:"};
    for (const auto & [name, value] : headers)
        if (value.find_first_of("\r\n") == value.npos && name.find_first_of("\r\n: ") == name.npos)
            request.headers.push_back(name + ": " + value);
    request.body_size = size;
    request.read = [&](char * data, size_t count, uint64_t offset) { return source.read(data, count, begin + offset); };
    request.limit = most_answer_bytes;
    return exchange(client, request, rule, "upload");
}

Status post(const HubOptions & hub, HttpClient & client, const std::string & url, std::string body) {
    HttpRequest request;
    request.method = "POST";
    request.url = url;
    request.headers = {concat("Accept: ", lfs_type), concat("Content-Type: ", lfs_type)};
    request.body = std::move(body);
    request.limit = most_answer_bytes;
    return exchange(client, request, hub.retry, "upload").take_status();
}

} // namespace

Result<bool> send_large_file(const HubOptions & hub, HttpClient & client, const RepositoryName & model,
                             const LocalFile & file, const std::function<bool(uint64_t bytes)> & sent) {
    GNV_ASSIGN(const Wish wish, ask(hub, client, model, file));
    const auto count = [&](uint64_t bytes) {
        return sent(bytes) ? Status() : fail(Code::cancelled, "stopped on request");
    };
    if (wish.href.empty()) {
        GNV_TRY(count(file.size));
        return false;
    }
    RetryRule rule = hub.retry;
    rule.tries = std::max(rule.tries, part_tries);
    GNV_ASSIGN(const File source, File::open_read(file.path));
    if (wish.part_bytes == 0) {
        GNV_TRY(put(client, rule, wish.href, source, 0, file.size, wish.headers).take_status());
        GNV_TRY(count(file.size));
    } else {
        JsonWriter json;
        json.begin_object().member("oid", file.sha256).key("parts").begin_array();
        for (size_t i = 0; i < wish.parts.size(); i++) {
            const uint64_t begin = i * wish.part_bytes, size = std::min(wish.part_bytes, file.size - begin);
            GNV_ASSIGN(const HttpResponse response, put(client, rule, wish.parts[i], source, begin, size, {}));
            if (response.header("etag").empty()) return fail(Code::format, "the storage gives no ETag of part ", i + 1);
            json.begin_object().member("partNumber", i + 1).member("etag", response.header("etag")).end_object();
            GNV_TRY(count(size));
        }
        json.end_array().end_object();
        GNV_TRY(post(hub, client, wish.href, json.take()));
    }
    if (!wish.verify.empty()) {
        JsonWriter json;
        json.begin_object().member("oid", file.sha256).member("size", file.size).end_object();
        GNV_TRY(post(hub, client, wish.verify, json.take()));
    }
    return true;
}

} // namespace gnv
