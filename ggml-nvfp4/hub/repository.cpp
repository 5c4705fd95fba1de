#include "hub/repository.h"

#include "formats/json.h"

#include <algorithm>

namespace gnv {

namespace {

constexpr uint64_t most_listing_bytes = 64 << 20;
constexpr size_t most_files = 200'000;
constexpr int64_t largest_file = int64_t(1) << 46; // 70 TB: sums of all files stay in 64 bits

Result<RemoteFile> parse_file(const JsonValue & item, const std::string & subject) {
    RemoteFile file;
    GNV_ASSIGN(const JsonValue name, item.get("rfilename"));
    GNV_ASSIGN(const std::string_view text, name.as_string());
    GNV_TRY(check_remote_name(subject, text));
    file.name = text;
    JsonValue lfs, hash, size;
    const bool is_large = item.find("lfs", lfs) && lfs.is_object();
    const JsonValue & holder = is_large ? lfs : item;
    if (!holder.find("size", size) || !holder.find(is_large ? "sha256" : "blobId", hash) || !hash.is_string())
        return fail(Code::format, subject, ": the hub gives no size and hash of ", printable(file.name));
    GNV_ASSIGN(const int64_t bytes, size.as_int());
    if (bytes < 0 || bytes > largest_file)
        return fail(Code::format, subject, ": ", printable(file.name), " has ", bytes, " bytes, says the hub");
    file.size = uint64_t(bytes);
    file.hash = hash.as_string().value();
    if (!is_hex(file.hash, is_large ? 64 : 40))
        return fail(Code::format, subject, ": the hub's hash of ", printable(file.name), " is \"", printable(file.hash),
                    "\"");
    return file;
}

} // namespace

const RemoteFile * RemoteListing::find(const std::string & name) const {
    for (const RemoteFile & file : files)
        if (file.name == name) return &file;
    return nullptr;
}

uint64_t bytes_of(const std::vector<RemoteFile> & files) {
    uint64_t bytes = 0;
    for (const RemoteFile & file : files) bytes += file.size;
    return bytes;
}

Result<RemoteListing> parse_listing(std::string text, const std::string & subject) {
    GNV_ASSIGN(const JsonDocument document,
               JsonDocument::parse(std::move(text), subject + ": the hub's list of files", JsonKeys::last_wins));
    RemoteListing out;
    GNV_ASSIGN(const JsonValue commit, document.root().get("sha"));
    GNV_ASSIGN(const std::string_view digits, commit.as_string());
    if (!is_hex(digits, 40))
        return fail(Code::format, subject, ": the hub's commit is \"", printable(digits), "\", and not 40 hex digits");
    out.commit = digits;
    GNV_ASSIGN(const JsonValue list, document.root().get("siblings"));
    GNV_TRY(list.for_each_element([&](size_t index, const JsonValue & item) -> Status {
        if (index >= most_files) return fail(Code::format, subject, ": more than ", most_files, " files");
        GNV_ASSIGN(RemoteFile file, parse_file(item, subject));
        out.files.push_back(std::move(file));
        return {};
    }));
    std::sort(out.files.begin(), out.files.end(),
              [](const RemoteFile & a, const RemoteFile & b) { return a.name < b.name; });
    for (size_t i = 1; i < out.files.size(); i++)
        if (out.files[i].name == out.files[i - 1].name)
            return fail(Code::format, subject, ": the hub names ", printable(out.files[i].name), " twice");
    return out;
}

Result<RemoteListing> list_repository(const HubOptions & hub, const RepositoryName & repository) {
    GNV_ASSIGN(HttpClient client, HttpClient::create(hub.http));
    HttpRequest request;
    request.url =
        concat(hub.http.endpoint, repository.api_path(), "/revision/", escape_word(repository.revision), "?blobs=true");
    request.limit = most_listing_bytes;
    GNV_ASSIGN(HttpResponse response, exchange(client, request, hub.retry, repository.text()));
    return parse_listing(std::move(response.body), repository.text());
}

} // namespace gnv
