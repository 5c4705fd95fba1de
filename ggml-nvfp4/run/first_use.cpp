#include "run/first_use.h"

#include "exec/prepared.h"

namespace gnv {

static Status run_product(Backend & device, int64_t rows, int64_t columns) {
    constexpr int64_t positions = 512; // more than kernels for a few rows take
    const DType dtype = device.activation_dtype();
    Graph graph(Precision::bf16, dtype);
    const ValueId x = graph.input("x", dtype, {positions, columns});
    const ValueId w = graph.weight("w", DType::bf16, {rows, columns});
    graph.keep(graph.add(LinearParams{}, {x, w}, "y"));
    GNV_TRY(copy_of(graph.status()));
    GNV_ASSIGN(PreparedGraph prepared, PreparedGraph::create(device, graph));
    GNV_ASSIGN(const DeviceMemory arena, device.allocate(prepared.plan().bytes));
    prepared.bind_arena(arena.get());
    std::vector<DeviceMemory> inputs;
    for (const ValueId id : {x, w}) {
        Tensor tensor;
        tensor.dtype = graph.value(id).dtype;
        tensor.shape = graph.value(id).shape;
        const uint64_t bytes = tensor_bytes(tensor.dtype, tensor.shape);
        GNV_ASSIGN(DeviceMemory memory, device.allocate(bytes));
        device.clear(memory.get(), bytes);
        tensor.data = memory.get();
        prepared.bind(id, tensor);
        inputs.push_back(std::move(memory));
    }
    GNV_TRY(prepared.run());
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
