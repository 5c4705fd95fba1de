// Devices with the numbers of the C API: 0 is the CPU, n is CUDA device n - 1.
#pragma once

#include "api/handles.h"
#include "exec/backend.h"

#include <vector>

namespace gnv::api {

// The devices by number. If CUDA devices are absent for a reason that callers should know, the reason goes to the log.
std::vector<Device> list_devices(gnv_engine_t & engine);

// Opens the device, or fails without it, at its first use.
OpenDevice device_opener(int32_t number);

// The devices of an option structure: the list, or `device` without one. `name`: of the structure.
struct DeviceChoice {
    OpenDevice first;
    std::vector<OpenDevice> more;
};
Result<DeviceChoice> choose_devices(int32_t device, const int32_t * devices, uint64_t count, const char * name);

} // namespace gnv::api
