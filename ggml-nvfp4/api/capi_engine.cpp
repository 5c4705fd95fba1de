#include "api/handles.h"
#include "cpu/nvfp4_pack.h"

#include <new>

using namespace gnv;

static_assert(int(Code::bad_value) == GNV_BAD_VALUE && int(Code::internal) == GNV_INTERNAL);
static_assert(int(Code::unsupported) == GNV_UNSUPPORTED && int(Code::device) == GNV_DEVICE);

void gnv_engine_t::log(gnv_log_level level, const std::string & message) {
    if (!options.log) return;
    const std::lock_guard<std::mutex> lock(log_mutex);
    options.log(options.user, level, message.c_str());
}

const char * gnv_version(void) { return GNV_VERSION_STRING; }

const char * gnv_status_string(gnv_status status) { return code_name(Code(status)); }

void gnv_engine_options_init(gnv_engine_options * options) {
    *options = {};
    options->struct_size = sizeof *options;
}

gnv_status gnv_engine_create(const gnv_engine_options * given, gnv_engine_t ** out) {
    if (!out) return GNV_INVALID_ARGUMENT;
    *out = nullptr;
    std::unique_ptr<gnv_engine_t> engine(new (std::nothrow) gnv_engine_t);
    if (!engine) return GNV_OUT_OF_MEMORY;
    gnv_engine_options_init(&engine->options);
    if (!api::take_options(given, engine->options)) return GNV_INVALID_ARGUMENT;
    const gnv_status status = api::call(engine.get(), [&]() -> Status {
        GNV_ASSIGN(engine->threads, ThreadPool::create(engine->options.threads));
        return {};
    });
    if (status == GNV_OK) *out = engine.release();
    return status;
}

void gnv_engine_destroy(gnv_engine_t * engine) { delete engine; }

const char * gnv_last_error(const gnv_engine_t * engine) { return engine ? engine->last_error.c_str() : ""; }

const char * gnv_cpu_kernels(void) { return cpu::nvfp4_best().name; }

const char * gnv_text_data(const gnv_text_t * text) { return text ? text->text.c_str() : ""; }

size_t gnv_text_size(const gnv_text_t * text) { return text ? text->text.size() : 0; }

void gnv_text_destroy(gnv_text_t * text) { delete text; }
