// For tests that need several CUDA devices.
#pragma once

#include "exec/backend.h"

#include <doctest/doctest.h>

namespace gnv::test {

// The number of devices to use, up to `most`; 0, with a message, where there are fewer than two of one model.
inline int several_devices(int most = 4) {
    const std::vector<Device> devices = cuda_devices().take();
    int count = 0;
    while (count < most && size_t(count) < devices.size() && devices[size_t(count)].name == devices[0].name) count++;
    if (count < 2) MESSAGE("skipped: this machine has fewer than two CUDA devices of one model");
    return count < 2 ? 0 : count;
}

} // namespace gnv::test
