#include "hub/upload.h"

#include "checkpoint/checkpoint_names.h"
#include "core/sha256.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/json_writer.h"
#include "hub/lfs_transfer.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

namespace gnv {

namespace {

constexpr uint64_t most_answer_bytes = 64 << 20;
constexpr size_t sample_bytes = 512;     // of a file, by which the hub tells text
constexpr size_t files_a_question = 256; // as huggingface_hub asks
constexpr int deepest_folder = 16;
constexpr uint64_t most_regular_bytes = 64 << 20; // of files inside the commit
constexpr uint64_t hash_piece = 1 << 20;

std::string base64(std::string_view bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t value = 0;
        for (size_t j = 0; j < 3; j++) value = value << 8 | (i + j < bytes.size() ? uint8_t(bytes[i + j]) : 0);
        for (size_t j = 0; j < 4; j++) out += j <= bytes.size() - i ? digits[value >> (18 - 6 * j) & 63] : '=';
    }
    return out;
}

Status list_files(const std::string & folder, const std::string & prefix, int depth, std::vector<LocalFile> & out) {
    if (depth > deepest_folder) return fail(Code::invalid_argument, folder, ": folders nested too deeply");
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder));
    for (const DirectoryEntry & entry : entries) {
        const std::string path = join_path(folder, entry.name), name = prefix + entry.name;
        if (is_hidden(entry.name) && !is_hidden_checkpoint_file(name)) continue;
        if (entry.is_broken_link) return fail(Code::not_found, path, ": is a link that leads nowhere");
        if (entry.is_directory) {
            GNV_TRY(list_files(path, name + "/", depth + 1, out));
            continue;
        }
        GNV_TRY(check_remote_name(folder, name));
        GNV_ASSIGN(const File file, File::open_read(path));
        GNV_ASSIGN(const FileStamp stamp, file.stamp());
        out.push_back({name, path, stamp.size, {}, false});
    }
    return {};
}

class Upload {
  public:
    Upload(const HubOptions & hub, const RepositoryName & model, const UploadOptions & options)
        : hub_(hub), model_(model), options_(options) {}

    // Sends nothing: the hub is asked what it would do with a file of two bytes, which takes a right to write.
    Result<std::string> check() {
        GNV_TRY(check_token());
        GNV_ASSIGN(HttpClient client, HttpClient::create(hub_.http));
        client_ = &client;
        const std::string question = R"({"files":[{"path":"config.json","size":2,"sample":"e30="}]})";
        const Result<HttpResponse> answer = post(model_.api_path() + "/preupload/main", question, "application/json");
        const bool will_be_made = options_.create && answer.status().code() == Code::not_found;
        if (!answer.ok() && !will_be_made) return copy_of(answer.status());
        return hub_.http.endpoint + model_.web_path();
    }

    Result<std::string> run(const std::string & folder) {
        GNV_TRY(check_token());
        GNV_TRY(list_files(folder, "", 0, files_));
        const auto is_config = [](const LocalFile & file) { return file.name == "config.json"; };
        if (std::none_of(files_.begin(), files_.end(), is_config))
            return fail(Code::invalid_argument, folder,
                        ": holds no config.json: give the folder of a finished checkpoint");
        GNV_ASSIGN(HttpClient client, HttpClient::create(hub_.http));
        client_ = &client;
        if (options_.create) GNV_TRY(create());
        GNV_TRY(ask_modes());
        GNV_TRY(send_large());
        GNV_TRY(commit());
        return hub_.http.endpoint + model_.web_path();
    }

  private:
    Status check_token() const {
        if (!hub_.http.token.empty()) return {};
        return fail(Code::invalid_argument, model_.text(), ": an upload needs a token that may write: make one at ",
                    hub_.http.endpoint, "/settings/tokens and set HF_TOKEN");
    }

    Result<HttpResponse> post(const std::string & path, std::string body, const char * type) {
        HttpRequest request;
        request.method = "POST";
        request.url = hub_.http.endpoint + path;
        request.headers = {concat("Content-Type: ", type)};
        request.body = std::move(body);
        request.limit = most_answer_bytes;
        return exchange(*client_, request, hub_.retry, model_.text());
    }

