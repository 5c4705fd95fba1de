// What a device's memory moves: the limit beside which kernels are measured.
#pragma once

#include "exec/backend.h"

#include <algorithm>
#include <chrono>
#include <cuda_runtime.h>
#include <doctest/doctest.h>

namespace gnv::test {

// Bytes read and written a second by a copy of 512 MiB within the device, which is beyond its caches: the best of five.
inline double copy_rate(Backend & backend) {
    constexpr size_t bytes = size_t(1) << 29;
    constexpr int repeats = 20;
    const DeviceMemory source = backend.allocate(bytes).take(), target = backend.allocate(bytes).take();
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < repeats; i++)
            REQUIRE(cudaMemcpyAsync(target.get(), source.get(), bytes, cudaMemcpyDeviceToDevice) == cudaSuccess);
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        best = std::min(best, seconds.count() / repeats);
    }
    return 2 * double(bytes) / best;
}

} // namespace gnv::test
