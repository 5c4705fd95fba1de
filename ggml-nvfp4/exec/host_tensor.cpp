#include "exec/host_tensor.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cstring>

namespace gnv {

static void widen(const uint16_t * from, int64_t count, float * to) {
    for (int64_t i = 0; i < count; i++) to[i] = nvfp4::bf16_to_float(from[i]);
}

Result<HostTensor> download_tensor(Backend & device, const Tensor & tensor) {
    const uint64_t bytes = tensor_bytes(tensor.dtype, tensor.shape);
    HostTensor out;
    out.tensor.dtype = tensor.dtype;
    out.tensor.shape = tensor.shape;
    if (tensor.dtype == DType::bf16) {
        std::vector<uint16_t> narrow(bytes / sizeof(uint16_t));
        device.download(narrow.data(), tensor.data, bytes);
        GNV_TRY(device.synchronize());
        out.memory.resize(narrow.size());
        widen(narrow.data(), int64_t(narrow.size()), out.memory.data());
        out.tensor.dtype = DType::f32;
    } else {
        out.memory.resize((bytes + sizeof(float) - 1) / sizeof(float));
        device.download(out.memory.data(), tensor.data, bytes);
        GNV_TRY(device.synchronize());
    }
    out.tensor.data = out.memory.data();
    return out;
}

Status widen_to_float(DType dtype, const void * from, int64_t count, float * to, ThreadPool & threads) {
    if (dtype == DType::f32) {
        memcpy(to, from, uint64_t(count) * sizeof(float));
        return {};
    }
    GNV_CHECK(dtype == DType::bf16);
    constexpr int64_t each = 1 << 16; // memory that is touched for the first time costs more than the numbers
    return threads.parallel_for((count + each - 1) / each, [&](int64_t part) -> Status {
        const int64_t first = part * each;
        widen(static_cast<const uint16_t *>(from) + first, std::min(each, count - first), to + first);
        return {};
    });
}

} // namespace gnv