    Status create() {
        JsonWriter json;
        json.begin_object().member("name", model_.name).member("organization", model_.organization);
        json.member("type", "model").member("private", options_.is_private).end_object();
        HttpRequest request;
        request.method = "POST";
        request.url = hub_.http.endpoint + "/api/repos/create";
        request.headers = {"Content-Type: application/json"};
        request.body = json.take();
        request.limit = most_answer_bytes;
        Retry retry(hub_.retry, hub_.http.stop);
        while (true) {
            HttpOutcome outcome = client_->send(request);
            if (!outcome.failure.ok()) {
                if (!outcome.may_succeed_later) return std::move(outcome.failure);
                GNV_TRY(retry.wait(std::move(outcome.failure)));
                continue;
            }
            if (outcome.response.status == 409) return {}; // it exists
            if (outcome.response.is_success()) {
                hub_.tell(
                    concat("made the ", options_.is_private ? "private" : "public", " repository ", model_.text()));
                return {};
            }
            Status failure = response_failure(outcome.response, model_.text(), client_->options());
            if (!is_retried_status(outcome.response)) return failure;
            GNV_TRY(retry.wait(std::move(failure), &outcome.response));
        }
    }

    // Which files go over Git LFS.
    Status ask_modes() {
        for (size_t begin = 0; begin < files_.size(); begin += files_a_question) {
            const size_t end = std::min(files_.size(), begin + files_a_question);
            JsonWriter json;
            json.begin_object().key("files").begin_array();
            for (size_t i = begin; i < end; i++) {
                std::string sample(size_t(std::min<uint64_t>(files_[i].size, sample_bytes)), '\0');
                GNV_ASSIGN(const File file, File::open_read(files_[i].path));
                GNV_TRY(file.read(sample.data(), sample.size(), 0));
                json.begin_object().member("path", files_[i].name).member("size", files_[i].size);
                json.member("sample", base64(sample)).end_object();
            }
            json.end_array().end_object();
            GNV_ASSIGN(HttpResponse response,
                       post(model_.api_path() + "/preupload/main", json.take(), "application/json"));
            GNV_TRY(take_modes(std::move(response.body)));
        }
        return {};
    }

    Status take_modes(std::string body) {
        GNV_ASSIGN(const JsonDocument document,
                   JsonDocument::parse(std::move(body), model_.text() + ": the hub's answer", JsonKeys::last_wins));
        GNV_ASSIGN(const JsonValue list, document.root().get("files"));
        return list.for_each_element([&](size_t, const JsonValue & item) -> Status {
            GNV_ASSIGN(const JsonValue path, item.get("path"));
            GNV_ASSIGN(const JsonValue mode, item.get("uploadMode"));
            GNV_ASSIGN(const std::string_view name, path.as_string());
            GNV_ASSIGN(const std::string_view kind, mode.as_string());
            for (LocalFile & file : files_)
                if (file.name == name) file.is_large = kind == "lfs";
            return {};
        });
    }

    // Hashes a file; large ones are read twice, here and when they are sent.
    Status hash(LocalFile & file) const {
        GNV_ASSIGN(const File source, File::open_read(file.path));
        Sha256 sum;
        std::string piece(size_t(std::min(file.size, hash_piece)), '\0');
        for (uint64_t at = 0; at < file.size; at += piece.size()) {
            const uint64_t count = std::min<uint64_t>(piece.size(), file.size - at);
            GNV_TRY(source.read(piece.data(), count, at));
            sum.update(piece.data(), count);
            if (!report()) return fail(Code::cancelled, "stopped on request");
        }
        file.sha256 = sum.finish();
        return {};
    }

    bool report() const {
        HubProgress now;
        now.bytes = bytes_, now.bytes_total = bytes_total_, now.files = done_, now.files_total = files_total_;
        return !stops_ && (!hub_.progress || hub_.progress(now));
    }

