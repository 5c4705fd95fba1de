#include "api/arguments.h"
#include "api/parts/stream_handle.h"
#include "api/progress.h"
#include "hub/dataset_files.h"
#include "hub/model_files.h"
#include "hub/stream/streamed_folder.h"
#include "hub/upload.h"

using namespace gnv;

namespace {

std::string without_slash(std::string text) {
    while (text.size() > 1 && text.back() == '/') text.pop_back();
    return text;
}

constexpr int most_connections = 64;

// The options of a call; `progress` and `engine` live as long as the call.
Status translate(gnv_engine_t * engine, const gnv_hub_options & options, api::Progress & progress, HubOptions & out) {
    if (const std::string endpoint = without_slash(api::text_or_empty(options.endpoint)); !endpoint.empty())
        out.http.endpoint = endpoint;
    out.http.token = api::text_or_empty(options.token);
    out.http.ca_file = api::text_or_empty(options.ca_file);
    out.http.proxy = api::text_or_empty(options.proxy);
    out.http.no_proxy = api::text_or_empty(options.no_proxy);
    out.http.user_agent = concat("ggml-nvfp4/", GNV_VERSION_STRING);
    out.cache = without_slash(api::text_or_empty(options.cache));
    if (options.connections < 0 || options.connections > most_connections)
        return fail(Code::invalid_argument, "gnv_hub_options.connections is ", options.connections, ", and not in 0..",
                    most_connections);
    if (options.connections > 0) out.connections = options.connections;
    if (options.first_wait_ms > 0) out.retry.first_wait_ms = options.first_wait_ms;
    out.http.stop = [&progress] { return !progress.goes_on(); };
    out.progress = [&progress](const HubProgress & now) {
        gnv_progress report = {};
        report.bytes = now.bytes, report.bytes_total = now.bytes_total;
        report.tensors = now.files, report.tensors_total = now.files_total;
        return progress.report(report);
    };
    out.say = [engine](const std::string & line) { engine->log(GNV_LOG_INFO, line); };
    return {};
}

// The body of the functions of this file: `work(hub, options)` gives the text.
template <class Work>
gnv_status with_hub(gnv_engine_t * engine, const char * name, const gnv_hub_options * given, gnv_text_t ** out,
                    const char * function, const Work & work) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({name, out}, function));
        gnv_hub_options options;
        gnv_hub_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_hub_options"));
        api::Progress progress(options.progress, options.user);
        HubOptions hub;
        GNV_TRY(translate(engine, options, progress, hub));
        Result<std::string> text = work(hub, options);
        if (text.ok()) *out = api::make_text(text.take());
        return text.take_status();
    });
}

Status check_cache(const HubOptions & hub, const char * function) {
    return hub.cache.empty() ? fail(Code::invalid_argument, function, ": gnv_hub_options.cache is needed") : Status();
}

} // namespace

gnv_status gnv_hub_fetch_model(gnv_engine_t * engine, const char * name, const gnv_hub_options * given,
                               gnv_text_t ** folder) {
    return with_hub(engine, name, given, folder, "gnv_hub_fetch_model",
                    [&](const HubOptions & hub, const gnv_hub_options & options) -> Result<std::string> {
                        GNV_TRY(check_cache(hub, "gnv_hub_fetch_model"));
                        GNV_ASSIGN(const RepositoryName model, parse_repository_name(RepositoryKind::model, name));
                        if (!options.offline) return fetch_model(hub, model, options.list_only != 0);
                        std::string found = find_model_folder(hub.cache, model);
                        if (!found.empty()) return found;
                        return fail(Code::not_found, name, ": is not complete in the hub's cache ", hub.cache,
                                    ", and HF_HUB_OFFLINE forbids to download it");
                    });
}

gnv_status gnv_hub_stream_open(gnv_engine_t * engine, const char * name, const gnv_hub_options * given,
                               uint64_t disk_bytes, gnv_hub_stream_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({name, out}, "gnv_hub_stream_open"));
        gnv_hub_options options;
        gnv_hub_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_hub_options"));
        auto stream = std::make_unique<gnv_hub_stream_t>();
        stream->engine = engine;
        stream->progress = std::make_unique<api::Progress>(options.progress, options.user);
        HubOptions hub;
        GNV_TRY(translate(engine, options, *stream->progress, hub));
        GNV_TRY(check_cache(hub, "gnv_hub_stream_open"));
        GNV_ASSIGN(const RepositoryName model, parse_repository_name(RepositoryKind::model, name));
        if (options.offline && find_model_folder(hub.cache, model).empty())
            return fail(Code::invalid_argument, name, ": is not complete in the hub's cache ", hub.cache,
                        ", and HF_HUB_OFFLINE forbids to stream it");
        GNV_ASSIGN(stream->folder, stream_model(hub, model, disk_bytes));
        *out = stream.release();
        return {};
    });
}

const char * gnv_hub_stream_folder(const gnv_hub_stream_t * stream) {
    return stream ? stream->folder->path().c_str() : nullptr;
}

void gnv_hub_stream_destroy(gnv_hub_stream_t * stream) { api::destroy(stream); }

gnv_status gnv_hub_fetch_dataset(gnv_engine_t * engine, const char * name, const gnv_hub_options * given,
                                 gnv_text_t ** folder) {
    return with_hub(engine, name, given, folder, "gnv_hub_fetch_dataset",
                    [&](const HubOptions & hub, const gnv_hub_options & options) -> Result<std::string> {
                        GNV_TRY(check_cache(hub, "gnv_hub_fetch_dataset"));
                        GNV_ASSIGN(const DatasetName dataset, parse_dataset_name(name));
                        return fetch_dataset(hub, dataset, options.offline != 0);
                    });
}

gnv_status gnv_hub_upload(gnv_engine_t * engine, const char * folder, const char * name, const gnv_hub_options * given,
                          const gnv_hub_upload_options * given_upload, gnv_text_t ** url) {
    return with_hub(engine, name, given, url, "gnv_hub_upload",
                    [&](const HubOptions & hub, const gnv_hub_options &) -> Result<std::string> {
                        gnv_hub_upload_options upload;
                        gnv_hub_upload_options_init(&upload);
                        GNV_TRY(api::take_options(given_upload, upload, "gnv_hub_upload_options"));
                        UploadOptions options;
                        options.create = upload.create != 0, options.is_private = upload.is_private != 0;
                        if (upload.message) options.message = upload.message;
                        GNV_ASSIGN(const RepositoryName model, parse_repository_name(RepositoryKind::model, name));
                        return folder ? upload_folder(hub, folder, model, options) : check_upload(hub, model, options);
                    });
}
