// Devices as callers of the C API number them: 0 is the CPU, n is CUDA device n - 1.
#pragma once

#include "api/handles.h"
#include "exec/backend.h"

#include <vector>

namespace gnv::api {

// Those that there are, by number. Without CUDA devices for a reason that callers should know, the reason goes to the log.
std::vector<Device> list_devices(gnv_engine_t & engine);

// Opens the device, or says that there is none, when it is needed.
OpenDevice device_opener(int32_t number);

} // namespace gnv::api
