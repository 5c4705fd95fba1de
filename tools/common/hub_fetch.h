// Repositories of the hub as folders, downloaded where the cache lacks them. The library reads no environment; the programs
// do, with the names of huggingface_hub:
//
//   HF_ENDPOINT                                    another hub
//   HF_TOKEN; else the file HF_TOKEN_PATH, else HF_HOME/token, else XDG_CACHE_HOME or ~/.cache, /huggingface/token;
//   HF_HUB_DISABLE_IMPLICIT_TOKEN=1                no token
//   HF_HUB_OFFLINE=1                               the cache alone
//   HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY   also in lower case
//   REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE   certificates to trust
#pragma once

#include "args.h"

#include <fstream>
#include <initializer_list>
#include <string>

namespace tools {

// The first of the variables that is set.
inline std::string first_environment(std::initializer_list<const char *> names) {
    for (const char * name : names)
        if (const std::string value = environment(name); !value.empty()) return value;
    return "";
}

inline bool is_on(const char * name) {
    std::string value = environment(name);
    for (char & c : value)
        if (c >= 'a' && c <= 'z') c = char(c - 'a' + 'A');
    return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

inline std::string hub_token() {
    if (is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return "";
    std::string token = first_environment({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
    if (token.empty()) {
        std::string path = environment("HF_TOKEN_PATH");
        if (path.empty()) path = hub_home() + "/token";
        std::ifstream file(path);
        std::getline(file, token);
    }
    const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    while (!token.empty() && is_blank(token.back())) token.pop_back();
    while (!token.empty() && is_blank(token.front())) token.erase(0, 1);
    return token;
}

// "downloading 3 of 9 files, 1.20 GB of 22.3 GB, 350 MB/s, 1 min 02 s left": rewritten on a terminal, elsewhere a line every
// ten seconds.
class TransferLine {
  public:
    TransferLine(const char * verb, bool quiet) : verb_(verb), quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}
    ~TransferLine() { end_progress_line(); }

    static int callback(void * user, const gnv_progress * progress) {
        static_cast<TransferLine *>(user)->show(*progress);
        return stop_request();
    }

  private:
    void show(const gnv_progress & now) { // may run on a thread of the library: it does not allocate
        const bool complete = now.tensors == now.tensors_total;
        if (quiet_ || now.bytes_total == 0 || complete || (!terminal_ && now.seconds < next_)) return;
        if (first_seconds_ < 0) first_seconds_ = now.seconds, first_bytes_ = now.bytes;
        next_ = now.seconds + 10;
        const double seconds = now.seconds - first_seconds_;
        const double rate = seconds > 1 ? double(now.bytes - std::min(now.bytes, first_bytes_)) / seconds : 0;
        char more[64] = "";
        if (rate > 0) {
            const double left = double(now.bytes_total - now.bytes) / rate;
            snprintf(more, sizeof more, ", %s/s, %s left", bytes_text(uint64_t(rate)).c_str(),
                     duration_text(left).c_str());
        }
        fprintf(stderr, "%s%s %llu of %llu files, %s of %s%s%s", terminal_ ? "\r\033[K" : "", verb_,
                static_cast<unsigned long long>(now.tensors), static_cast<unsigned long long>(now.tensors_total),
                bytes_text(now.bytes).c_str(), bytes_text(now.bytes_total).c_str(), more, terminal_ ? "" : "\n");
        line_is_open = terminal_;
        fflush(stderr);
    }

    const char * const verb_;
    const bool quiet_, terminal_;
    double next_ = 10, first_seconds_ = -1;
    uint64_t first_bytes_ = 0; // were here before
};

// The options of the environment. Lives as long as the call that it is for.
struct HubCall {
    explicit HubCall(const char * verb, bool quiet)
        : line(verb, quiet), endpoint(environment("HF_ENDPOINT")), token(hub_token()), cache(hub_cache()),
          ca_file(first_environment({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"})),
          proxy(endpoint.rfind("http://", 0) == 0
                    ? first_environment({"http_proxy", "all_proxy", "ALL_PROXY"})
                    : first_environment({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"})),
          no_proxy(first_environment({"no_proxy", "NO_PROXY"})) {
        gnv_hub_options_init(&options);
        options.endpoint = endpoint.c_str();
        options.token = token.c_str();
        options.cache = cache.c_str();
        options.ca_file = ca_file.c_str();
        options.proxy = proxy.c_str();
        options.no_proxy = no_proxy.c_str();
        options.progress = TransferLine::callback;
        options.user = &line;
    }
    HubCall(const HubCall &) = delete;
    HubCall & operator=(const HubCall &) = delete;

    TransferLine line;
    const std::string endpoint, token, cache, ca_file, proxy, no_proxy;
    gnv_hub_options options;
    const StoppableCall stoppable;
};

inline bool is_offline() { return is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"); }

// Replaces a model's name by its folder, as find_model() does, but downloads what the cache lacks. `list_only`: downloads
// nothing, and fails after saying what a run would. False after printing the reason.
inline bool fetch_model(gnv_engine_t * engine, std::string & path, bool quiet, bool list_only = false) {
    if (!may_be_hub_name(path) || is_offline()) return find_model(path);
    gnv_text_t * folder = nullptr;
    HubCall call("downloading", quiet);
    call.options.list_only = list_only;
    const gnv_status status = gnv_hub_fetch_model(engine, path.c_str(), &call.options, &folder);
    if (status == GNV_UNSUPPORTED) return find_model(path); // a build without libcurl
    const Text owner(folder);
    if (status != GNV_OK) {
        report(engine);
        if (status != GNV_CANCELLED)
            fprintf(stderr, "There is no folder %s, so the hub was asked; ./%s names a folder alone.\n", path.c_str(),
                    path.c_str());
        return false;
    }
    if (gnv_text_size(folder) == 0) {
        end_progress_line();
        say_error("%s is not in the hub's cache, and --dry-run downloads nothing: add --download, or leave it out\n",
                  path.c_str());
        return false;
    }
    path = gnv_text_data(folder);
    return true;
}

// A model whose weights stay on the hub, with the options that its reads need until the end.
struct Stream {
    std::unique_ptr<HubCall> call;
    Handle<gnv_hub_stream_t, gnv_hub_stream_destroy> handle; // null: none
};

// Replaces a model's name by the folder of the stream. False after printing the reason.
inline bool open_stream(gnv_engine_t * engine, std::string & path, uint64_t disk_bytes, bool quiet, Stream & out) {
    out.call = std::make_unique<HubCall>("downloading", quiet);
    out.call->options.offline = is_offline();
    gnv_hub_stream_t * stream = nullptr;
    const gnv_status status = gnv_hub_stream_open(engine, path.c_str(), &out.call->options, disk_bytes, &stream);
    if (status == GNV_UNSUPPORTED) {
        say_error("--stream: this build has no libcurl; download the model first: hf download %s\n",
                  path.substr(0, path.find('@')).c_str());
        return false;
    }
    if (status != GNV_OK) {
        report(engine);
        return false;
    }
    out.handle.reset(stream);
    path = gnv_hub_stream_folder(stream);
    return true;
}

// "hub:ORG/NAME[@REVISION][:CONFIG[:SPLIT[:FIELD]]][=WEIGHT]", perhaps behind "ALIAS@", as a source of calibration data.
struct HubSource {
    std::string alias, name, field, weight; // with "@", ":" and "="
};

inline bool parse_hub_source(const std::string & text, HubSource & out) {
    const std::string mark = "hub:";
    const size_t at = text.find('@');
    const bool has_alias = at != text.npos && text.compare(at + 1, mark.size(), mark) == 0;
    const size_t begin = has_alias ? at + 1 : 0;
    if (text.compare(begin, mark.size(), mark) != 0) return false;
    out.alias = text.substr(0, begin);
    out.name = text.substr(begin + mark.size());
    if (const size_t equals = out.name.rfind('='); equals != out.name.npos) {
        out.weight = out.name.substr(equals);
        out.name.erase(equals);
    }
    size_t colon = out.name.find(':');
    for (int i = 0; i < 2 && colon != out.name.npos; i++) colon = out.name.find(':', colon + 1);
    if (colon == out.name.npos) return true;
    out.field = out.name.substr(colon);
    out.name.erase(colon);
    return true;
}

// Replaces data sets of the hub in --calib and --data by their folders. False after printing the reason.
inline bool fetch_data(gnv_engine_t * engine, std::vector<std::string> & sources, bool quiet) {
    for (std::string & source : sources) {
        HubSource wanted;
        if (!parse_hub_source(source, wanted)) continue;
        gnv_text_t * folder = nullptr;
        HubCall call("downloading", quiet);
        call.options.offline = is_offline();
        const gnv_status status = gnv_hub_fetch_dataset(engine, wanted.name.c_str(), &call.options, &folder);
        const Text owner(folder);
        if (status == GNV_UNSUPPORTED) {
            const std::string repository = wanted.name.substr(0, wanted.name.find_first_of(":@"));
            say_error("%s: this build has no libcurl; download the data first: hf download --repo-type dataset "
                      "%s --local-dir DATA, and give DATA\n",
                      source.c_str(), repository.c_str());
            return false;
        }
        if (status != GNV_OK) {
            report(engine);
            return false;
        }
        source = wanted.alias + gnv_text_data(folder) + wanted.field + wanted.weight;
    }
    return true;
}

// Behind a message: why the hub did not find a repository to write to.
inline void say_create(gnv_status status, const std::string & create) {
    if (status == GNV_NOT_FOUND && create.empty())
        fprintf(stderr, "--create public, or private, makes the repository.\n");
}

// Before a run: could its result be sent? False after printing the reason.
inline bool check_upload(gnv_engine_t * engine, const std::string & name, const std::string & create) {
    gnv_hub_upload_options options;
    gnv_hub_upload_options_init(&options);
    options.create = !create.empty();
    gnv_text_t * page = nullptr;
    HubCall call("uploading", true);
    const gnv_status status = gnv_hub_upload(engine, nullptr, name.c_str(), &call.options, &options, &page);
    const Text owner(page);
    if (status == GNV_OK) return true;
    if (status == GNV_UNSUPPORTED) {
        say_error(
            "this build has no libcurl: leave --upload out, and send the result with: hf upload-large-folder %s DST\n",
            name.c_str());
        return false;
    }
    report(engine);
    say_create(status, create);
    return false;
}

// Sends a finished folder to the hub, and prints its page. False after printing the reason.
inline bool upload(gnv_engine_t * engine, const std::string & folder, const std::string & name,
                   const std::string & create, bool quiet) {
    gnv_hub_upload_options options;
    gnv_hub_upload_options_init(&options);
    options.create = !create.empty();
    options.is_private = create == "private";
    gnv_text_t * page = nullptr;
    gnv_status status;
    {
        HubCall call("uploading", quiet);
        status = gnv_hub_upload(engine, folder.c_str(), name.c_str(), &call.options, &options, &page);
    }
    const Text owner(page);
    if (status == GNV_UNSUPPORTED) {
        say_error("this build has no libcurl; upload the folder with: hf upload-large-folder %s %s\n", name.c_str(),
                  folder.c_str());
        return false;
    }
    if (status != GNV_OK) {
        report(engine);
        say_create(status, create);
        if (access((folder + "/config.json").c_str(), F_OK) == 0)
            fprintf(stderr, "%s is complete; to go on with the upload: %s --upload %s -o %s\n", folder.c_str(),
                    program_name.c_str(), name.c_str(), folder.c_str());
        return false;
    }
    if (!quiet) fprintf(stderr, "uploaded to %s\n", gnv_text_data(page));
    return true;
}

} // namespace tools