    Status send_some(const std::vector<LocalFile *> & order, std::atomic<size_t> & next) {
        HttpOptions options = hub_.http;
        options.stop = [this] { return !report() || (hub_.http.stop && hub_.http.stop()); };
        GNV_ASSIGN(HttpClient client, HttpClient::create(options));
        for (size_t i; (i = next++) < order.size();) {
            LocalFile & file = *order[i];
            GNV_TRY(hash(file));
            const auto sent = [this](uint64_t bytes) {
                bytes_ += bytes;
                return report();
            };
            Result<bool> was_sent = send_large_file(hub_, client, model_, file, sent);
            if (!was_sent.ok()) return std::move(was_sent.take_status().add_context(file.name));
            if (!was_sent.value()) present_++;
            done_++;
        }
        return {};
    }

    Status send_large() {
        std::vector<LocalFile *> order;
        uint64_t regular = 0;
        for (LocalFile & file : files_) {
            if (file.is_large) order.push_back(&file), bytes_total_ += file.size;
            if (!file.is_large) regular += file.size;
        }
        if (regular > most_regular_bytes)
            return fail(Code::unsupported, model_.text(), ": ", bytes_text(regular),
                        " of files would be in the commit itself: use hf upload");
        files_total_ = order.size();
        std::stable_sort(order.begin(), order.end(),
                         [](const LocalFile * a, const LocalFile * b) { return a->size > b->size; });
        hub_.tell(concat("uploading ", files_.size(), " files, ", bytes_text(bytes_total_ + regular), ", to ",
                         model_.text(), ": ", order.size(), " large ones first, then one commit"));
        std::atomic<size_t> next{0};
        std::mutex mutex;
        Status first;
        const auto work = [&] {
            Status status = guard_exceptions([&] { return send_some(order, next); });
            if (status.ok()) return;
            const std::lock_guard<std::mutex> lock(mutex);
            stops_ = true;
            if (first.ok()) first = std::move(status);
        };
        std::vector<std::thread> threads;
        (void)guard_exceptions([&]() -> Status {
            while (threads.size() + 1 < std::min(order.size(), size_t(std::max(hub_.connections, 1))))
                threads.emplace_back(work);
            return {};
        }).ok();
        work();
        for (std::thread & thread : threads) thread.join();
        GNV_TRY(std::move(first));
        if (present_ > 0) hub_.tell(concat(present_.load(), " of them were there already"));
        return {};
    }

    Status commit() {
        const auto line = [](const char * key) {
            JsonWriter json;
            json.begin_object().member("key", key).key("value").begin_object();
            return json;
        };
        JsonWriter header = line("header");
        header.member("summary", options_.message).member("description", "").end_object().end_object();
        std::string body = header.take() + "\n";
        for (const LocalFile & file : files_) {
            JsonWriter json = line(file.is_large ? "lfsFile" : "file");
            if (file.is_large) {
                json.member("path", file.name).member("algo", "sha256").member("oid", file.sha256);
                json.member("size", file.size);
            } else {
                GNV_ASSIGN(const std::string content, read_file(file.path, most_regular_bytes));
                json.member("content", base64(content)).member("path", file.name).member("encoding", "base64");
            }
            body += json.end_object().end_object().take() + "\n";
        }
        return post(model_.api_path() + "/commit/main", std::move(body), "application/x-ndjson").take_status();
    }

    const HubOptions & hub_;
    const RepositoryName & model_;
    const UploadOptions & options_;
    HttpClient * client_ = nullptr;
    std::vector<LocalFile> files_;
    uint64_t bytes_total_ = 0, files_total_ = 0;
    std::atomic<uint64_t> bytes_{0}, done_{0}, present_{0};
    std::atomic<bool> stops_{false};
};

} // namespace

static Status check_branch(const RepositoryName & model) {
    if (model.revision == "main") return {};
    return fail(Code::invalid_argument, model.text(), "@", printable(model.revision),
                ": an upload goes to the branch main: leave the revision out");
}

Result<std::string> upload_folder(const HubOptions & hub, const std::string & folder, const RepositoryName & model,
                                  const UploadOptions & options) {
    GNV_TRY(check_branch(model));
    return Upload(hub, model, options).run(folder);
}

Result<std::string> check_upload(const HubOptions & hub, const RepositoryName & model, const UploadOptions & options) {
    GNV_TRY(check_branch(model));
    return Upload(hub, model, options).check();
}

} // namespace gnv
