// Stands in for cuda/ in a build without CUDA.
#include "exec/backend.h"
#include "exec/nvidia_driver.h"

namespace gnv {

Result<std::vector<Device>> cuda_devices() {
    if (const std::string driver = find_nvidia_driver(); !driver.empty())
        return fail(Code::unsupported, "this library was built without CUDA, and this machine has NVIDIA's driver (",
                    driver, "): configure with -DGNV_CUDA=ON, or compute on the CPU");
    return std::vector<Device>();
}

Result<std::unique_ptr<Backend>> open_cuda(int index) {
    return fail(Code::unsupported, "CUDA device ", index,
                ": this library was built without CUDA (configure with -DGNV_CUDA=ON)");
}

} // namespace gnv
