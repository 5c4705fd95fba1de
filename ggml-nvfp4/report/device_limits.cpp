#include "report/device_limits.h"
#include "core/clock.h"

#include "codec/nvfp4.h"
#include "exec/lone_product.h"

#include <algorithm>
#include <cstring>

namespace gnv {

namespace {

// Units per second of `work`, queued a few times in a row: the best of several tries.
template <class Queued>
Status best_rate(Backend & device, double units, const Queued & work, double & rate) {
    constexpr int tries = 4, repeats = 4;
    for (int i = 0; i < tries; i++) {
        GNV_TRY(device.synchronize());
        const Clock::time_point start = Clock::now();
        for (int repeat = 0; repeat < repeats; repeat++) work();
        GNV_TRY(device.synchronize());
        rate = std::max(rate, units * repeats / seconds_since(start));
    }
    return {};
}

// Numbers like those of weights and activations, of both signs and of different magnitudes. Zeros take less power, and
// the device would compute faster.
void fill_with_numbers(uint16_t * out, uint64_t count) {
    uint32_t state = 1;
    for (uint64_t i = 0; i < count; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = uint16_t((state >> 16 & 0x8000) | (0x3c80 + (state >> 8 & 0x1ff))); // 2^-6 to 2^-2
    }
}

} // namespace

Status measure_copies(Backend & device, uint64_t memory_bytes, DeviceLimits & limits) {
    constexpr uint64_t beyond_caches = 256 << 20, enough = 64 << 20;
    const uint64_t bytes = std::min(beyond_caches, memory_bytes / 2 / device_alignment * device_alignment);
    const uint64_t host_bytes = std::min(bytes, enough);
    constexpr uint64_t least = 32 << 20; // less measures launches and caches
    if (bytes < least) return {};
    GNV_ASSIGN(const DeviceMemory from, device.allocate(bytes));
    GNV_ASSIGN(const DeviceMemory to, device.allocate(bytes));
    GNV_ASSIGN(const HostMemory host, device.allocate_host(host_bytes));
    memset(host.get(), 0, host_bytes);
    device.clear(from.get(), bytes);
    GNV_TRY(best_rate(
        device, 2 * double(bytes), [&] { device.copy(to.get(), from.get(), bytes); }, limits.copy));
    GNV_TRY(best_rate(
        device, double(host_bytes), [&] { device.upload(to.get(), host.get(), host_bytes); }, limits.upload));
    return best_rate(
        device, double(host_bytes), [&] { device.download(host.get(), to.get(), host_bytes); }, limits.download);
}

Status measure_product(Backend & device, const int64_t (&shape)[3], double seconds, DeviceLimits & limits) {
    GNV_ASSIGN(LoneProduct product, LoneProduct::create(device, shape[0], shape[1], shape[2]));
    for (const Tensor & tensor : product.inputs()) {
        const uint64_t count = uint64_t(tensor.shape.elements());
        std::vector<uint16_t> numbers(count);
        fill_with_numbers(numbers.data(), count);
        std::vector<uint8_t> bytes(tensor_bytes(tensor.dtype, tensor.shape));
        for (uint64_t i = 0; i < count && tensor.dtype == DType::f32; i++) {
            const float value = nvfp4::bf16_to_float(numbers[i]);
            memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
        }
        if (tensor.dtype == DType::bf16) memcpy(bytes.data(), numbers.data(), bytes.size());
        device.upload(tensor.data, bytes.data(), bytes.size());
        GNV_TRY(device.synchronize());
    }
    GNV_TRY(product.run()); // libraries load, an algorithm is chosen
    GNV_TRY(device.synchronize());
    const Clock::time_point start = Clock::now();
    int64_t products = 0;
    do {
        constexpr int at_a_time = 20; // few enough to end in time, many enough to hide the wait
        for (int i = 0; i < at_a_time; i++) GNV_TRY(product.run());
        GNV_TRY(device.synchronize());
        products += at_a_time;
    } while (seconds_since(start) < seconds);
    limits.product = product.flops() * double(products) / seconds_since(start);
    std::copy(std::begin(shape), std::end(shape), std::begin(limits.product_shape));
    return {};
}

} // namespace gnv
