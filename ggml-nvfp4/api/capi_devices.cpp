#include "api/arguments.h"
#include "api/devices.h"

#include <charconv>
#include <optional>
#include <string_view>
#include <unistd.h>

using namespace gnv;

static uint64_t physical_memory() {
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? uint64_t(pages) * uint64_t(page_bytes) : 0;
}

std::vector<Device> api::list_devices(gnv_engine_t & engine) {
    std::vector<Device> devices(1);
    devices[0].name = concat("CPU (", instruction_set_name(engine.threads->instructions()), ")");
    devices[0].memory_bytes = physical_memory();
    Result<std::vector<Device>> cuda = cuda_devices();
    if (!cuda.ok()) {
        engine.log(GNV_LOG_WARNING, "no CUDA devices: " + cuda.status().message());
        return devices;
    }
    for (Device & device : cuda.value()) devices.push_back(std::move(device));
    return devices;
}

OpenDevice api::device_opener(int32_t number) {
    return [number](ThreadPool & threads) -> Result<std::unique_ptr<Backend>> {
        if (number < 0)
            return fail(Code::invalid_argument, "device ", number,
                        " does not exist: 0 is the CPU, 1 the first CUDA device");
        if (number == 0) return open_cpu(threads);
        return open_cuda(number - 1);
    };
}

gnv_status gnv_device_count(gnv_engine_t * engine, int32_t * count) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({count}, "gnv_device_count"));
        *count = int32_t(api::list_devices(*engine).size());
        return {};
    });
}

gnv_status gnv_device_get_info(gnv_engine_t * engine, int32_t index, gnv_device_info * out) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_struct(out, "gnv_device_info"));
        const std::vector<Device> devices = api::list_devices(*engine);
        if (index < 0 || size_t(index) >= devices.size())
            return fail(Code::not_found, "device ", index, " does not exist: this machine has ", devices.size());
        const Device & device = devices[size_t(index)];
        gnv_device_info info = {};
        info.kind = device.kind == DeviceKind::cuda ? GNV_DEVICE_CUDA : GNV_DEVICE_CPU;
        info.compute_major = device.compute_major;
        info.compute_minor = device.compute_minor;
        info.memory_bytes = device.memory_bytes;
        device.name.copy(info.name, sizeof info.name - 1);
        return api::give_struct(info, out, "gnv_device_info");
    });
}

// N for "cuda:N", 0 for "cuda"; empty for other names.
static std::optional<uint64_t> cuda_number(std::string_view name) {
    static constexpr std::string_view prefix = "cuda:";
    if (name == "cuda") return 0;
    if (!starts_with(name, prefix) || name.size() == prefix.size() ||
        name.find_first_not_of("0123456789", prefix.size()) != name.npos)
        return {};
    uint64_t number = UINT64_MAX; // stays if the digits overflow
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), number);
    return number;
}

gnv_status gnv_device_find(gnv_engine_t * engine, const char * name, const gnv_precision * wanted, int32_t * device,
                           gnv_precision * precision) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({name, device}, "gnv_device_find"));
        if (wanted) GNV_TRY(api::check_number(*wanted, GNV_PRECISION_BF16, "gnv_device_find: precision"));
        const std::string_view text = name;
        const std::optional<uint64_t> named = cuda_number(text);
        const bool is_auto = text == "auto";
        if (!named && !is_auto && text != "cpu")
            return fail(Code::invalid_argument, printable(text), " is not a device: use auto, cpu, cuda or cuda:N");
        int32_t found = 0;
        if (named || (is_auto && !(wanted && *wanted == GNV_PRECISION_FP32))) {
            const uint64_t number = named.value_or(0), count = api::list_devices(*engine).size() - 1;
            if (named && count == 0)
                return fail(Code::not_found, text,
                            ": this machine has no CUDA device that this build can use: use auto or cpu");
            if (named && number >= count)
                return fail(Code::not_found, text, ": this machine has CUDA devices up to cuda:", count - 1,
                            " that this build can use");
            if (number < count) found = int32_t(number) + 1;
        }
        *device = found;
        if (precision) *precision = wanted ? *wanted : found > 0 ? GNV_PRECISION_BF16 : GNV_PRECISION_FP32;
        return {};
    });
}
