#include "api/arguments.h"

#include <new>
#include <utility>

using namespace gnv;

static_assert(int(Code::bad_value) == GNV_BAD_VALUE && int(Code::internal) == GNV_INTERNAL);
static_assert(GNV_INSTRUCTIONS_PORTABLE == int(InstructionSet::portable) + 1 &&
              GNV_INSTRUCTIONS_AVX512 == int(InstructionSet::avx512) + 1);
static_assert(int(Code::unsupported) == GNV_UNSUPPORTED && int(Code::device) == GNV_DEVICE);

void gnv_engine_t::log(gnv_log_level level, const std::string & message) {
    if (!options.log) return;
    const std::lock_guard<std::mutex> lock(log_mutex);
    options.log(options.user, level, printable_line(message).c_str());
}

void gnv_engine_t::warn_once(const std::string & message) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (last_warning_ == message) return;
        last_warning_ = message;
    }
    log(GNV_LOG_WARNING, message);
}

gnv_status gnv_engine_t::keep(const Status & status) noexcept {
    if (status.ok()) return GNV_OK;
    const std::lock_guard<std::mutex> lock(mutex_);
    newest_.number++;
    newest_.status = gnv_status(status.code());
    try {
        newest_.text = status.message();
    } catch (...) {
        newest_.text = "out of memory"; // allocates nothing: the text fits into the string object
    }
    return gnv_status(status.code());
}

const char * gnv_engine_t::last_error() const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
        Message & own = messages_[std::this_thread::get_id()];
        if (own.number != newest_.number) own = newest_;
        return own.text.c_str();
    } catch (...) {
        return "out of memory";
    }
}

gnv_status gnv_engine_t::last_status() const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return newest_.status;
}

bool gnv_engine_t::begin_run() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return !std::exchange(runs_, true);
}

void gnv_engine_t::end_run() {
    api::Owned * retired = nullptr;
    bool doomed = false;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        runs_ = false;
        retired = std::exchange(retired_, nullptr);
        doomed = doomed_;
    }
    while (retired) {
        api::Owned * const handle = retired;
        retired = handle->next;
        handle->destroy(handle);
    }
    if (doomed) delete this;
}

void gnv_engine_t::retire(api::Owned * handle) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (runs_) {
            handle->next = std::exchange(retired_, handle);
            return;
        }
    }
    handle->destroy(handle);
}

void gnv_engine_t::destroy() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        doomed_ = true;
        if (runs_) return;
    }
    delete this;
}

const char * gnv_version(void) { return GNV_VERSION_STRING; }

uint32_t gnv_version_number(void) { return GNV_VERSION; }

const char * gnv_status_string(gnv_status status) { return code_name(Code(status)); }

gnv_status gnv_engine_create(const gnv_engine_options * given, gnv_engine_t ** out) {
    if (!out) return GNV_INVALID_ARGUMENT;
    *out = nullptr;
    gnv_engine_t * const engine = new (std::nothrow) gnv_engine_t;
    if (!engine) return GNV_OUT_OF_MEMORY;
    gnv_engine_options_init(&engine->options);
    const gnv_status status = api::run(engine, [&]() -> Status {
        GNV_TRY(api::take_options(given, engine->options, "gnv_engine_options"));
        const int instructions = engine->options.instructions;
        const InstructionSet best = best_instruction_set();
        GNV_TRY(api::check_number(gnv_instructions(instructions), GNV_INSTRUCTIONS_AVX512,
                                  "gnv_engine_options.instructions"));
        if (instructions > int(best) + 1) return Status(Code::unsupported, "the processor lacks these instructions");
        GNV_ASSIGN(engine->threads,
                   ThreadPool::create(engine->options.threads, instructions ? InstructionSet(instructions - 1) : best));
        return {};
    });
    if (status == GNV_OK) {
        *out = engine;
    } else {
        engine->destroy();
    }
    return status;
}

void gnv_engine_destroy(gnv_engine_t * engine) {
    if (engine) engine->destroy();
}

const char * gnv_last_error(const gnv_engine_t * engine) { return engine ? engine->last_error() : ""; }

gnv_status gnv_last_status(const gnv_engine_t * engine) { return engine ? engine->last_status() : GNV_OK; }

const char * gnv_cpu_kernels(void) { return instruction_set_name(best_instruction_set()); }

const char * gnv_text_data(const gnv_text_t * text) { return text ? text->text.c_str() : ""; }

size_t gnv_text_size(const gnv_text_t * text) { return text ? text->text.size() : 0; }

void gnv_text_destroy(gnv_text_t * text) { delete text; }
