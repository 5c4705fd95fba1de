#include "run/first_use.h"

#include "exec/lone_product.h"

namespace gnv {

static Status run_product(Backend & device, int64_t rows, int64_t columns) {
    constexpr int64_t positions = 512; // more than kernels for a few rows take
    GNV_ASSIGN(LoneProduct product, LoneProduct::create(device, positions, columns, rows));
    for (const Tensor & tensor : product.inputs()) device.clear(tensor.data, tensor_bytes(tensor.dtype, tensor.shape));
    GNV_TRY(product.run());
    return device.synchronize();
}

Status load_products(Backend & device, const std::vector<std::pair<int64_t, int64_t>> & weights) {
    Trace * const trace = device.trace();
    device.set_trace(nullptr);
    Status done;
    for (size_t i = 0; i < weights.size() && done.ok(); i++)
        done = run_product(device, weights[i].first, weights[i].second);
    device.set_trace(trace);
    return done;
}

} // namespace gnv
