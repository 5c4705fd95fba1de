#include "api/arguments.h"
#include "api/devices.h"

#include <algorithm>
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
        engine.warn_once("no CUDA devices: " + cuda.status().message());
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

Result<api::DeviceChoice> api::choose_devices(int32_t device, const int32_t * devices, uint64_t count,
                                              const char * name) {
    constexpr uint64_t most = 1024;
    GNV_TRY(check_list(devices, count, concat(name, ".devices").c_str(), most));
    DeviceChoice choice;
    choice.first = device_opener(count > 0 ? devices[0] : device);
    for (uint64_t i = 1; i < count; i++) choice.more.push_back(device_opener(devices[i]));
    return choice;
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

// The numbers of CUDA devices that a name has: 0 for "cuda", N for "cuda:N", several for "cuda:0,2", none for "cuda:all";
// nothing for other names.
static std::optional<std::vector<uint64_t>> cuda_numbers(std::string_view name) {
    static constexpr std::string_view prefix = "cuda:";
    if (name == "cuda") return std::vector<uint64_t>{0};
    if (!starts_with(name, prefix)) return {};
    name.remove_prefix(prefix.size());
    std::vector<uint64_t> numbers;
    if (name == "all") return numbers;
    for (size_t at = 0; at <= name.size();) {
        const std::string_view digits = name.substr(at, name.find(',', at) - at);
        if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos) return {};
        numbers.push_back(UINT64_MAX); // stays if the digits overflow
        std::from_chars(digits.data(), digits.data() + digits.size(), numbers.back());
        at += digits.size() + 1;
    }
    return numbers;
}

// The devices of a name, by the numbers of the C API. `several`: the caller takes more than one.
static Result<std::vector<int32_t>> find_devices(gnv_engine_t & engine, std::string_view name,
                                                 const gnv_precision * wanted, bool several) {
    const std::optional<std::vector<uint64_t>> named = cuda_numbers(name);
    if (!named && name != "auto" && name != "cpu")
        return fail(Code::invalid_argument, printable(name), " is not a device: use auto, cpu, cuda or cuda:N",
                    several ? ", for several cuda:N,M or cuda:all" : "");
    if (name == "cpu" || (name == "auto" && wanted && *wanted == GNV_PRECISION_FP32)) return std::vector<int32_t>{0};
    const std::vector<Device> devices = api::list_devices(engine);
    const uint64_t count = devices.size() - 1;
    if (!named) return std::vector<int32_t>{count > 0 ? 1 : 0};
    if (count == 0)
        return fail(Code::not_found, name,
                    ": this machine has no CUDA device that this build can use: use auto or cpu");
    std::vector<uint64_t> numbers = *named;
    for (uint64_t all = 0; named->empty() && all < count; all++) numbers.push_back(all);
    std::vector<int32_t> found;
    for (const uint64_t number : numbers) {
        const std::string of_several = numbers.size() > 1 ? concat(": there is no cuda:", number) : "";
        if (number >= count)
            return fail(Code::not_found, name, of_several, ": this machine has CUDA devices up to cuda:", count - 1,
                        " that this build can use");
        if (std::find(found.begin(), found.end(), int32_t(number) + 1) != found.end())
            return fail(Code::invalid_argument, name, ": cuda:", number, " is named twice");
        found.push_back(int32_t(number) + 1);
    }
    return found;
}

static gnv_precision precision_on(int32_t device, const gnv_precision * wanted) {
    return wanted ? *wanted : device > 0 ? GNV_PRECISION_BF16 : GNV_PRECISION_FP32;
}

gnv_status gnv_device_find(gnv_engine_t * engine, const char * name, const gnv_precision * wanted, int32_t * device,
                           gnv_precision * precision) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({name, device}, "gnv_device_find"));
        if (wanted) GNV_TRY(api::check_number(*wanted, GNV_PRECISION_BF16, "gnv_device_find: precision"));
        GNV_ASSIGN(const std::vector<int32_t> found, find_devices(*engine, name, wanted, false));
        if (found.size() > 1)
            return fail(Code::invalid_argument, name, " names ", found.size(), " devices, and this takes one");
        *device = found.front();
        if (precision) *precision = precision_on(*device, wanted);
        return {};
    });
}

gnv_status gnv_device_find_all(gnv_engine_t * engine, const char * name, const gnv_precision * wanted,
                               int32_t * devices, uint64_t capacity, uint64_t * count, gnv_precision * precision) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({name, count}, "gnv_device_find_all"));
        if (wanted) GNV_TRY(api::check_number(*wanted, GNV_PRECISION_BF16, "gnv_device_find_all: precision"));
        GNV_TRY(api::check_list(devices, capacity, "gnv_device_find_all: devices"));
        GNV_ASSIGN(const std::vector<int32_t> found, find_devices(*engine, name, wanted, true));
        if (capacity > 0 && found.size() > capacity)
            return fail(Code::invalid_argument, name, " names ", found.size(), " devices, more than the ", capacity,
                        " that there is room for");
        if (capacity > 0) std::copy(found.begin(), found.end(), devices);
        *count = found.size();
        if (precision) *precision = precision_on(found.front(), wanted);
        return {};
    });
}
