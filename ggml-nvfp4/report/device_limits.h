// The limits of a device in work like that of a run, for comparison with its times.
#pragma once

#include "exec/backend.h"

#include <cstdint>

namespace gnv {

// 0: not measured.
struct DeviceLimits {
    double copy = 0;               // bytes per second within the device's memory, read and written together
    double upload = 0;             // bytes per second from pinned host memory
    double download = 0;           // bytes per second to it
    double product = 0;            // floating-point operations per second of `product_shape`
    int64_t product_shape[3] = {}; // rows, inputs and outputs of a linear
};

// Takes a few milliseconds, and up to `memory_bytes` of the device's memory while it runs; measures nothing if that is
// too little for a result.
Status measure_copies(Backend & device, uint64_t memory_bytes, DeviceLimits & limits);
// Repeats the product x [rows, inputs] -> [rows, outputs] of random BF16 numbers for so many seconds.
Status measure_product(Backend & device, const int64_t (&shape)[3], double seconds, DeviceLimits & limits);

} // namespace gnv
