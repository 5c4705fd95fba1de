#include "exec/nvidia_driver.h"

#include <unistd.h>

namespace gnv {

std::string find_nvidia_driver(const std::string & root) {
    static constexpr const char * traces[] = {
        "/dev/nvidiactl",
        "/dev/nvidia0",
        "/proc/driver/nvidia/version",
        "/dev/nvhost-gpu",                        // Jetson
        "/usr/lib/wsl/lib/libcuda.so.1",          // Windows' driver
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1", // the driver's library where the distributions install it
        "/usr/lib/aarch64-linux-gnu/libcuda.so.1",
        "/usr/lib64/libcuda.so.1",
    };
    for (const char * trace : traces)
        if (access((root + trace).c_str(), F_OK) == 0) return trace;
    return "";
}

} // namespace gnv
