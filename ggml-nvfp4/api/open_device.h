// Devices as the C API counts them.
#pragma once

#include "exec/backend.h"

namespace gnv {

// 0: the CPU, with these threads, which must outlive it; n: CUDA device n - 1.
inline Result<std::unique_ptr<Backend>> open_device(int32_t number, ThreadPool & threads) {
    if (number < 0) return fail(Code::invalid_argument, "there is no device ", number);
    if (number == 0) return open_cpu(threads);
    return open_cuda(number - 1);
}

} // namespace gnv
