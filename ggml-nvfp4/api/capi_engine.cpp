#include "api/handles.h"
#include "codec/nvfp4_pack.h"
#include "exec/backend.h"

#include <new>
#include <unistd.h>

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

const char * gnv_cpu_kernels(void) { return nvfp4::best_kernels().name; }

static uint64_t physical_memory() {
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? uint64_t(pages) * uint64_t(page_bytes) : 0;
}

static std::vector<Device> list_devices(gnv_engine_t & engine) {
    std::vector<Device> devices(1);
    devices[0].name = concat("CPU (", nvfp4::best_kernels().name, ")");
    devices[0].memory_bytes = physical_memory();
    Result<std::vector<Device>> cuda = cuda_devices();
    if (!cuda.ok()) {
        engine.log(GNV_LOG_WARNING, "no CUDA devices: " + cuda.status().message());
        return devices;
    }
    for (Device & device : cuda.value()) devices.push_back(std::move(device));
    return devices;
}

gnv_status gnv_device_count(gnv_engine_t * engine, int32_t * count) {
    return api::call(engine, [&]() -> Status {
        if (!count) return Status(Code::invalid_argument, "gnv_device_count: count is NULL");
        *count = int32_t(list_devices(*engine).size());
        return {};
    });
}

gnv_status gnv_device_get_info(gnv_engine_t * engine, int32_t index, gnv_device_info * out) {
    return api::call(engine, [&]() -> Status {
        const std::vector<Device> devices = list_devices(*engine);
        if (index < 0 || size_t(index) >= devices.size())
            return fail(Code::not_found, "device ", index, " does not exist: there are ", devices.size());
        const Device & device = devices[size_t(index)];
        gnv_device_info info = {};
        info.kind = device.kind == DeviceKind::cuda ? GNV_DEVICE_CUDA : GNV_DEVICE_CPU;
        info.compute_major = device.compute_major;
        info.compute_minor = device.compute_minor;
        info.memory_bytes = device.memory_bytes;
        device.name.copy(info.name, sizeof info.name - 1);
        if (!api::give_struct(info, out))
            return Status(Code::invalid_argument, "gnv_device_info.struct_size is not set");
        return {};
    });
}

const char * gnv_text_data(const gnv_text_t * text) { return text ? text->text.c_str() : ""; }

size_t gnv_text_size(const gnv_text_t * text) { return text ? text->text.size() : 0; }

void gnv_text_destroy(gnv_text_t * text) { delete text; }
