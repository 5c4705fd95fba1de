// Stands in for cuda/ in a build without CUDA.
#include "exec/backend.h"

namespace gnv {

Result<std::vector<Device>> cuda_devices() { return std::vector<Device>(); }

Result<std::unique_ptr<Backend>> open_cuda(int index) {
    return fail(Code::unsupported, "CUDA device ", index,
                ": this library was built without CUDA (configure with -DGNV_CUDA=ON)");
}

} // namespace gnv
